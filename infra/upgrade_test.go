package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/test/synth"
)

// stateful are the resources that hold what an upgrade must not lose, by
// logical id: CloudFormation replaces a resource whose id changes. This list is
// written by hand. Never change a line of it; add one for a new resource.
var stateful = map[string]map[string]string{
	globalSender: {
		"SenderLinkSecretC69085DF":        "AWS::SecretsManager::Secret",
		"SenderOutbox51F53722":            "AWS::SQS::Queue",
		"SenderOutboxDeadLettersD0121DDE": "AWS::SQS::Queue",
		"SenderSourceBucketA790F850":      "AWS::S3::Bucket",
		"SenderPace8FEC1354":              "AWS::SSM::Parameter",
		"SenderSignerRole0E8920A4":        "AWS::IAM::Role", // whose credentials sign URLs that are on their way
	},
	chinaReceiver: {
		"MailboxApi5CDA3C0F":                  "AWS::ApiGateway::RestApi", // its id is in the link secret
		"MailboxApiDeploymentStagev197ECA3D9": "AWS::ApiGateway::Stage",
		"MailboxApiKeyCEA2FB1A":               "AWS::ApiGateway::ApiKey", // its value too
		"MailboxUsagePlan1F934D66":            "AWS::ApiGateway::UsagePlan",
		"MailboxUsagePlanKeyD3F7F5A6":         "AWS::ApiGateway::UsagePlanKey",
		"MailboxInbox9799A954":                "AWS::SQS::Queue",
		"MailboxInboxDeadLettersAA2BDA61":     "AWS::SQS::Queue",
		"MailboxReceipts4828920B":             "AWS::SQS::Queue",
		"ReceiverDestinationBucket8FF07B34":   "AWS::S3::Bucket",
		"ReceiverJournalBucketA121B10A":       "AWS::S3::Bucket",
		"ReceiverTrust60A88762":               "AWS::SSM::Parameter",
	},
}

// statefulTypes are the types of which every resource is in the list.
var statefulTypes = []string{
	"AWS::SecretsManager::Secret", "AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::SSM::Parameter",
	"AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage", "AWS::ApiGateway::ApiKey", "AWS::ApiGateway::UsagePlan", "AWS::ApiGateway::UsagePlanKey",
}

func TestUpgradesReplaceNothingStateful(t *testing.T) {
	ofEveryPair(t, func(pair, stack, _, _ string, template synth.Template) {
		got := map[string]string{}
		for _, r := range template.Resources("") {
			if slices.Contains(statefulTypes, r.Type) || stateful[stack][r.ID] != "" {
				got[r.ID] = r.Type
			}
		}
		if diff := cmp.Diff(stateful[stack], got); diff != "" {
			t.Errorf("%s: an upgrade of %s loses (-) what has state:\n%s", pair, stack, diff)
		}
	})
}

// The same id still means another resource where a property changes that
// CloudFormation cannot change in place.
func TestStatefulResourcesHaveNoPropertyThatReplacesThem(t *testing.T) {
	fixed := map[string][]string{ // update requires: replacement
		"AWS::SecretsManager::Secret":   {"Name"},
		"AWS::SQS::Queue":               {"QueueName", "FifoQueue"},
		"AWS::S3::Bucket":               {"BucketName", "BucketNamePrefix", "BucketNamespace", "ObjectLockEnabled"},
		"AWS::SSM::Parameter":           {"Name"},
		"AWS::ApiGateway::ApiKey":       {"Name", "Value", "GenerateDistinctId"},
		"AWS::ApiGateway::UsagePlanKey": nil, // all of it, and all of it refers to the resources here
		"AWS::IAM::Role":                {"RoleName", "Path"},
	}
	for stack, template := range both(t) {
		for _, r := range template.Resources("") {
			for _, property := range fixed[r.Type] {
				if got := r.Get(property); got != nil {
					t.Errorf("%s: %s has %s %v: whoever changes it loses the resource", stack, r.ID, property, got)
				}
			}
		}
	}
	if got := both(t)[chinaReceiver].Only(t, "AWS::ApiGateway::Stage", "").Get("StageName"); got != "v1" {
		t.Errorf("the stage is %v: its name is in the mailbox's address, which is in link secrets", got)
	}
}

