package control

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	tokenNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

	// Who asks is itself in a role, and chained sessions live an hour at most.
	minSession = 15 * time.Minute
	maxSession = time.Hour
)

type responseMetadata struct {
	RequestID string `xml:"RequestId"`
}

type assumeRoleResponse struct {
	XMLName  xml.Name         `xml:"AssumeRoleResponse"`
	XMLNS    string           `xml:"xmlns,attr"`
	Result   assumeRoleResult `xml:"AssumeRoleResult"`
	Metadata responseMetadata `xml:"ResponseMetadata"`
}

type assumeRoleResult struct {
	User        assumedRoleUser  `xml:"AssumedRoleUser"`
	Credentials tokenCredentials `xml:"Credentials"`
}

type assumedRoleUser struct {
	ID  string `xml:"AssumedRoleId"`
	ARN string `xml:"Arn"`
}

type tokenCredentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

type callerIdentityResponse struct {
	XMLName  xml.Name         `xml:"GetCallerIdentityResponse"`
	XMLNS    string           `xml:"xmlns,attr"`
	Result   callerIdentity   `xml:"GetCallerIdentityResult"`
	Metadata responseMetadata `xml:"ResponseMetadata"`
}

type callerIdentity struct {
	ARN     string `xml:"Arn"`
	UserID  string `xml:"UserId"`
	Account string
}

type queryError struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	Error   struct {
		Type    string
		Code    string
		Message string
	}
	RequestID string `xml:"RequestId"`
}

// serveQuery answers what is asked in the query protocol.
func (s *Server) serveQuery(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	action := r.FormValue("Action")
	act, ok := map[string]func(*http.Request) (any, *Error){
		"AssumeRole": s.assumeRole, "GetCallerIdentity": s.getCallerIdentity, "DescribeStacks": s.describeStacks,
	}[action]
	if !ok {
		writeQueryError(w, newError("InvalidAction", "Could not find operation %q", action))
		return
	}
	failure := s.fault(r, action)
	var out any
	if failure == nil {
		out, failure = act(r)
	}
	if failure != nil {
		writeQueryError(w, failure)
		return
	}
	writeXML(w, http.StatusOK, out)
}

func (s *Server) getCallerIdentity(r *http.Request) (any, *Error) {
	return callerIdentityResponse{XMLNS: tokenNamespace, Metadata: responseMetadata{uuid.NewString()}, Result: callerIdentity{
		ARN:    "arn:" + partition(s.region(r)) + ":iam::" + s.config.Account + ":root",
		UserID: s.config.Account, Account: s.config.Account,
	}}, nil
}

func (s *Server) assumeRole(r *http.Request) (any, *Error) {
	role, session := r.FormValue("RoleArn"), r.FormValue("RoleSessionName")
	life := maxSession
	if text := r.FormValue("DurationSeconds"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || time.Duration(n)*time.Second < minSession {
			return nil, newError("ValidationError", "Value '%s' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to %d", text, int(minSession.Seconds()))
		}
		life = time.Duration(n) * time.Second
	}
	switch {
	case session == "":
		return nil, newError("ValidationError", "Value at 'roleSessionName' failed to satisfy constraint: Member must not be null")
	case life > maxSession:
		return nil, newError("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	case role != s.config.Role:
		return nil, newError("AccessDenied", "User is not authorized to perform: sts:AssumeRole on resource: %s", role)
	}
	expires := time.Now().Add(life).UTC().Truncate(time.Second)
	id, secret, token := s.config.Mint(expires)
	return assumeRoleResponse{XMLNS: tokenNamespace, Metadata: responseMetadata{uuid.NewString()}, Result: assumeRoleResult{
		User: assumedRoleUser{
			ID:  "AROAEXAMPLE:" + session,
			ARN: strings.NewReplacer(":iam:", ":sts:", ":role/", ":assumed-role/").Replace(role) + "/" + session,
		},
		Credentials: tokenCredentials{
			AccessKeyID: id, SecretAccessKey: secret, SessionToken: token, Expiration: expires.Format(time.RFC3339),
		},
	}}, nil
}

func writeQueryError(w http.ResponseWriter, failure *Error) {
	status := http.StatusBadRequest
	if strings.HasPrefix(failure.Code, "AccessDenied") || strings.HasPrefix(failure.Code, "ExpiredToken") {
		status = http.StatusForbidden
	}
	out := queryError{RequestID: uuid.NewString()}
	out.Error.Type, out.Error.Code, out.Error.Message = "Sender", failure.Code, failure.Message
	writeXML(w, status, out)
}

func writeXML(w http.ResponseWriter, status int, out any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(out) // the client is gone
}
