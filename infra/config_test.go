package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigDefaults(t *testing.T) {
	want := config{
		Global: globalConfig{Region: "us-east-1", StackName: "GlobalSender", Architecture: "arm64"},
		China:  chinaConfig{Region: "cn-north-1", StackName: "ChinaReceiver", Architecture: "x86_64"},
	}
	for name, context := range map[string]any{"no context": nil, "somebody else's": map[string]any{"@aws-cdk/core:x": true}} {
		got, err := readConfig(context)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestConfigOverridesWin(t *testing.T) {
	got, err := readConfig(map[string]any{
		"s3ferry": map[string]any{
			"global": map[string]any{"region": "eu-west-1", "urlLife": "30m", "concurrency": 20.0},
			"china":  map[string]any{"quota": 1e6, "rate": 5.0},
		},
		"s3ferry.global.region":      "eu-central-1",
		"s3ferry.global.concurrency": "30",
		"s3ferry.china.architecture": "arm64",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		Global: globalConfig{Region: "eu-central-1", StackName: "GlobalSender", Architecture: "arm64", URLLife: 30 * time.Minute, Concurrency: 30},
		China:  chinaConfig{Region: "cn-north-1", StackName: "ChinaReceiver", Architecture: "arm64", Quota: 1_000_000, Rate: 5},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConfigReportsEveryProblemAtOnce(t *testing.T) {
	_, err := readConfig(map[string]any{
		"s3ferry": map[string]any{
			"global": map[string]any{
				"region": "Virginia", "urlLife": "2h", "concurrency": 1.0, "prefix": "a*", "sourceBucket": "No_Bucket",
				"alarmTopicArn": "arn:aws:sns:us-east-1:111111111111:t", "alarmEmail": "ops@example.com",
				"reigon": "us-east-1", "sourceKeyArn": "arn:aws:kms:us-east-1:111111111111:key/k",
			},
			"china": map[string]any{"architecture": "x86", "alarmEmail": "nobody", "rate": 1.5, "burst": true, "quotaPeriod": "DAY", "region": 7.0},
			"asia":  map[string]any{"region": "ap-east-1"},
			"other": 1.0,
		},
		"s3ferry.china.memoryMiB":   "lots",
		"s3ferry.china.connections": "0",
	})
	if err == nil {
		t.Fatal("a broken configuration was accepted")
	}
	for _, want := range []string{
		`s3ferry.global.region: got "Virginia", expected a region such as us-east-1`,
		`s3ferry.global.urlLife: got "2h", expected a duration from 1m0s to 1h0m0s, such as 45m`,
		`s3ferry.global.concurrency: got 1, expected a whole number from 2 to 1000`,
		`s3ferry.global.prefix: got "a*", expected the beginning of keys, without * ? $`,
		`s3ferry.global.sourceBucket: got "No_Bucket", expected the name of an existing bucket`,
		`s3ferry.global.alarmEmail: got "ops@example.com" beside s3ferry.global.alarmTopicArn, expected one of them`,
		`s3ferry.china.alarmEmail: got "nobody", expected an e-mail address`,
		`s3ferry.global.reigon: there is no such setting, did you mean s3ferry.global.region?`,
		`s3ferry.global.sourceKeyArn: got "arn:aws:kms:us-east-1:111111111111:key/k" without s3ferry.global.sourceBucket, expected both`,
		`s3ferry.china.architecture: got "x86", expected arm64 or x86_64`,
		`s3ferry.china.rate: got 1.5, expected a whole number from 1 to 10000`,
		`s3ferry.china.burst: got true, expected a whole number from 1 to 5000`,
		`s3ferry.china.quotaPeriod: got "DAY" without s3ferry.china.quota, expected both`,
		`s3ferry.china.region: got 7, expected a region such as cn-north-1`,
		`s3ferry.china.memoryMiB: got "lots", expected a whole number from 512 to 10240`,
		`s3ferry.china.connections: got "0", expected a whole number from 1 to 1024`,
		`s3ferry.asia.region: there is no such setting, expected them under s3ferry.global or s3ferry.china`,
		`s3ferry.other: there is no such setting, expected them under s3ferry.global or s3ferry.china`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestConfigProblems(t *testing.T) {
	const key, topic = "arn:aws:kms:us-east-1:111111111111:key/k", "arn:aws-cn:sns:cn-north-1:111111111111:t"
	for name, tc := range map[string]struct {
		context map[string]any
		want    string
	}{
		"no object": {
			map[string]any{"s3ferry": "us-east-1"},
			`s3ferry: got "us-east-1", expected an object such as {"global": {"region": "us-east-1"}}`,
		},
		"a side that is no object": {
			map[string]any{"s3ferry": map[string]any{"china": "cn-north-1"}},
			`s3ferry.china: got "cn-north-1", expected an object such as {"region": "us-east-1"}`,
		},
		"an object for a value": {
			map[string]any{"s3ferry.global.region": map[string]any{"name": "us-east-1"}},
			`s3ferry.global.region: got {"name":"us-east-1"}, expected a region such as us-east-1`,
		},
		"a slip of the pen":     {map[string]any{"s3ferry.china.memoryMB": "512"}, "s3ferry.china.memoryMB: there is no such setting, did you mean s3ferry.china.memoryMiB?"},
		"other capitals":        {map[string]any{"s3ferry.global.SourceBucket": "b"}, "s3ferry.global.SourceBucket: there is no such setting, did you mean s3ferry.global.sourceBucket?"},
		"the other side's":      {map[string]any{"s3ferry.global.memoryMiB": "512"}, "s3ferry.global.memoryMiB: there is no such setting, did you mean s3ferry.china.memoryMiB?"},
		"nothing like it":       {map[string]any{"s3ferry.china.colour": "red"}, "s3ferry.china.colour: there is no such setting, expected one of china.region, china.stackName, "},
		"without its key":       {map[string]any{"china.region": "cn-northwest-1"}, "china.region: there is no such setting, did you mean s3ferry.china.region?"},
		"with a misspelled key": {map[string]any{"s3fery.china.region": "cn-northwest-1"}, "s3fery.china.region: there is no such setting, did you mean s3ferry.china.region?"},
		"a key of elsewhere": {
			map[string]any{"s3ferry.global.region": "eu-west-1", "s3ferry.global.sourceBucket": "b-1", "s3ferry.global.sourceKeyArn": key},
			`s3ferry.global.sourceKeyArn: got "` + key + `", expected one in eu-west-1, which is s3ferry.global.region`,
		},
		"a topic of the other side": {
			map[string]any{"s3ferry.global.alarmTopicArn": topic},
			`s3ferry.global.alarmTopicArn: got "` + topic + `", expected one in us-east-1`,
		},
		"a topic of another partition": {
			map[string]any{"s3ferry.china.alarmTopicArn": "arn:aws:sns:cn-north-1:111111111111:t"},
			`s3ferry.china.alarmTopicArn: got "arn:aws:sns:cn-north-1:111111111111:t", expected one in cn-north-1`,
		},
		"a placeholder that is none": {
			map[string]any{"s3ferry.china.addPrefix": "from/{account}/"},
			`s3ferry.china.addPrefix: got "from/{account}/", expected text without * ? $, and no braces but {bucket} and {region}`,
		},
		"a serial of nothing": {
			map[string]any{"s3ferry.china.accessKeySerial": "2"},
			`s3ferry.china.accessKeySerial: got 2 without s3ferry.china.authorization iam`,
		},
		"a private network": {
			map[string]any{"s3ferry.china.allowedNetworks": "203.0.113.0/24,10.0.0.0/8"},
			`s3ferry.china.allowedNetworks: got "203.0.113.0/24,10.0.0.0/8", expected public networks`,
		},
		"half a network": {
			map[string]any{"s3ferry.china.allowedNetworks": []any{"203.0.113.1/24"}},
			`s3ferry.china.allowedNetworks: got ["203.0.113.1/24"], expected public networks`,
		},
		"another authorization": {
			map[string]any{"s3ferry.china.authorization": "IAM"}, `s3ferry.china.authorization: got "IAM", expected apiKey or iam`,
		},
		"a circle": {
			map[string]any{"s3ferry.china.region": "eu-west-1", "s3ferry.china.destinationBucket": "one", "s3ferry.global.sourceBucket": "one"},
			`s3ferry.china.destinationBucket: got "one", which is s3ferry.global.sourceBucket`,
		},
		"one stack": {
			map[string]any{"s3ferry.china.region": "us-east-1", "s3ferry.china.stackName": "GlobalSender"},
			`s3ferry.global.stackName: got "GlobalSender" on both sides`,
		},
	} {
		_, err := readConfig(tc.context)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		} else if n := strings.Count(err.Error(), "\n"); n != 1 {
			t.Errorf("%s: got %d problems, want 1: %v", name, n, err)
		}
	}
}

func TestConfigLeavesOthersAlone(t *testing.T) {
	if _, err := readConfig(map[string]any{
		"@aws-cdk/core:target": true, "serverless": 1.0, "region": "x", "acme.china.region": "x",
		"s3ferry.global.sourceBucket": "one", "s3ferry.china.destinationBucket": "one", // in two partitions
	}); err != nil {
		t.Error(err)
	}
}
