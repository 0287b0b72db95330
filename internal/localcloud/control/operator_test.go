package control_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigateway"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/s3ferry/s3ferry/internal/localcloud/control"
)

func in(cfg aws.Config, region string) aws.Config {
	cfg.Region = region
	return cfg
}

func TestStacksAreOfTheirRegion(t *testing.T) {
	s, cfg := start(t)
	s.PutStack(control.Stack{Region: "cn-north-1", Name: "Ferry", Status: "CREATE_COMPLETE", Outputs: map[string]string{"A": "1 < 2", "B": "你好"}})
	describe := func(region string) (*cloudformation.DescribeStacksOutput, error) {
		return cloudformation.NewFromConfig(in(cfg, region)).DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("Ferry")})
	}
	_, err := describe("us-east-1")
	wantCode(t, err, "ValidationError")
	out, err := describe("cn-north-1")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, o := range out.Stacks[0].Outputs {
		got[*o.OutputKey] = *o.OutputValue
	}
	if out.Stacks[0].StackStatus != "CREATE_COMPLETE" || got["A"] != "1 < 2" || got["B"] != "你好" || len(got) != 2 {
		t.Errorf("got %+v with %v", out.Stacks[0], got)
	}
}

func TestPartitionIsThatOfTheRegion(t *testing.T) {
	_, cfg := start(t)
	for region, want := range map[string]string{
		"us-east-1": "arn:aws:iam::000000000000:root", "cn-north-1": "arn:aws-cn:iam::000000000000:root",
		"us-gov-west-1": "arn:aws-us-gov:iam::000000000000:root",
	} {
		who, err := sts.NewFromConfig(in(cfg, region)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		if err != nil || *who.Arn != want {
			t.Errorf("%s: got %+v, %v, want %s", region, who, err, want)
		}
	}
}

func TestAPIKey(t *testing.T) {
	s, cfg := start(t)
	s.PutAPIKey("id", "value")
	client := apigateway.NewFromConfig(cfg)
	_, err := client.GetApiKey(t.Context(), &apigateway.GetApiKeyInput{ApiKey: aws.String("other")})
	wantCode(t, err, "NotFoundException")
	out, err := client.GetApiKey(t.Context(), &apigateway.GetApiKeyInput{ApiKey: aws.String("id")})
	if err != nil || out.Value != nil || !out.Enabled {
		t.Errorf("without the value: got %+v, %v", out, err)
	}
	out, err = client.GetApiKey(t.Context(), &apigateway.GetApiKeyInput{ApiKey: aws.String("id"), IncludeValue: aws.Bool(true)})
	if err != nil || aws.ToString(out.Value) != "value" {
		t.Errorf("with the value: got %+v, %v", out, err)
	}
}

func TestSecretStages(t *testing.T) {
	s, cfg := start(t)
	client := secretsmanager.NewFromConfig(cfg)
	arn := s.CreateSecret("link")
	put := func(text string, stages ...string) []string {
		out, err := client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: &arn, SecretString: &text, VersionStages: stages})
		if err != nil {
			t.Fatal(err)
		}
		return out.VersionStages
	}
	if got := put("one", "mine"); !slices.Equal(got, []string{"AWSCURRENT", "mine"}) {
		t.Errorf("the first version has %v: the service makes it the current one in any case", got)
	}
	put("two", "mine")
	put("three")
	for stage, want := range map[string]string{"AWSCURRENT": "three", "AWSPREVIOUS": "one", "mine": "two"} {
		out, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &arn, VersionStage: &stage})
		if err != nil || *out.SecretString != want || s.Secret("link", stage) != want {
			t.Errorf("%s: got %+v, %v, want %s", stage, out, err, want)
		}
	}
	_, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &arn, VersionStage: aws.String("other")})
	wantCode(t, err, "ResourceNotFoundException")
}

func TestParameterVersions(t *testing.T) {
	s, cfg := start(t)
	for _, value := range []string{"one", "two"} {
		if err := s.PutParameter("/p", value); err != nil {
			t.Fatal(err)
		}
	}
	client := ssm.NewFromConfig(cfg)
	for name, want := range map[string]string{"/p": "two", "/p:1": "one", "/p:2": "two"} {
		out, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
		if err != nil || *out.Parameter.Value != want || *out.Parameter.Name != "/p" {
			t.Errorf("%s: got %+v, %v", name, out, err)
		}
	}
	_, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/p:3")})
	wantCode(t, err, "ParameterVersionNotFound")
	if value, version := s.Parameter("/p"); value != "two" || version != 2 {
		t.Errorf("got %q, %d", value, version)
	}
}

func TestFault(t *testing.T) {
	s := control.New(control.Config{Region: "us-east-1", Account: "000000000000", Fault: func(region, action string) *control.Error {
		if region == "cn-north-1" {
			return &control.Error{Code: "ExpiredTokenException", Message: action}
		}
		return nil
	}})
	s.PutAPIKey("id", "value")
	web := httptest.NewServer(http.HandlerFunc(s.ServeHTTP))
	t.Cleanup(web.Close)
	cfg := aws.Config{Region: "cn-north-1", BaseEndpoint: &web.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
	_, err := ssm.NewFromConfig(cfg).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/p")})
	wantCode(t, err, "ExpiredTokenException")
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantCode(t, err, "ExpiredTokenException")
	_, err = apigateway.NewFromConfig(cfg).GetApiKey(t.Context(), &apigateway.GetApiKeyInput{ApiKey: aws.String("id")})
	wantCode(t, err, "ExpiredTokenException")
	if _, err := sts.NewFromConfig(in(cfg, "us-east-1")).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); err != nil {
		t.Error(err)
	}
}
