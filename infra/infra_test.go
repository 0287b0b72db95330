package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/door"
	"github.com/s3ferry/s3ferry/test/synth"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestMain(m *testing.M) { synth.Main(m) }

// stacks builds the app with the repository's cdk.json and these overrides.
func stacks(t *testing.T, overrides map[string]any) (sender, receiver awscdk.Stack) {
	t.Helper()
	context := synth.Context(t, "..", overrides)
	cfg, err := readConfig(context)
	if err != nil {
		t.Fatal(err)
	}
	delete(context, contextKey) // jsii mangles nested values that come from Go
	synth.Safely(t, func() {
		sender, receiver = build(awscdk.NewApp(&awscdk.AppProps{Context: &context}), cfg)
	})
	return sender, receiver
}

// both synthesizes the stacks with their defaults, once for all tests.
func both(t *testing.T) map[string]synth.Template {
	t.Helper()
	if defaults == nil {
		defaults = templates(t, nil)
	}
	return defaults
}

var defaults map[string]synth.Template

// templates synthesizes the stacks with these overrides.
func templates(t *testing.T, overrides map[string]any) map[string]synth.Template {
	t.Helper()
	sender, receiver := stacks(t, overrides)
	return map[string]synth.Template{globalSender: synth.Of(t, sender), chinaReceiver: synth.Of(t, receiver)}
}

// What the design forbids, and what would add things to an account that nobody
// asked for.
func TestNoTemplateHasForeignResources(t *testing.T) {
	for name, template := range both(t) {
		for _, r := range template.Resources("") {
			if r.Type == "AWS::ApiGateway::Account" || strings.HasPrefix(r.Type, "Custom::") || r.Type == "AWS::CDK::Metadata" {
				t.Errorf("%s has a %s: %s", name, r.Type, r.ID)
			}
			_, kind, _ := strings.Cut(strings.TrimPrefix(r.Type, "AWS::"), "::")
			if r.Get(kind+"Name") != nil && kind != "Stage" && kind != "Policy" {
				t.Errorf("%s: %s has a physical name, so it cannot be replaced or deployed twice", name, r.ID)
			}
		}
		if text := template.Text(t); strings.Contains(text, "S3FERRY_TEST_") {
			t.Errorf("%s sets a test-only variable", name)
		}
	}
}

func TestEventSourceMappings(t *testing.T) {
	for name, template := range both(t) {
		mappings := template.Resources("AWS::Lambda::EventSourceMapping")
		if len(mappings) != 1 {
			t.Fatalf("%s has %d event source mappings, want 1", name, len(mappings))
		}
		m := mappings[0]
		if tags := m.Get("Tags"); tags != nil {
			t.Errorf("%s: the event source mapping has tags, which aws-cn refuses: %v", name, tags)
		}
		if got := m.Get("FunctionResponseTypes", 0); got != "ReportBatchItemFailures" {
			t.Errorf("%s: FunctionResponseTypes is %v", name, got)
		}
		if got := m.Get("BatchSize"); got != 10.0 {
			t.Errorf("%s: BatchSize is %v, want 10", name, got)
		}
		if got := m.Get("ScalingConfig", "MaximumConcurrency"); got != 10.0 {
			t.Errorf("%s: MaximumConcurrency is %v, want 10", name, got)
		}
	}
}

