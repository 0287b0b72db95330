package sqs

import (
	"encoding/json"
	"strconv"
	"time"
)

// settings are the attributes of a queue that a caller may set.
type settings struct {
	visibility, delay, wait, retention time.Duration

	redrive *redrivePolicy // nil: none
}

type redrivePolicy struct {
	DeadLetterTargetARN string
	MaxReceiveCount     int
}

var defaults = settings{visibility: 30 * time.Second, retention: 4 * 24 * time.Hour}

// set applies attributes, all of them or none.
func (s *settings) set(attributes map[string]string) error {
	next := *s
	for name, value := range attributes {
		var err error
		switch name {
		case "VisibilityTimeout":
			err = seconds(&next.visibility, name, value, 0, 12*60*60)
		case "DelaySeconds":
			err = seconds(&next.delay, name, value, 0, 15*60)
		case "ReceiveMessageWaitTimeSeconds":
			err = seconds(&next.wait, name, value, 0, 20)
		case "MessageRetentionPeriod":
			err = seconds(&next.retention, name, value, 60, 14*24*60*60)
		case "RedrivePolicy":
			next.redrive, err = parseRedrive(value)
		case "Policy", "SqsManagedSseEnabled", "RedriveAllowPolicy":
			// Nobody to keep out, and no disk to encrypt.
		default:
			err = newError(codeInvalidAttributeName, "Unknown Attribute %s.", name)
		}
		if err != nil {
			return err
		}
	}
	*s = next
	return nil
}

func (s settings) attributes() map[string]string {
	out := map[string]string{
		"VisibilityTimeout":             wholeSeconds(s.visibility),
		"DelaySeconds":                  wholeSeconds(s.delay),
		"ReceiveMessageWaitTimeSeconds": wholeSeconds(s.wait),
		"MessageRetentionPeriod":        wholeSeconds(s.retention),
		"MaximumMessageSize":            strconv.Itoa(MaxBytes),
	}
	if s.redrive != nil {
		policy, _ := json.Marshal(map[string]any{ // strings and numbers always encode
			"deadLetterTargetArn": s.redrive.DeadLetterTargetARN, "maxReceiveCount": s.redrive.MaxReceiveCount,
		})
		out["RedrivePolicy"] = string(policy)
	}
	return out
}

func seconds(d *time.Duration, name, value string, low, high int) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		return newError(codeInvalidAttributeValue, "Invalid value for the parameter %s: got %q, expected %d to %d.", name, value, low, high)
	}
	*d = time.Duration(n) * time.Second
	return nil
}

// parseRedrive reads the policy, whose count comes as a number or a string. ""
// takes the policy away.
func parseRedrive(value string) (*redrivePolicy, error) {
	if value == "" {
		return nil, nil
	}
	var in struct {
		DeadLetterTargetARN string          `json:"deadLetterTargetArn"`
		MaxReceiveCount     json.RawMessage `json:"maxReceiveCount"`
	}
	bad := newError(codeInvalidParameterValue, "Value %s for parameter RedrivePolicy is invalid. Reason: expected deadLetterTargetArn and maxReceiveCount of 1 to 1000.", value)
	if json.Unmarshal([]byte(value), &in) != nil || in.DeadLetterTargetARN == "" {
		return nil, bad
	}
	var text string
	if json.Unmarshal(in.MaxReceiveCount, &text) != nil {
		text = string(in.MaxReceiveCount)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1000 {
		return nil, bad
	}
	return &redrivePolicy{DeadLetterTargetARN: in.DeadLetterTargetARN, MaxReceiveCount: n}, nil
}

func wholeSeconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
