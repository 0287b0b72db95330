package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/test/synth"
)

// What every role, user and resource policy allows, as reviewed: the same in
// every partition.
func TestIAM(t *testing.T) {
	ofEveryPair(t, func(_, stack, region, _ string, template synth.Template) {
		reviewed(t, stack+".iam.txt", inventory(template, region))
	})
	for stack, template := range everything(t) {
		reviewed(t, stack+"-everything.iam.txt", inventory(template, map[string]string{globalSender: "us-east-1", chinaReceiver: "cn-north-1"}[stack]))
	}
}

// everything is the templates with every setting that adds to what somebody may
// do.
func everything(t *testing.T) map[string]synth.Template {
	t.Helper()
	if withEverything == nil {
		withEverything = templates(t, map[string]any{
			"s3ferry.china.authorization": "iam", "s3ferry.china.allowedNetworks": "203.0.113.7/32",
			"s3ferry.china.deletes": true, "s3ferry.global.deletes": true,
			"s3ferry.china.tagChanges": true, "s3ferry.global.tagChanges": true,
			"s3ferry.global.encryptionKeyArn": "arn:aws:kms:us-east-1:111111111111:key/k",
			"s3ferry.china.encryptionKeyArn":  "arn:aws-cn:kms:cn-north-1:111111111111:key/k",
		})
	}
	return withEverything
}

var withEverything map[string]synth.Template

func inventory(template synth.Template, region string) string {
	return strings.ReplaceAll(template.IAM()+template.ResourcePolicies(), region, "${AWS::Region}")
}

const reasonMark = "  # "

// reviewed compares an inventory with a file of testdata, in which every line
// with a wildcard has a reason why there is no narrower form. With -update the
// lines are rewritten and the reasons of those that stay are kept.
func reviewed(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	text, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	var want strings.Builder
	reasons := map[string]string{}
	for line := range strings.Lines(string(text)) {
		statement, reason, _ := strings.Cut(strings.TrimSuffix(line, "\n"), reasonMark)
		reasons[statement] = reason
		fmt.Fprintln(&want, statement)
	}
	var out strings.Builder
	for line := range strings.Lines(got) {
		statement := strings.TrimSuffix(line, "\n")
		if reason := reasons[statement]; reason != "" {
			statement += reasonMark + reason
		}
		fmt.Fprintln(&out, statement)
	}
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("%s is (-) but should be (+); if that is meant, run the test with -update and review the change:\n%s", path, diff)
	}
	for line := range strings.Lines(got) {
		statement := strings.TrimSuffix(line, "\n")
		if wildcard := strings.Contains(statement, "*"); wildcard != (reasons[statement] != "") {
			t.Errorf("%s: %q has a wildcard: %v, a reason: %q", path, strings.TrimSpace(statement), wildcard, reasons[statement])
		}
	}
}

// With IAM, each method asks for a signature beside the API key, and the one user
// may call the methods of this API and nothing else.
func TestAuthorizationIAM(t *testing.T) {
	template := everything(t)[chinaReceiver]
	for _, m := range template.Resources("AWS::ApiGateway::Method") {
		if m.Get("AuthorizationType") != "AWS_IAM" || m.Get("ApiKeyRequired") != true {
			t.Errorf("%s: got %v, API key %v", m.ID, m.Get("AuthorizationType"), m.Get("ApiKeyRequired"))
		}
	}
	_, user, _ := strings.Cut(template.IAM(), "\nMailboxSender\n")
	for _, route := range door.Routes() {
		line := fmt.Sprintf("  Allow execute-api:Invoke on arn:${AWS::Partition}:execute-api:cn-north-1:${AWS::AccountId}:${MailboxApi}/${MailboxApiDeploymentStagev1}/%s%s\n", route.Method, route.Path)
		if !strings.Contains(user, line) {
			t.Errorf("the user may not call %s, expected %s in\n%s", route.Name, line, user)
		}
		user = strings.Replace(user, line, "", 1)
	}
	if user != "" {
		t.Errorf("the user may do more than call the mailbox:\n%s", user)
	}

	key, secret := template.Only(t, "AWS::IAM::AccessKey", ""), template.Only(t, "AWS::SecretsManager::Secret", "")
	want := `{"accessKeyId":"${` + key.ID + `}","secretAccessKey":"${` + key.ID + `.SecretAccessKey}"}`
	if got := synth.Resolve(secret.Get("SecretString")); got != want {
		t.Errorf("the secret is %v, want %s", got, want)
	}
	for name, output := range template["Outputs"].(map[string]any) {
		if strings.Contains(fmt.Sprint(output), "SecretAccessKey") {
			t.Errorf("output %s shows the access key", name)
		}
	}
}

// CloudFormation deploys what the API says only when the deployment is another
// one.
func TestAnotherAuthorizationIsDeployed(t *testing.T) {
	seen := map[string]string{}
	for name, overrides := range map[string]map[string]any{
		"apiKey": nil, "iam": {"s3ferry.china.authorization": "iam"},
		"networks": {"s3ferry.china.allowedNetworks": "203.0.113.7/32"},
		"others":   {"s3ferry.china.allowedNetworks": []any{"203.0.113.8/32", "2001:db8::/48"}},
	} {
		_, receiver := stacks(t, overrides)
		id := synth.Of(t, receiver).Only(t, "AWS::ApiGateway::Deployment", "").ID
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have one deployment: the change would not reach the stage", name, other)
		}
		seen[id] = name
	}
}

func TestAllowedNetworks(t *testing.T) {
	deny := map[string]any{
		"Effect": "Deny", "Principal": map[string]any{"AWS": "*"}, "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
		"Condition": map[string]any{"NotIpAddress": map[string]any{"aws:SourceIp": []any{"203.0.113.0/24", "198.51.100.7/32"}}},
	}
	allow := map[string]any{"Effect": "Allow", "Principal": map[string]any{"AWS": "*"}, "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
	for authorization, want := range map[string][]any{
		"apiKey": {deny, allow},
		"iam":    {deny}, // an Allow would let in every user of the account
	} {
		_, receiver := stacks(t, map[string]any{
			"s3ferry.china.authorization": authorization, "s3ferry.china.allowedNetworks": "203.0.113.0/24,198.51.100.7/32",
		})
		got := synth.Of(t, receiver).Only(t, "AWS::ApiGateway::RestApi", "").Get("Policy", "Statement")
		if diff := cmp.Diff(any(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", authorization, diff)
		}
	}
	if policy := both(t)[chinaReceiver].Only(t, "AWS::ApiGateway::RestApi", "").Get("Policy"); policy != nil {
		t.Errorf("without networks the API has a policy: %v", policy)
	}
}
