package control

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// maxParameter is the most characters of a standard parameter.
const maxParameter = 4096

type parameter struct {
	kind     string
	values   []string // every version
	modified time.Time
}

// PutParameter makes a parameter, or gives it another value.
func (s *Server) PutParameter(name, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, failure := s.putParameter(parameterRequest{Name: name, Value: value, Overwrite: true}); failure != nil {
		return failure
	}
	return nil
}

// Parameter returns a parameter's value and version, 0 if there is none.
func (s *Server) Parameter(name string) (value string, version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.parameters[name]
	if !ok {
		return "", 0
	}
	return p.values[len(p.values)-1], len(p.values)
}

type parameterRequest struct {
	Name      string
	Value     string
	Type      string
	Overwrite bool
}

// getParameter takes a name, and a version after a colon.
func (s *Server) getParameter(in parameterRequest) (any, *Error) {
	name, selector, selected := strings.Cut(in.Name, ":")
	p, ok := s.parameters[name]
	if !ok {
		return nil, newError("ParameterNotFound", "Parameter %s not found.", name)
	}
	version := len(p.values)
	if selected {
		n, err := strconv.Atoi(selector)
		if err != nil || n < 1 || n > len(p.values) {
			return nil, newError("ParameterVersionNotFound", "Systems Manager could not find version %s of %s.", selector, name)
		}
		version = n
	}
	return map[string]any{"Parameter": map[string]any{
		"Name": name, "Type": p.kind, "Value": p.values[version-1], "Version": version, "DataType": "text",
		"LastModifiedDate": epoch(p.modified),
		"ARN":              "arn:aws:ssm:" + s.config.Region + ":" + s.config.Account + ":parameter/" + name,
	}}, nil
}

func (s *Server) putParameter(in parameterRequest) (any, *Error) {
	p, ok := s.parameters[in.Name]
	switch {
	case in.Name == "" || in.Value == "":
		return nil, newError("ValidationException", "Name and Value must not be empty.")
	case len(in.Value) > maxParameter:
		return nil, newError("ValidationException", "Standard tier parameters support a maximum parameter value of %d characters.", maxParameter)
	case ok && !in.Overwrite:
		return nil, newError("ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
	case !ok:
		p = &parameter{kind: cmp.Or(in.Type, "String")}
		s.parameters[in.Name] = p
	}
	p.values, p.modified = append(p.values, in.Value), time.Now()
	return map[string]any{"Version": len(p.values), "Tier": "Standard"}, nil
}
