package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/regioninfo"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/constructs/ferry"
	"github.com/s3ferry/s3ferry/internal/settings"
)

// contextKey is the key of the settings in cdk.json's context. On the command
// line each can be overridden by its dotted name:
//
//	npx cdk deploy ChinaReceiver -c s3ferry.china.region=cn-northwest-1
const contextKey = "s3ferry"

// config holds the settings of both stacks. A zero value means the construct's
// own default.
type config struct {
	Global globalConfig
	China  chinaConfig
}

// globalConfig is "global": the side of the source bucket.
type globalConfig struct {
	Region        string
	StackName     string
	Architecture  string
	SourceBucket  string
	SourceKeyARN  string
	KeyARN        string
	Prefix        string
	Suffix        string
	URLLife       time.Duration
	Deletes       bool
	TagChanges    bool
	MaxRounds     int
	Concurrency   int
	AlarmTopicARN string
	AlarmEmail    string
}

// chinaConfig is "china": the side of the destination bucket.
type chinaConfig struct {
	Region            string
	StackName         string
	Architecture      string
	DestinationBucket string
	DestinationKeyARN string
	KeyARN            string
	StripPrefix       string
	AddPrefix         string
	Authorization     string
	AccessKeySerial   int
	AllowedNetworks   []string
	Rate              int
	Burst             int
	Quota             int
	QuotaPeriod       string
	Concurrency       int
	MemoryMiB         int
	Connections       int
	PartSizeMiB       int
	SegmentSizeMiB    int
	Deletes           bool
	TagChanges        bool
	Unconditional     bool
	AlarmTopicARN     string
	AlarmEmail        string
}

// setting is one setting of cdk.json. docs/configuration.md has the same in a
// table, and a test compares them.
type setting struct {
	name string // dotted, below contextKey
	kind
	initial string // the value it has when left out, if that can be said as a value
	absent  string // what being left out means otherwise, in words
}

// What a setting may be.
type kind = settings.Kind

var (
	text   = settings.Text
	number = settings.Number
	span   = settings.Span
	toggle = settings.Flag
)

