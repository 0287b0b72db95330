package sqs

import (
	"errors"
	"fmt"
)

// Error is an answer of the service that says what was wrong with a request.
type Error struct {
	code    code
	message string
}

func (e *Error) Error() string { return e.code.shape + ": " + e.message }

// Code is the code as the older query protocol, and so most clients, spell it.
func (e *Error) Code() string { return e.code.query() }

// code names an error twice: as the JSON protocol and as the query protocol
// spell it, which clients still compare.
type code struct {
	shape  string
	legacy string // "": the same as shape
}

func (c code) query() string {
	if c.legacy != "" {
		return c.legacy
	}
	return c.shape
}

const legacyPrefix = "AWS.SimpleQueueService."

var (
	codeQueueDoesNotExist        = code{"QueueDoesNotExist", legacyPrefix + "NonExistentQueue"}
	codeQueueNameExists          = code{"QueueNameExists", "QueueAlreadyExists"}
	codeBatchRequestTooLong      = code{"BatchRequestTooLong", legacyPrefix + "BatchRequestTooLong"}
	codeEmptyBatchRequest        = code{"EmptyBatchRequest", legacyPrefix + "EmptyBatchRequest"}
	codeTooManyEntries           = code{"TooManyEntriesInBatchRequest", legacyPrefix + "TooManyEntriesInBatchRequest"}
	codeBatchEntryIDsNotDistinct = code{"BatchEntryIdsNotDistinct", legacyPrefix + "BatchEntryIdsNotDistinct"}
	codeInvalidBatchEntryID      = code{"InvalidBatchEntryId", legacyPrefix + "InvalidBatchEntryId"}
	codeMessageNotInflight       = code{"MessageNotInflight", legacyPrefix + "MessageNotInflight"}
	codeUnsupportedOperation     = code{"UnsupportedOperation", legacyPrefix + "UnsupportedOperation"}
	codeReceiptHandleIsInvalid   = code{"ReceiptHandleIsInvalid", ""}
	codeInvalidMessageContents   = code{"InvalidMessageContents", ""}
	codeInvalidAttributeName     = code{"InvalidAttributeName", ""}
	codeInvalidAttributeValue    = code{"InvalidAttributeValue", ""}
	codeInvalidParameterValue    = code{"InvalidParameterValue", ""}
	codeMissingParameter         = code{"MissingParameter", ""}
	codeInvalidAction            = code{"InvalidAction", ""}
	codeSerialization            = code{"SerializationException", ""}
)

func newError(c code, format string, args ...any) *Error {
	return &Error{code: c, message: fmt.Sprintf(format, args...)}
}

// asError returns err as an answer; one from below the protocol means that the
// request could not be read.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return newError(codeSerialization, "%v", err)
}