// kept are the resources that outlive their stack. Everything else goes with it.
var kept = map[string][]string{
	globalSender:  {"SenderSourceBucketA790F850"},
	chinaReceiver: {"ReceiverDestinationBucket8FF07B34", "ReceiverJournalBucketA121B10A"},
}

func TestRemovalKeepsTheBucketsOnly(t *testing.T) {
	for stack, template := range both(t) {
		var got []string
		for _, r := range template.Resources("") {
			if policy := r.Attributes["DeletionPolicy"]; policy != nil && policy != "Delete" {
				got = append(got, r.ID)
			}
		}
		if diff := cmp.Diff(kept[stack], got); diff != "" {
			t.Errorf("%s keeps: %s", stack, diff)
		}
	}
	secret := both(t)[globalSender].Only(t, "AWS::SecretsManager::Secret", "")
	if secret.Attributes["UpdateReplacePolicy"] != "Retain" {
		t.Error("an update may take the link secret away")
	}
}

// docs/compatibility.md promises logical ids, and docs/deploying.md says what a
// removal keeps: both are held against the lists above.
func TestDocsSayWhatIsKept(t *testing.T) {
	compatibility, deploying := read(t, "../docs/compatibility.md"), read(t, "../docs/deploying.md")
	promised := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `(AWS::[\\w:]+)` \\|").FindAllStringSubmatch(compatibility, -1)
	got := map[string]string{}
	for _, p := range promised {
		got[p[1]] = p[2]
	}
	all := map[string]string{}
	for _, resources := range stateful {
		maps.Copy(all, resources)
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("docs/compatibility.md promises (+) but should promise (-):\n%s", diff)
	}
	for stack, ids := range kept {
		for _, id := range ids {
			if !strings.Contains(deploying, "`"+id+"`") {
				t.Errorf("docs/deploying.md does not say that %s keeps %s", stack, id)
			}
		}
	}
	days := 0.0
	for _, bucket := range both(t)[chinaReceiver].Resources("AWS::S3::Bucket") {
		rules, _ := bucket.Get("LifecycleConfiguration", "Rules").([]any)
		for _, rule := range rules {
			if n, ok := rule.(map[string]any)["ExpirationInDays"].(float64); ok && strings.Contains(bucket.ID, "Journal") {
				days = max(days, n)
			}
		}
	}
	if want := fmt.Sprintf("what else is in it expires within %.0f days", days); !strings.Contains(deploying, want) {
		t.Errorf("docs/deploying.md does not say of the journal bucket: %s", want)
	}
}

func TestDocsListEveryOutput(t *testing.T) {
	documented := regexp.MustCompile("(?m)^\\| (\\w+) \\| `(\\w+)` \\|").FindAllStringSubmatch(read(t, "../docs/compatibility.md"), -1)
	var got, want []string
	for _, d := range documented {
		got = append(got, d[1]+"."+d[2])
	}
	for stack, template := range everything(t) {
		for output := range template["Outputs"].(map[string]any) {
			want = append(want, stack+"."+output)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/compatibility.md lists outputs (+) but there are (-):\n%s", diff)
	}
}

// Every setting is in the table of docs/configuration.md as it is in the code.
func TestDocsListEverySetting(t *testing.T) {
	var got, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([\\w.]+)` \\|[^|]*\\|([^|]*)\\|([^|]*)\\|").FindAllStringSubmatch(read(t, "../docs/configuration.md"), -1) {
		got = append(got, fmt.Sprintf("%s: %s; %s", row[1], strings.TrimSpace(row[2]), strings.TrimSpace(row[3])))
	}
	var c config
	for _, s := range c.settings() {
		absent := s.absent
		if s.initial != "" {
			absent = "`" + s.initial + "`"
		}
		want = append(want, fmt.Sprintf("%s: %s; %s", s.name, s.Expected, absent))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/configuration.md has (+) but should have (-):\n%s", diff)
	}
}

// A default given as a value is what the constructs do without it.
func TestDocumentedDefaultsAreTheDefaults(t *testing.T) {
	overrides := map[string]any{}
	var c config
	for _, s := range c.settings() {
		if s.initial != "" {
			overrides["s3ferry."+s.name] = s.initial
		}
	}
	given := templates(t, overrides)
	for stack, template := range both(t) {
		if diff := cmp.Diff(template.Text(t), given[stack].Text(t)); diff != "" {
			t.Errorf("%s: with the documented defaults it is (+), without (-):\n%s", stack, diff)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