func TestQueues(t *testing.T) {
	want := map[string]struct {
		visibility, receives float64
		deadLetters          bool
	}{
		"SenderOutbox":            {360, 1000, true},
		"SenderOutboxDeadLetters": {60, 0, false},
		"MailboxInbox":            {5400, 20, true},
		"MailboxInboxDeadLetters": {60, 0, false},
		"MailboxReceipts":         {120, 0, false},
	}
	seen := 0
	for _, template := range both(t) {
		tlsOnly := map[string]bool{}
		for _, policy := range template.Resources("AWS::SQS::QueuePolicy") {
			if deniesPlainHTTP(policy) {
				tlsOnly[fmt.Sprint(synth.Resolve(policy.Get("Queues", 0)))] = true
			}
		}
		for _, q := range template.Resources("AWS::SQS::Queue") {
			name := q.ID[:len(q.ID)-8] // without CDK's hash
			w, ok := want[name]
			if !ok {
				t.Errorf("unexpected queue %s", name)
				continue
			}
			seen++
			if got := q.Get("VisibilityTimeout"); got != w.visibility {
				t.Errorf("%s: VisibilityTimeout is %v, want %v", name, got, w.visibility)
			}
			if got := q.Get("MessageRetentionPeriod"); got != 14*24*3600.0 {
				t.Errorf("%s: MessageRetentionPeriod is %v, want 14 days", name, got)
			}
			if q.Get("SqsManagedSseEnabled") != true {
				t.Errorf("%s is not encrypted", name)
			}
			if !tlsOnly["${"+q.ID+"}"] {
				t.Errorf("%s takes plain HTTP", name)
			}
			if !w.deadLetters {
				continue
			}
			if got := q.Get("RedrivePolicy", "maxReceiveCount"); got != w.receives {
				t.Errorf("%s: maxReceiveCount is %v, want %v", name, got, w.receives)
			}
			if got := fmt.Sprint(synth.Resolve(q.Get("RedrivePolicy", "deadLetterTargetArn"))); !strings.HasPrefix(got, "${"+name+"DeadLetters") {
				t.Errorf("%s: its dead letters go to %s", name, got)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d queues, want %d", seen, len(want))
	}
}

func TestBuckets(t *testing.T) {
	for name, template := range both(t) {
		tlsOnly := map[string]bool{}
		for _, policy := range template.Resources("AWS::S3::BucketPolicy") {
			if deniesPlainHTTP(policy) {
				tlsOnly[fmt.Sprint(synth.Resolve(policy.Get("Bucket")))] = true
			}
		}
		for _, b := range template.Resources("AWS::S3::Bucket") {
			if b.Get("BucketEncryption") == nil {
				t.Errorf("%s: %s is not encrypted", name, b.ID)
			}
			if !tlsOnly["${"+b.ID+"}"] {
				t.Errorf("%s: %s takes plain HTTP", name, b.ID)
			}
			for _, block := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
				if b.Get("PublicAccessBlockConfiguration", block) != true {
					t.Errorf("%s: %s does not have %s", name, b.ID, block)
				}
			}
			if got, want := b.Get("VersioningConfiguration", "Status") == "Enabled", !strings.Contains(b.ID, "Journal"); got != want {
				t.Errorf("%s: %s is versioned: %v, want %v", name, b.ID, got, want)
			}
		}
	}
}

func TestLifecycles(t *testing.T) {
	want := map[string][]any{
		"SenderSourceBucket":        {map[string]any{"Id": "AbortIncompleteUploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": map[string]any{"DaysAfterInitiation": 14.0}}},
		"ReceiverDestinationBucket": {map[string]any{"Id": "AbortIncompleteUploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": map[string]any{"DaysAfterInitiation": 14.0}}},
		"ReceiverJournalBucket": {
			map[string]any{"Id": "AbortIncompleteUploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": map[string]any{"DaysAfterInitiation": 7.0}},
			map[string]any{"Id": "ExpireUploads", "Status": "Enabled", "Prefix": "uploads/", "ExpirationInDays": 30.0},
			map[string]any{"Id": "ExpireNewest", "Status": "Enabled", "Prefix": "newest/", "ExpirationInDays": 90.0},
			map[string]any{"Id": "ExpireTags", "Status": "Enabled", "Prefix": "tags/", "ExpirationInDays": 90.0},
		},
	}
	for _, template := range both(t) {
		for _, b := range template.Resources("AWS::S3::Bucket") {
			name := b.ID[:len(b.ID)-8]
			if diff := cmp.Diff(any(want[name]), b.Get("LifecycleConfiguration", "Rules")); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

// deniesPlainHTTP reports whether a resource policy refuses everybody everything
// without TLS.
func deniesPlainHTTP(policy synth.Resource) bool {
	statements, _ := policy.Get("PolicyDocument", "Statement").([]any)
	return slices.ContainsFunc(statements, func(s any) bool {
		statement := s.(map[string]any)
		return statement["Effect"] == "Deny" &&
			(statement["Action"] == "sqs:*" || statement["Action"] == "s3:*") &&
			cmp.Equal(statement["Principal"], map[string]any{"AWS": "*"}) &&
			cmp.Equal(statement["Condition"], map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}})
	})
}

func TestFunctions(t *testing.T) {
	want := map[string]struct {
		memory, timeout float64
		architecture    string
	}{
		"SenderSenderFunction":  {512, 60, "arm64"},
		"SenderCourierFunction": {256, 70, "arm64"},
		"ReceiverFunction":      {2048, 900, "x86_64"},
	}
	seen := 0
	for _, template := range both(t) {
		for _, f := range template.Resources("AWS::Lambda::Function") {
			seen++
			w := want[f.ID[:len(f.ID)-8]]
			if got := f.Get("MemorySize"); got != w.memory {
				t.Errorf("%s: MemorySize is %v, want %v", f.ID, got, w.memory)
			}
			if got := f.Get("Timeout"); got != w.timeout {
				t.Errorf("%s: Timeout is %v, want %v", f.ID, got, w.timeout)
			}
			if got := f.Get("Architectures", 0); got != w.architecture {
				t.Errorf("%s: architecture is %v, want %v", f.ID, got, w.architecture)
			}
			if got := f.Get("Runtime"); got != "provided.al2023" {
				t.Errorf("%s: Runtime is %v", f.ID, got)
			}
			if f.Get("LoggingConfig", "LogGroup") == nil || f.Get("LoggingConfig", "LogFormat") != "JSON" {
				t.Errorf("%s: LoggingConfig is %v, want a log group of its own and JSON", f.ID, f.Get("LoggingConfig"))
			}
			if got, want := f.Get("RecursiveLoop") == "Allow", f.ID[:8] == "Receiver"; got != want {
				t.Errorf("%s: may call itself through a queue: %v, want %v", f.ID, got, want)
			}
			for _, property := range []string{"TracingConfig", "CodeSigningConfigArn", "Layers"} {
				if f.Get(property) != nil {
					t.Errorf("%s has %s, which aws-cn lacks", f.ID, property)
				}
			}
		}
		for _, logs := range template.Resources("AWS::Logs::LogGroup") {
			if logs.Get("RetentionInDays") == nil {
				t.Errorf("%s keeps its logs forever", logs.ID)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d functions, want %d", seen, len(want))
	}
}

func TestMailboxAPI(t *testing.T) {
	template := both(t)["ChinaReceiver"]
	api := template.Only(t, "AWS::ApiGateway::RestApi", "")
	if got := api.Get("EndpointConfiguration", "Types"); !cmp.Equal(got, []any{"REGIONAL"}) {
		t.Errorf("the endpoint is %v, want REGIONAL", got)
	}
	if got := template.Only(t, "AWS::ApiGateway::Stage", "").Get("StageName"); got != "v1" {
		t.Errorf("the stage is %v, want v1", got)
	}

	resources := map[string]string{"${" + api.ID + ".RootResourceId}": ""}
	for range 3 { // parents come in any order
		for _, r := range template.Resources("AWS::ApiGateway::Resource") {
			if parent, ok := resources[fmt.Sprint(synth.Resolve(r.Get("ParentId")))]; ok {
				resources["${"+r.ID+"}"] = parent + "/" + r.Get("PathPart").(string)
			}
		}
	}
	models := map[string]synth.Resource{}
	for _, m := range template.Resources("AWS::ApiGateway::Model") {
		models["${"+m.ID+"}"] = m
	}
	methods := template.Resources("AWS::ApiGateway::Method")
	if len(methods) != len(door.Routes()) {
		t.Errorf("%d methods, want %d", len(methods), len(door.Routes()))
	}
	for _, m := range methods {
		path := resources[fmt.Sprint(synth.Resolve(m.Get("ResourceId")))]
		at := slices.IndexFunc(door.Routes(), func(r door.Route) bool {
			return r.Path == path && r.Method == m.Get("HttpMethod")
		})
		if at < 0 {
			t.Errorf("%v %s is no route of the mailbox", m.Get("HttpMethod"), path)
			continue
		}
		route := door.Routes()[at]
		checkMethod(t, route, m, models)
	}
}

func checkMethod(t *testing.T, route door.Route, m synth.Resource, models map[string]synth.Resource) {
	t.Helper()
	if m.Get("ApiKeyRequired") != true {
		t.Errorf("%s does not demand the API key", route.Name)
	}
	if m.Get("RequestValidatorId") == nil {
		t.Errorf("%s does not validate its body", route.Name)
	}
	model := models[fmt.Sprint(synth.Resolve(m.Get("RequestModels", "application/json")))]
	if got, want := jsonOf(t, model.Get("Schema")), jsonOf(t, route.Model()); (route.Model() != nil || model.ID != "") && got != want {
		t.Errorf("%s: the model is %s, want %s", route.Name, got, want)
	}
	queue := map[door.Queue]string{door.Inbox: "MailboxInbox9799A954", door.Receipts: "MailboxReceipts4828920B"}[route.Queue]
	integration := synth.Resolve(m.Get("Integration")).(map[string]any)
	credentials := integration["Credentials"]
	delete(integration, "Credentials")
	want := map[string]any{
		"Type":                  "AWS",
		"IntegrationHttpMethod": "POST",
		"PassthroughBehavior":   "NEVER",
		"Uri":                   "arn:${AWS::Partition}:apigateway:cn-north-1:sqs:path/${AWS::AccountId}/${" + queue + ".QueueName}",
		"RequestParameters": map[string]any{
			"integration.request.header.Content-Type": "'application/x-amz-json-1.0'",
			"integration.request.header.X-Amz-Target": "'AmazonSQS." + route.Action + "'",
		},
		"RequestTemplates": map[string]any{"application/json": route.Template("${" + queue + "}")},
		"IntegrationResponses": []any{
			map[string]any{"StatusCode": "200", "SelectionPattern": "200"},
			map[string]any{"StatusCode": "503", "SelectionPattern": `4\d{2}`, "ResponseTemplates": map[string]any{"application/json": `{"message":"mailbox unavailable"}`}},
			map[string]any{"StatusCode": "503", "SelectionPattern": `5\d{2}`, "ResponseTemplates": map[string]any{"application/json": `{"message":"mailbox unavailable"}`}},
		},
	}
	if diff := cmp.Diff(want, integration); diff != "" {
		t.Errorf("%s: the integration is (+) but should be (-):\n%s", route.Name, diff)
	}
	if !strings.HasPrefix(fmt.Sprint(credentials), "${MailboxApiRole") {
		t.Errorf("%s calls SQS as %v", route.Name, credentials)
	}
}

func TestUsagePlan(t *testing.T) {
	for name, tc := range map[string]struct {
		overrides map[string]any
		throttle  map[string]any
		quota     any
	}{
		"default": {nil, map[string]any{"RateLimit": float64(door.DefaultRate), "BurstLimit": float64(door.DefaultBurst)}, nil},
		"given": {
			map[string]any{"s3ferry.china.rate": "7", "s3ferry.china.burst": "9", "s3ferry.china.quota": "1000000", "s3ferry.china.quotaPeriod": "WEEK"},
			map[string]any{"RateLimit": 7.0, "BurstLimit": 9.0},
			map[string]any{"Limit": 1000000.0, "Period": "WEEK"},
		},
	} {
		_, receiver := stacks(t, tc.overrides)
		template := synth.Of(t, receiver)
		plan := template.Only(t, "AWS::ApiGateway::UsagePlan", "")
		if diff := cmp.Diff(any(tc.throttle), plan.Get("Throttle")); diff != "" {
			t.Errorf("%s: throttle: %s", name, diff)
		}
		if diff := cmp.Diff(tc.quota, plan.Get("Quota")); diff != "" {
			t.Errorf("%s: quota: %s", name, diff)
		}
		key, link := template.Only(t, "AWS::ApiGateway::ApiKey", ""), template.Only(t, "AWS::ApiGateway::UsagePlanKey", "")
		if key.Get("Value") != nil {
			t.Errorf("%s: the value of the API key is in the template", name)
		}
		want := map[string]any{"KeyId": "${" + key.ID + "}", "KeyType": "API_KEY", "UsagePlanId": "${" + plan.ID + "}"}
		if diff := cmp.Diff(want, synth.Resolve(link.Properties)); diff != "" {
			t.Errorf("%s: key and plan: %s", name, diff)
		}
	}
}

func TestSecretsAreNotInTemplates(t *testing.T) {
	secret := both(t)["GlobalSender"].Only(t, "AWS::SecretsManager::Secret", "")
	if secret.Get("SecretString") != nil || secret.Get("GenerateSecretString") != nil {
		t.Error("the link secret has a value, which a deployment would put in place of the operator's")
	}
	trust := both(t)["ChinaReceiver"].Only(t, "AWS::SSM::Parameter", "")
	if got, want := trust.Get("Value"), `{"keys":[],"sources":[]}`; got != want {
		t.Errorf("the trust parameter starts as %v, want %s: a deployment would overwrite every operator's", got, want)
	}
}

func TestOutputs(t *testing.T) {
	want := map[string][]string{
		"GlobalSender": {"CourierLogGroupName", "LinkSecretArn", "OutboxDeadLetterQueueUrl", "OutboxUrl", "SenderName", "SenderVersion", "SourceBucketName", "SourceBucketRegion", "SourceEvents"},
		"ChinaReceiver": {
			"DestinationBucketName", "DestinationBucketRegion", "InboxDeadLetterQueueUrl", "InboxUrl",
			"MailboxApiKeyId", "MailboxUrl", "ReceiptsUrl", "ReceiverVersion", "TrustParameterName",
		},
	}
	for name, template := range both(t) {
		outputs := template["Outputs"].(map[string]any)
		for _, output := range want[name] {
			if outputs[output] == nil {
				t.Errorf("%s has no output %s", name, output)
			}
		}
	}
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
