package control

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// maxSecret is the most bytes of a secret, in the service too.
const maxSecret = 64 << 10

// The staging labels that the service itself moves.
const (
	stageCurrent  = "AWSCURRENT"
	stagePrevious = "AWSPREVIOUS"
)

type secretValue struct {
	arn    string
	name   string
	stages map[string]secretVersion // by staging label
}

type secretVersion struct {
	id      string
	text    string
	created time.Time
}

// CreateSecret makes a secret that has no value yet, as a deployed stack leaves
// it, and returns its ARN.
func (s *Server) CreateSecret(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := &secretValue{
		name: name, stages: map[string]secretVersion{},
		arn: "arn:aws:secretsmanager:" + s.config.Region + ":" + s.config.Account + ":secret:" + name + "-" + uuid.NewString()[:6],
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

// Secret returns the version of a secret with a staging label, "" if there is
// none.
func (s *Server) Secret(id, stage string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, failure := s.findSecret(id)
	if failure != nil {
		return ""
	}
	return value.stages[stage].text
}

type secretRequest struct {
	SecretId      string //nolint:revive // as the protocol spells it
	SecretString  *string
	VersionStage  string
	VersionStages []string
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
	stage := cmp.Or(in.VersionStage, stageCurrent)
	version, ok := value.stages[stage]
	if !ok {
		return nil, newError("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", stage)
	}
	return map[string]any{
		"ARN": value.arn, "Name": value.name, "VersionId": version.id, "SecretString": version.text,
		"VersionStages": value.labels(version.id), "CreatedDate": epoch(version.created),
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
	version := secretVersion{id: uuid.NewString(), text: *in.SecretString, created: time.Now()}
	value.put(version, in.VersionStages)
	return map[string]any{
		"ARN": value.arn, "Name": value.name, "VersionId": version.id, "VersionStages": value.labels(version.id),
	}, nil
}

// put labels a new version, and the first one as the current one whatever the
// caller wants.
func (v *secretValue) put(version secretVersion, stages []string) {
	if len(stages) == 0 || len(v.stages) == 0 {
		stages = append(stages, stageCurrent)
	}
	for _, stage := range stages {
		if current, ok := v.stages[stageCurrent]; ok && stage == stageCurrent {
			v.stages[stagePrevious] = current
		}
		v.stages[stage] = version
	}
}

// labels returns the staging labels of a version.
func (v *secretValue) labels(id string) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for stage := range maps.Keys(v.stages) {
			if v.stages[stage].id == id && !yield(stage) {
				return
			}
		}
	})
}
