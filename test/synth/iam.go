package synth

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// IAM returns what every role and user of the template may do and who may assume
// a role, in a form for people to review: resources without the hashes of their
// logical ids, one action a line.
func (tpl Template) IAM() string {
	var b strings.Builder
	for _, role := range slices.Concat(tpl.Resources("AWS::IAM::Role"), tpl.Resources("AWS::IAM::User")) {
		fmt.Fprintf(&b, "%s\n", role.ID)
		for _, statement := range statements(role.Get("AssumeRolePolicyDocument")) {
			fmt.Fprintf(&b, "  for %s\n", compact(statement["Principal"]))
		}
		for _, arn := range list(role.Get("ManagedPolicyArns")) {
			fmt.Fprintf(&b, "  has %v\n", arn)
		}
		for _, policy := range list(role.Get("Policies")) {
			b.WriteString(grants(object(policy)["PolicyDocument"]))
		}
		for _, policy := range tpl.Resources("AWS::IAM::Policy") {
			if slices.Contains(slices.Concat(list(policy.Get("Roles")), list(policy.Get("Users"))), any("${"+role.ID+"}")) {
				b.WriteString(grants(policy.Get("PolicyDocument")))
			}
		}
	}
	return logicalHash.ReplaceAllString(b.String(), "$1$2")
}

// resourcePolicies are the types that let others in, with the properties that
// hold what of.
var resourcePolicies = map[string]struct{ resource, document string }{
	"AWS::SQS::QueuePolicy":               {"Queues", "PolicyDocument"},
	"AWS::S3::BucketPolicy":               {"Bucket", "PolicyDocument"},
	"AWS::SecretsManager::ResourcePolicy": {"SecretId", "ResourcePolicy"},
	"AWS::ApiGateway::RestApi":            {"", "Policy"},
	"AWS::KMS::Key":                       {"", "KeyPolicy"},
	"AWS::SNS::TopicPolicy":               {"Topics", "PolicyDocument"},
}

// ResourcePolicies returns what the policies of resources say, in the form of
// IAM, and who may invoke a function.
func (tpl Template) ResourcePolicies() string {
	var b strings.Builder
	for _, r := range tpl.Resources("") {
		if r.Type == "AWS::Lambda::Permission" {
			fmt.Fprintf(&b, "%s\n  Allow %v for %v on %v if source is %v\n", r.ID, r.Get("Action"), r.Get("Principal"), Resolve(r.Get("FunctionName")), Resolve(r.Get("SourceArn")))
			continue
		}
		of, ok := resourcePolicies[r.Type]
		if !ok || r.Get(of.document) == nil {
			continue
		}
		resource := "${" + r.ID + "}"
		if of.resource != "" {
			resource = fmt.Sprint(list(r.Get(of.resource))...)
		}
		fmt.Fprintf(&b, "policy of %s\n", resource)
		b.WriteString(grants(r.Get(of.document)))
	}
	return logicalHash.ReplaceAllString(b.String(), "$1$2")
}

var logicalHash = regexp.MustCompile(`(?m)(^|\$\{)([A-Za-z0-9]+)[0-9A-F]{8}\b`)

func grants(document any) string {
	var lines []string
	for _, s := range statements(document) {
		condition := ""
		if s["Principal"] != nil {
			condition = " for " + compact(s["Principal"])
		}
		if s["Condition"] != nil {
			condition += " if " + compact(s["Condition"])
		}
		for _, resource := range list(s["Resource"]) {
			for _, action := range list(s["Action"]) {
				lines = append(lines, fmt.Sprintf("  %v %v on %v%s\n", s["Effect"], action, resource, condition))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func statements(document any) []map[string]any {
	all := list(object(document)["Statement"])
	out := make([]map[string]any, len(all))
	for i := range all {
		out[i] = object(all[i])
	}
	return out
}

// object returns value as an object, or nil if it is none.
func object(value any) map[string]any {
	o, _ := value.(map[string]any)
	return o
}

// list returns value resolved as a list, which policies leave out around one.
func list(value any) []any {
	switch v := Resolve(value).(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		return []any{v}
	}
}

// compact returns value as one line of JSON with sorted keys.
func compact(value any) string {
	raw, err := json.Marshal(Resolve(value))
	if err != nil {
		panic(err) // it came from JSON
	}
	return string(raw)
}

// Environments returns the environment block of every function by logical id,
// with placeholder text for what is known at deployment only.
func (tpl Template) Environments() map[string]map[string]string {
	found := map[string]map[string]string{}
	for _, function := range tpl.Resources("AWS::Lambda::Function") {
		variables := object(Resolve(function.Get("Environment", "Variables")))
		block := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(variables)) {
			block[name] = fmt.Sprint(variables[name])
		}
		found[function.ID] = block
	}
	return found
}
