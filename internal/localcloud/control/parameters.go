package control

import (
	"cmp"
	"time"
)

// maxParameter is the most characters of a standard parameter.
const maxParameter = 4096

type parameter struct {
	kind, value string
	version     int64
	modified    time.Time
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

type parameterRequest struct {
	Name      string
	Value     string
	Type      string
	Overwrite bool
}

func (s *Server) getParameter(in parameterRequest) (any, *Error) {
	p, ok := s.parameters[in.Name]
	if !ok {
		return nil, newError("ParameterNotFound", "Parameter %s not found.", in.Name)
	}
	return map[string]any{"Parameter": map[string]any{
		"Name": in.Name, "Type": p.kind, "Value": p.value, "Version": p.version, "DataType": "text",
		"LastModifiedDate": epoch(p.modified),
		"ARN":              "arn:aws:ssm:" + s.config.Region + ":" + s.config.Account + ":parameter/" + in.Name,
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
	p.value, p.modified = in.Value, time.Now()
	p.version++
	return map[string]any{"Version": p.version, "Tier": "Standard"}, nil
}