// settings returns every setting, each of which writes to c.
func (c *config) settings() []setting {
	g, n := &c.Global, &c.China
	return []setting{
		{"global.region", text(&g.Region, region, "a region such as us-east-1"), "us-east-1", ""},
		{"global.stackName", text(&g.StackName, stackName, "letters, digits and dashes, a letter first"), globalSender, ""},
		{"global.architecture", text(&g.Architecture, architectures, "arm64 or x86_64"), "arm64", ""},
		{"global.sourceBucket", text(&g.SourceBucket, bucketName, "the name of an existing bucket"), "", "a new bucket"},
		{"global.sourceKeyArn", text(&g.SourceKeyARN, keyARN, "the ARN of the bucket's KMS key"), "", "the bucket has none"},
		{"global.encryptionKeyArn", text(&g.KeyARN, keyARN, "the ARN of a KMS key"), "", "keys of AWS's"},
		{"global.prefix", text(&g.Prefix, prefix, "the beginning of keys, without * ? $"), "", "all keys"},
		{"global.suffix", text(&g.Suffix, anything, "the end of keys"), "", "all keys"},
		{"global.urlLife", span(&g.URLLife, time.Minute, time.Hour), "1h", ""},
		{"global.deletes", toggle(&g.Deletes), "false", ""},
		{"global.tagChanges", toggle(&g.TagChanges), "false", ""},
		{"global.maxRounds", number(&g.MaxRounds, 1, 10_000), "400", ""},
		{"global.concurrency", number(&g.Concurrency, 2, 1000), "10", ""},
		{"global.alarmTopicArn", text(&g.AlarmTopicARN, topicARN, "the ARN of an SNS topic"), "", "nobody is told"},
		{"global.alarmEmail", text(&g.AlarmEmail, email, "an e-mail address"), "", "nobody is told"},

		{"china.region", text(&n.Region, region, "a region such as cn-north-1"), "cn-north-1", ""},
		{"china.stackName", text(&n.StackName, stackName, "letters, digits and dashes, a letter first"), chinaReceiver, ""},
		{"china.architecture", text(&n.Architecture, architectures, "arm64 or x86_64"), "x86_64", ""},
		{"china.destinationBucket", text(&n.DestinationBucket, bucketName, "the name of an existing bucket"), "", "a new bucket"},
		{"china.destinationKeyArn", text(&n.DestinationKeyARN, keyARN, "the ARN of the bucket's KMS key"), "", "the bucket has none"},
		{"china.encryptionKeyArn", text(&n.KeyARN, keyARN, "the ARN of a KMS key"), "", "keys of AWS's"},
		{"china.stripPrefix", text(&n.StripPrefix, anything, "the beginning of keys"), "", "nothing"},
		{"china.addPrefix", text(&n.AddPrefix, addPrefix, "text without * ? $, and no braces but {bucket} and {region}"), "", "nothing"},
		{"china.authorization", text(&n.Authorization, authorizations, "apiKey or iam"), "apiKey", ""},
		{"china.accessKeySerial", number(&n.AccessKeySerial, 1, math.MaxInt32), "", "the first access key"},
		{"china.allowedNetworks", networks(&n.AllowedNetworks), "", "the internet"},
		{"china.rate", number(&n.Rate, 1, 10_000), "100", ""},
		{"china.burst", number(&n.Burst, 1, 5_000), "200", ""},
		{"china.quota", number(&n.Quota, 1, 1_000_000_000), "", "no quota"},
		{"china.quotaPeriod", text(&n.QuotaPeriod, periods, "DAY, WEEK or MONTH"), "", "DAY where there is a quota"},
		{"china.concurrency", number(&n.Concurrency, 2, 1000), "10", ""},
		{"china.memoryMiB", number(&n.MemoryMiB, 512, 10_240), "2048", ""},
		{"china.connections", number(&n.Connections, 1, 1024), "256", ""},
		{"china.partSizeMiB", number(&n.PartSizeMiB, 5, 64), "8", ""},
		{"china.segmentSizeMiB", number(&n.SegmentSizeMiB, 64, 1<<20), "1024", ""},
		{"china.deletes", toggle(&n.Deletes), "false", ""},
		{"china.tagChanges", toggle(&n.TagChanges), "false", ""},
		{"china.unconditionalWrites", toggle(&n.Unconditional), "false", ""},
		{"china.alarmTopicArn", text(&n.AlarmTopicARN, topicARN, "the ARN of an SNS topic"), "", "nobody is told"},
		{"china.alarmEmail", text(&n.AlarmEmail, email, "an e-mail address"), "", "nobody is told"},
	}
}

var (
	anything       = regexp.MustCompile(`^.+$`)
	region         = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d$`)
	stackName      = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,127}$`)
	architectures  = regexp.MustCompile(`^(arm64|x86_64)$`)
	bucketName     = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefix         = regexp.MustCompile(`^[^*?$]+$`)
	addPrefix      = regexp.MustCompile(`^([^*?${}]|\{bucket\}|\{region\})+$`)
	authorizations = regexp.MustCompile(`^(apiKey|iam)$`)
	periods        = regexp.MustCompile(`^(DAY|WEEK|MONTH)$`)
	keyARN         = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/.+$`)
	email          = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)
	topicARN       = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:.+$`)
)

// networks takes a list of networks in one text, or as JSON has lists.
func networks(to *[]string) kind {
	return kind{Expected: "public networks such as 203.0.113.7/32,198.51.100.0/24", Set: func(value any) bool {
		var texts []string
		switch v := value.(type) {
		case string:
			texts = strings.Split(v, ",")
		case []any:
			for _, member := range v {
				texts = append(texts, fmt.Sprint(member))
			}
		}
		for _, text := range texts {
			if n, err := netip.ParsePrefix(text); err != nil || n != n.Masked() || n.Bits() == 0 || n.Addr().IsPrivate() {
				return false
			}
		}
		*to = texts
		return len(texts) > 0
	}}
}

// readConfig reads the settings from the app's context, which is the merger of
// cdk.json and the command line. It reports every problem in one error.
func readConfig(context any) (config, error) {
	c := config{
		Global: globalConfig{Region: "us-east-1", StackName: globalSender, Architecture: "arm64"},
		China:  chinaConfig{Region: "cn-north-1", StackName: chinaReceiver, Architecture: "x86_64"},
	}
	var all []settings.Setting
	for _, s := range c.settings() {
		all = append(all, settings.Setting{Name: s.name, Kind: s.kind})
	}
	problems := settings.Read(context, contextKey, all)
	problems = append(problems, c.contradictions()...)
	if len(problems) > 0 {
		return config{}, fmt.Errorf("correct these settings in the context of cdk.json, or on the command line with -c (docs/configuration.md has them all):\n%w",
			errors.Join(problems...))
	}
	return c, nil
}

