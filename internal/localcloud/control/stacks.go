package control

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

const stackNamespace = "http://cloudformation.amazonaws.com/doc/2010-05-15/"

// Stack is a deployed stack, as far as its outputs go.
type Stack struct {
	Region  string
	Name    string
	Status  string // "CREATE_COMPLETE", say
	Outputs map[string]string
}

// PutStack makes a stack, or changes it.
func (s *Server) PutStack(stack Stack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stacks[stack.Region+"/"+stack.Name] = stack
}

type describeStacksResponse struct {
	XMLName  xml.Name         `xml:"DescribeStacksResponse"`
	XMLNS    string           `xml:"xmlns,attr"`
	Stacks   []stackMember    `xml:"DescribeStacksResult>Stacks>member"`
	Metadata responseMetadata `xml:"ResponseMetadata"`
}

type stackMember struct {
	StackID      string `xml:"StackId"`
	StackName    string
	StackStatus  string
	CreationTime string
	Outputs      []stackOutput `xml:"Outputs>member"`
}

type stackOutput struct{ OutputKey, OutputValue string }

func (s *Server) describeStacks(r *http.Request) (any, *Error) {
	name, region := r.FormValue("StackName"), s.region(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	stack, ok := s.stacks[region+"/"+name]
	if !ok {
		return nil, newError("ValidationError", "Stack with id %s does not exist", name)
	}
	member := stackMember{
		StackID:   fmt.Sprintf("arn:%s:cloudformation:%s:%s:stack/%s/%s", partition(region), region, s.config.Account, name, uuid.Nil),
		StackName: name, StackStatus: stack.Status, CreationTime: time.Now().UTC().Format(time.RFC3339),
	}
	for _, key := range slices.Sorted(maps.Keys(stack.Outputs)) {
		member.Outputs = append(member.Outputs, stackOutput{key, stack.Outputs[key]})
	}
	return describeStacksResponse{XMLNS: stackNamespace, Stacks: []stackMember{member}, Metadata: responseMetadata{uuid.NewString()}}, nil
}

// region returns the region that r was signed for.
func (s *Server) region(r *http.Request) string {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if fields := strings.Split(scope, "/"); len(fields) > 2 {
		return fields[2]
	}
	return s.config.Region
}

// partition returns the partition that a region is of.
func partition(region string) string {
	for prefix, name := range map[string]string{"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"} {
		if strings.HasPrefix(region, prefix) {
			return name
		}
	}
	return "aws"
}
