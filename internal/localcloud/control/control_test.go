package control_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/s3ferry/s3ferry/internal/localcloud/control"
)

const role = "arn:aws:iam::000000000000:role/signer"

func start(t *testing.T) (*control.Server, aws.Config) {
	t.Helper()
	s := control.New(control.Config{
		Region: "us-east-1", Account: "000000000000", Role: role,
		SQS: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "queues") }),
		Mint: func(expires time.Time) (string, string, string) {
			return "ASIAEXAMPLE", "secret", "until+" + expires.Format(time.RFC3339)
		},
	})
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	return s, aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(web.URL),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code {
		t.Errorf("got error %v, want code %s", err, code)
	}
}

func TestSecret(t *testing.T) {
	s, cfg := start(t)
	client := secretsmanager.NewFromConfig(cfg)
	arn := s.CreateSecret("link")
	get := func(id string) (string, error) {
		out, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id})
		if err != nil {
			return "", err
		}
		return *out.SecretString, nil
	}
	_, err := get("other")
	wantCode(t, err, "ResourceNotFoundException")
	_, err = get(arn)
	wantCode(t, err, "ResourceNotFoundException")
	if err == nil || !strings.Contains(err.Error(), "staging label: AWSCURRENT") {
		t.Errorf("got %v, want an error that tells no value from no secret", err)
	}
	for _, value := range []string{`{"a":"你好"}`, "second"} {
		if _, err := client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &arn, SecretString: &value}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"link", arn} {
			if got, err := get(id); err != nil || got != value {
				t.Errorf("%s: got %q, %v, want %q", id, got, err, value)
			}
		}
	}
}

func TestParameter(t *testing.T) {
	_, cfg := start(t)
	client := ssm.NewFromConfig(cfg)
	put := func(value string, overwrite bool) error {
		_, err := client.PutParameter(t.Context(), &ssm.PutParameterInput{
			Name: aws.String("/ferry/trust"), Value: &value, Type: ssmtypes.ParameterTypeString, Overwrite: &overwrite,
		})
		return err
	}
	_, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/ferry/trust")})
	wantCode(t, err, "ParameterNotFound")
	if err := put("one", false); err != nil {
		t.Fatal(err)
	}
	wantCode(t, put("two", false), "ParameterAlreadyExists")
	if err := put("two", true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, put(strings.Repeat("x", 4097), true), "ValidationException")
	out, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/ferry/trust")})
	if err != nil || *out.Parameter.Value != "two" || out.Parameter.Version != 2 {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestAssumeRole(t *testing.T) {
	_, cfg := start(t)
	client := sts.NewFromConfig(cfg)
	assume := func(role string, seconds int32) (*sts.AssumeRoleOutput, error) {
		return client.AssumeRole(t.Context(), &sts.AssumeRoleInput{
			RoleArn: &role, RoleSessionName: aws.String("sender"), DurationSeconds: &seconds,
		})
	}
	out, err := assume(role, 900)
	if err != nil {
		t.Fatal(err)
	}
	c := out.Credentials
	if left := time.Until(*c.Expiration); left < 14*time.Minute || left > 15*time.Minute {
		t.Errorf("the session ends in %v, want 15 minutes", left)
	}
	if *c.AccessKeyId != "ASIAEXAMPLE" || *c.SessionToken != "until+"+c.Expiration.Format(time.RFC3339) {
		t.Errorf("credentials %+v are not those minted", c)
	}
	if got, want := *out.AssumedRoleUser.Arn, "arn:aws:sts::000000000000:assumed-role/signer/sender"; got != want {
		t.Errorf("user %s, want %s", got, want)
	}
	_, err = assume(role, 3601)
	wantCode(t, err, "ValidationError")
	_, err = assume(role+"2", 3600)
	wantCode(t, err, "AccessDenied")

	who, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *who.Account != "000000000000" {
		t.Errorf("got %+v, %v", who, err)
	}
}

func TestRequestsFindTheirService(t *testing.T) {
	_, cfg := start(t)
	for target, want := range map[string]string{
		"AmazonSQS.ReceiveMessage":       "queues",
		"secretsmanager.DeleteSecret":    "UnknownOperationException",
		"DynamoDB_20120810.GetItem":      "UnknownOperationException",
		"AmazonSSM.GetParametersByPath":  "UnknownOperationException",
		"secretsmanager.GetSecretValue.": "UnknownOperationException",
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", *cfg.BaseEndpoint, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", target)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if !strings.Contains(string(body), want) {
			t.Errorf("%s: got %s, want %s", target, body, want)
		}
	}
}