// contradictions returns what is wrong with settings beside each other.
func (c *config) contradictions() (problems []error) {
	needs := func(name, value, other, otherValue string) {
		if value != "" && otherValue == "" {
			problems = append(problems, fmt.Errorf("%[1]s.%[2]s: got %[3]q without %[1]s.%[4]s, expected both: set %[1]s.%[4]s too, or leave %[1]s.%[2]s out",
				contextKey, name, value, other))
		}
	}
	for name, refused := range map[string]bool{
		"deletes": c.Global.Deletes && !c.China.Deletes, "tagChanges": c.Global.TagChanges && !c.China.TagChanges,
	} {
		if refused {
			problems = append(problems, fmt.Errorf("%[1]s.china.%[2]s: got false beside %[1]s.global.%[2]s, expected true: each would be refused",
				contextKey, name))
		}
	}
	needs("global.sourceKeyArn", c.Global.SourceKeyARN, "global.sourceBucket", c.Global.SourceBucket)
	needs("china.destinationKeyArn", c.China.DestinationKeyARN, "china.destinationBucket", c.China.DestinationBucket)
	if c.China.AccessKeySerial > 0 && c.China.Authorization != string(ferry.IAM) {
		problems = append(problems, fmt.Errorf("%[1]s.china.accessKeySerial: got %[2]d without %[1]s.china.authorization iam, whose access key it counts: set that too, or leave it out",
			contextKey, c.China.AccessKeySerial))
	}
	if c.China.QuotaPeriod != "" && c.China.Quota == 0 {
		needs("china.quotaPeriod", c.China.QuotaPeriod, "china.quota", "")
	}

	for side, given := range map[string][2]string{
		"global": {c.Global.AlarmTopicARN, c.Global.AlarmEmail}, "china": {c.China.AlarmTopicARN, c.China.AlarmEmail},
	} {
		if given[0] != "" && given[1] != "" {
			problems = append(problems, fmt.Errorf("%[1]s.%[2]s.alarmEmail: got %[3]q beside %[1]s.%[2]s.alarmTopicArn, expected one of them: subscribe the address to the topic, or leave one out",
				contextKey, side, given[1]))
		}
	}

	// A key and a topic work in their own region only.
	near := func(name, arn, side, region string) {
		if arn == "" {
			return
		}
		if part := strings.SplitN(arn, ":", 5); part[3] != region || partition(region) != "" && part[1] != partition(region) {
			problems = append(problems, fmt.Errorf("%[1]s.%[2]s: got %[3]q, expected one in %[5]s, which is %[1]s.%[4]s.region: name another, or change the region",
				contextKey, name, arn, side, region))
		}
	}
	near("global.sourceKeyArn", c.Global.SourceKeyARN, "global", c.Global.Region)
	near("global.encryptionKeyArn", c.Global.KeyARN, "global", c.Global.Region)
	near("china.encryptionKeyArn", c.China.KeyARN, "china", c.China.Region)
	near("global.alarmTopicArn", c.Global.AlarmTopicARN, "global", c.Global.Region)
	near("china.destinationKeyArn", c.China.DestinationKeyARN, "china", c.China.Region)
	near("china.alarmTopicArn", c.China.AlarmTopicARN, "china", c.China.Region)

	if c.Global.Region == c.China.Region && c.Global.StackName == c.China.StackName {
		problems = append(problems, fmt.Errorf("%[1]s.global.stackName: got %[2]q on both sides, which are in one region: name one of them otherwise",
			contextKey, c.Global.StackName))
	}
	if b := c.Global.SourceBucket; b != "" && b == c.China.DestinationBucket && partition(c.Global.Region) == partition(c.China.Region) {
		problems = append(problems, fmt.Errorf("%[1]s.china.destinationBucket: got %[2]q, which is %[1]s.global.sourceBucket: every object would come back as a new one, so name another",
			contextKey, b))
	}
	return problems
}

// partition returns the partition of a region, or "" if CDK does not know it.
func partition(region string) string {
	if p := regioninfo.RegionInfo_Get(jsii.String(region)).Partition(); p != nil {
		return *p
	}
	return ""
}
