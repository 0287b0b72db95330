package control

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// maxSecret is the most bytes of a secret, in the service too.
const maxSecret = 64 << 10

type secretValue struct {
	arn     string
	name    string
	version string // "" while there is no value
	text    string
	created time.Time
}

// CreateSecret makes a secret that has no value yet, as a deployed stack leaves
// it, and returns its ARN.
func (s *Server) CreateSecret(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := &secretValue{
		name: name,
		arn:  "arn:aws:secretsmanager:" + s.config.Region + ":" + s.config.Account + ":secret:" + name + "-" + uuid.NewString()[:6],
	}
	s.secrets[name] = value
	return value.arn
}

// PutSecret gives a secret that exists a value.
func (s *Server) PutSecret(id, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, failure := s.putSecretValue(secretRequest{SecretId: id, SecretString: &text}); failure != nil {
		return failure
	}
	return nil
}

type secretRequest struct {
	SecretId     string //nolint:revive // as the protocol spells it
	SecretString *string
	VersionStage string
}

// findSecret takes a name, an ARN, or an ARN without the random end.
func (s *Server) findSecret(id string) (*secretValue, *Error) {
	for name, value := range s.secrets {
		if id == name || id == value.arn || id == value.arn[:strings.LastIndexByte(value.arn, '-')] {
			return value, nil
		}
	}
	return nil, newError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

func (s *Server) getSecretValue(in secretRequest) (any, *Error) {
	value, failure := s.findSecret(in.SecretId)
	if failure != nil {
		return nil, failure
	}
	stage := "AWSCURRENT"
	if in.VersionStage != "" {
		stage = in.VersionStage
	}
	if value.version == "" || stage != "AWSCURRENT" {
		return nil, newError("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", stage)
	}
	return map[string]any{
		"ARN": value.arn, "Name": value.name, "VersionId": value.version, "SecretString": value.text,
		"VersionStages": []string{"AWSCURRENT"}, "CreatedDate": epoch(value.created),
	}, nil
}

func (s *Server) putSecretValue(in secretRequest) (any, *Error) {
	value, failure := s.findSecret(in.SecretId)
	if failure != nil {
		return nil, failure
	}
	if in.SecretString == nil {
		return nil, newError("InvalidRequestException", "You must provide SecretString; binary secrets are not supported here.")
	}
	if len(*in.SecretString) > maxSecret {
		return nil, newError("ValidationException", "The secret value is longer than %d bytes.", maxSecret)
	}
	value.version, value.text, value.created = uuid.NewString(), *in.SecretString, time.Now()
	return map[string]any{
		"ARN": value.arn, "Name": value.name, "VersionId": value.version, "VersionStages": []string{"AWSCURRENT"},
	}, nil
}
