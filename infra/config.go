package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/regioninfo"
	"github.com/aws/jsii-runtime-go"
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
	Prefix        string
	Suffix        string
	URLLife       time.Duration
	Concurrency   int
	AlarmTopicARN string
}

// chinaConfig is "china": the side of the destination bucket.
type chinaConfig struct {
	Region            string
	StackName         string
	Architecture      string
	DestinationBucket string
	DestinationKeyARN string
	StripPrefix       string
	AddPrefix         string
	Rate              int
	Burst             int
	Quota             int
	QuotaPeriod       string
	Concurrency       int
	MemoryMiB         int
	Connections       int
	PartSizeMiB       int
	SegmentSizeMiB    int
	AlarmTopicARN     string
}

// setting is one setting of cdk.json. docs/configuration.md has the same in a
// table, and a test compares them.
type setting struct {
	name string // dotted, below contextKey
	kind
	initial string // the value it has when left out, if that can be said as a value
	absent  string // what being left out means otherwise, in words
}

// kind is what a setting may be.
type kind struct {
	expected string               // in words
	set      func(value any) bool // stores value, or reports that it is not as expected
}

// settings returns every setting, each of which writes to c.
func (c *config) settings() []setting {
	g, n := &c.Global, &c.China
	return []setting{
		{"global.region", text(&g.Region, region, "a region such as us-east-1"), "us-east-1", ""},
		{"global.stackName", text(&g.StackName, stackName, "letters, digits and dashes, a letter first"), globalSender, ""},
		{"global.architecture", text(&g.Architecture, architectures, "arm64 or x86_64"), "arm64", ""},
		{"global.sourceBucket", text(&g.SourceBucket, bucketName, "the name of an existing bucket"), "", "a new bucket"},
		{"global.sourceKeyArn", text(&g.SourceKeyARN, keyARN, "the ARN of the bucket's KMS key"), "", "the bucket has none"},
		{"global.prefix", text(&g.Prefix, prefix, "the beginning of keys, without * ? $"), "", "all keys"},
		{"global.suffix", text(&g.Suffix, anything, "the end of keys"), "", "all keys"},
		{"global.urlLife", span(&g.URLLife, time.Minute, time.Hour), "1h", ""},
		{"global.concurrency", number(&g.Concurrency, 2, 1000), "10", ""},
		{"global.alarmTopicArn", text(&g.AlarmTopicARN, topicARN, "the ARN of an SNS topic"), "", "nobody is told"},

		{"china.region", text(&n.Region, region, "a region such as cn-north-1"), "cn-north-1", ""},
		{"china.stackName", text(&n.StackName, stackName, "letters, digits and dashes, a letter first"), chinaReceiver, ""},
		{"china.architecture", text(&n.Architecture, architectures, "arm64 or x86_64"), "x86_64", ""},
		{"china.destinationBucket", text(&n.DestinationBucket, bucketName, "the name of an existing bucket"), "", "a new bucket"},
		{"china.destinationKeyArn", text(&n.DestinationKeyARN, keyARN, "the ARN of the bucket's KMS key"), "", "the bucket has none"},
		{"china.stripPrefix", text(&n.StripPrefix, anything, "the beginning of keys"), "", "nothing"},
		{"china.addPrefix", text(&n.AddPrefix, addPrefix, "text without * ? $, and no braces but {bucket} and {region}"), "", "nothing"},
		{"china.rate", number(&n.Rate, 1, 10_000), "100", ""},
		{"china.burst", number(&n.Burst, 1, 5_000), "200", ""},
		{"china.quota", number(&n.Quota, 1, 1_000_000_000), "", "no quota"},
		{"china.quotaPeriod", text(&n.QuotaPeriod, periods, "DAY, WEEK or MONTH"), "", "DAY where there is a quota"},
		{"china.concurrency", number(&n.Concurrency, 2, 1000), "10", ""},
		{"china.memoryMiB", number(&n.MemoryMiB, 512, 10_240), "2048", ""},
		{"china.connections", number(&n.Connections, 1, 1024), "256", ""},
		{"china.partSizeMiB", number(&n.PartSizeMiB, 5, 64), "8", ""},
		{"china.segmentSizeMiB", number(&n.SegmentSizeMiB, 64, 1<<20), "1024", ""},
		{"china.alarmTopicArn", text(&n.AlarmTopicARN, topicARN, "the ARN of an SNS topic"), "", "nobody is told"},
	}
}

var (
	anything      = regexp.MustCompile(`^.+$`)
	region        = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d$`)
	stackName     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,127}$`)
	architectures = regexp.MustCompile(`^(arm64|x86_64)$`)
	bucketName    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefix        = regexp.MustCompile(`^[^*?$]+$`)
	addPrefix     = regexp.MustCompile(`^([^*?${}]|\{bucket\}|\{region\})+$`)
	periods       = regexp.MustCompile(`^(DAY|WEEK|MONTH)$`)
	keyARN        = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/.+$`)
	topicARN      = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:.+$`)
)

// readConfig reads the settings from the app's context, which is the merger of
// cdk.json and the command line. It reports every problem in one error.
func readConfig(context any) (config, error) {
	c := config{
		Global: globalConfig{Region: "us-east-1", StackName: globalSender, Architecture: "arm64"},
		China:  chinaConfig{Region: "cn-north-1", StackName: chinaReceiver, Architecture: "x86_64"},
	}
	settings := c.settings()
	given, problems := flatten(context, settings)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at := slices.IndexFunc(settings, func(s setting) bool { return s.name == name })
		if at < 0 {
			problems = append(problems, unknown(name, settings))
		} else if !settings[at].set(given[name]) {
			problems = append(problems, unexpected(contextKey+"."+name, given[name], settings[at].expected))
		}
	}
	problems = append(problems, c.contradictions()...)
	if len(problems) > 0 {
		return config{}, fmt.Errorf("correct these settings in the context of cdk.json, or on the command line with -c (docs/configuration.md has them all):\n%w",
			errors.Join(problems...))
	}
	return c, nil
}

func unexpected(name string, got any, expected string) error {
	raw, err := json.Marshal(got)
	if err != nil {
		raw = fmt.Append(nil, got)
	}
	return fmt.Errorf("%s: got %s, expected %s", name, raw, expected)
}

// contradictions returns what is wrong with settings beside each other.
func (c *config) contradictions() (problems []error) {
	needs := func(name, value, other, otherValue string) {
		if value != "" && otherValue == "" {
			problems = append(problems, fmt.Errorf("%[1]s.%[2]s: got %[3]q without %[1]s.%[4]s, expected both: set %[1]s.%[4]s too, or leave %[1]s.%[2]s out",
				contextKey, name, value, other))
		}
	}
	needs("global.sourceKeyArn", c.Global.SourceKeyARN, "global.sourceBucket", c.Global.SourceBucket)
	needs("china.destinationKeyArn", c.China.DestinationKeyARN, "china.destinationBucket", c.China.DestinationBucket)
	if c.China.QuotaPeriod != "" && c.China.Quota == 0 {
		needs("china.quotaPeriod", c.China.QuotaPeriod, "china.quota", "")
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

// flatten returns the settings in context by dotted name without contextKey:
// those of the nested object, then those given by dotted name. A key of the
// context that misses contextKey narrowly is a problem, since nobody else
// would report it.
func flatten(context any, settings []setting) (given map[string]any, problems []error) {
	given = map[string]any{}
	all, _ := context.(map[string]any)
	switch nested := all[contextKey].(type) {
	case nil:
	case map[string]any:
		for side, values := range nested {
			object, ok := values.(map[string]any)
			switch {
			case ok:
				for name, value := range object {
					given[side+"."+name] = value
				}
			case side == "global" || side == "china":
				problems = append(problems, unexpected(contextKey+"."+side, values, `an object such as {"region": "us-east-1"}`))
			default:
				given[side] = values // reported as unknown
			}
		}
	default:
		problems = append(problems, unexpected(contextKey, nested, `an object such as {"global": {"region": "us-east-1"}}`))
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		first, name, _ := strings.Cut(key, ".")
		switch {
		case first == contextKey:
			if name != "" {
				given[name] = all[key]
			}
		case first != contextKey && distance(first, contextKey) <= 2:
			problems = append(problems, fmt.Errorf("%s: there is no such setting, did you mean %s?", key, contextKey+strings.TrimPrefix(key, first)))
		case slices.ContainsFunc(settings, func(s setting) bool { return s.name == key }):
			problems = append(problems, fmt.Errorf("%[1]s: there is no such setting, did you mean %[2]s.%[1]s?", key, contextKey))
		}
	}
	return given, problems
}

// unknown says that there is no setting of that name, and which the nearest is.
func unknown(name string, settings []setting) error {
	side, leaf, _ := strings.Cut(name, ".")
	var nearest string
	var known []string
	closest := 1 + max(2, len(leaf)/3) // further away is another word
	for _, s := range settings {
		if strings.HasPrefix(s.name, side+".") {
			known = append(known, s.name)
		}
		if d := distance(strings.ToLower(name), strings.ToLower(s.name)); d < closest {
			closest, nearest = d, s.name
		}
	}
	if at := slices.IndexFunc(settings, func(s setting) bool { return strings.HasSuffix(s.name, "."+leaf) }); nearest == "" && known != nil && at >= 0 {
		nearest = settings[at].name // the right name on the wrong side
	}
	if nearest != "" {
		return fmt.Errorf("%[1]s.%[2]s: there is no such setting, did you mean %[1]s.%[3]s?", contextKey, name, nearest)
	}
	if known == nil {
		return fmt.Errorf("%[1]s.%[2]s: there is no such setting, expected them under %[1]s.global or %[1]s.china", contextKey, name)
	}
	return fmt.Errorf("%s.%s: there is no such setting, expected one of %s", contextKey, name, strings.Join(known, ", "))
}

// distance is how many characters have to be put in, taken out or changed to
// make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // the distances from what of a is done to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// The functions below make kinds. Values from the command line are always
// strings.

func text(to *string, pattern *regexp.Regexp, expected string) kind {
	return kind{expected, func(value any) bool {
		s, ok := value.(string)
		if !ok || !pattern.MatchString(s) {
			return false
		}
		*to = s
		return true
	}}
}

func number(to *int, low, high int) kind {
	return kind{fmt.Sprintf("a whole number from %d to %d", low, high), func(value any) bool {
		n := math.NaN()
		switch v := value.(type) {
		case float64:
			n = v
		case string:
			if i, err := strconv.Atoi(v); err == nil {
				n = float64(i)
			}
		}
		if n != math.Trunc(n) || n < float64(low) || n > float64(high) {
			return false
		}
		*to = int(n)
		return true
	}}
}

func span(to *time.Duration, low, high time.Duration) kind {
	return kind{fmt.Sprintf("a duration from %s to %s, such as 45m", low, high), func(value any) bool {
		d, err := time.ParseDuration(fmt.Sprint(value))
		if err != nil || d < low || d > high {
			return false
		}
		*to = d
		return true
	}}
}
