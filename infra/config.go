package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
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
	Architecture      string
	DestinationBucket string
	DestinationKeyARN string
	Rate              int
	Burst             int
	Quota             int
	QuotaPeriod       string
	Concurrency       int
	MemoryMiB         int
	Connections       int
	PartSizeMiB       int
	AlarmTopicARN     string
}

// settings returns every setting with how to read it into c.
func (c *config) settings() map[string]setting {
	g, n := &c.Global, &c.China
	return map[string]setting{
		"global.region":        text(&g.Region, region, "a region such as us-east-1"),
		"global.architecture":  text(&g.Architecture, architectures, "arm64 or x86_64"),
		"global.sourceBucket":  text(&g.SourceBucket, bucketName, "the name of an existing bucket"),
		"global.sourceKeyArn":  text(&g.SourceKeyARN, keyARN, "the ARN of the bucket's KMS key"),
		"global.prefix":        text(&g.Prefix, prefix, "the beginning of keys, without * ? $"),
		"global.suffix":        text(&g.Suffix, anything, "the end of keys"),
		"global.urlLife":       span(&g.URLLife, time.Minute, time.Hour),
		"global.concurrency":   number(&g.Concurrency, 2, 1000),
		"global.alarmTopicArn": text(&g.AlarmTopicARN, topicARN, "the ARN of an SNS topic"),

		"china.region":            text(&n.Region, region, "a region such as cn-north-1"),
		"china.architecture":      text(&n.Architecture, architectures, "arm64 or x86_64"),
		"china.destinationBucket": text(&n.DestinationBucket, bucketName, "the name of an existing bucket"),
		"china.destinationKeyArn": text(&n.DestinationKeyARN, keyARN, "the ARN of the bucket's KMS key"),
		"china.rate":              number(&n.Rate, 1, 10_000),
		"china.burst":             number(&n.Burst, 1, 5_000),
		"china.quota":             number(&n.Quota, 1, 1_000_000_000),
		"china.quotaPeriod":       text(&n.QuotaPeriod, periods, "DAY, WEEK or MONTH"),
		"china.concurrency":       number(&n.Concurrency, 2, 1000),
		"china.memoryMiB":         number(&n.MemoryMiB, 512, 10_240),
		"china.connections":       number(&n.Connections, 1, 1024),
		"china.partSizeMiB":       number(&n.PartSizeMiB, 5, 64),
		"china.alarmTopicArn":     text(&n.AlarmTopicARN, topicARN, "the ARN of an SNS topic"),
	}
}

var (
	anything      = regexp.MustCompile(`^.+$`)
	region        = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d$`)
	architectures = regexp.MustCompile(`^(arm64|x86_64)$`)
	bucketName    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefix        = regexp.MustCompile(`^[^*?$]+$`)
	periods       = regexp.MustCompile(`^(DAY|WEEK|MONTH)$`)
	keyARN        = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/.+$`)
	topicARN      = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:.+$`)
)

// readConfig reads the settings from the app's context, which is the merger of
// cdk.json and the command line. It reports every problem in one error.
func readConfig(context any) (config, error) {
	c := config{
		Global: globalConfig{Region: "us-east-1", Architecture: "arm64"},
		China:  chinaConfig{Region: "cn-north-1", Architecture: "x86_64"},
	}
	settings := c.settings()
	given, problems := flatten(context)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		set, known := settings[name]
		if !known {
			problems = append(problems, unknown(name, settings))
			continue
		}
		if expected, ok := set(given[name]); !ok {
			problems = append(problems, fmt.Errorf("%s.%s: got %#v, expected %s", contextKey, name, given[name], expected))
		}
	}
	problems = append(problems, c.contradictions()...)
	if len(problems) > 0 {
		return config{}, fmt.Errorf("correct these settings in the context of cdk.json, or on the command line with -c:\n%w",
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
	needs("global.sourceKeyArn", c.Global.SourceKeyARN, "global.sourceBucket", c.Global.SourceBucket)
	needs("china.destinationKeyArn", c.China.DestinationKeyARN, "china.destinationBucket", c.China.DestinationBucket)
	if c.China.QuotaPeriod != "" && c.China.Quota == 0 {
		needs("china.quotaPeriod", c.China.QuotaPeriod, "china.quota", "")
	}
	return problems
}

// flatten returns the settings in context by dotted name without contextKey:
// those of the nested object, then those given by dotted name.
func flatten(context any) (given map[string]any, problems []error) {
	given = map[string]any{}
	all, _ := context.(map[string]any)
	switch nested := all[contextKey].(type) {
	case nil:
	case map[string]any:
		for side, values := range nested {
			object, ok := values.(map[string]any)
			if !ok {
				given[side] = values // reported as unknown, with the names that are known
				continue
			}
			for name, value := range object {
				given[side+"."+name] = value
			}
		}
	default:
		problems = append(problems, fmt.Errorf(`%s: got %#v, expected an object such as {"global": {"region": "us-east-1"}}`, contextKey, nested))
	}
	for key, value := range all {
		if name, ok := strings.CutPrefix(key, contextKey+"."); ok {
			given[name] = value
		}
	}
	return given, problems
}

func unknown(name string, settings map[string]setting) error {
	side, _, _ := strings.Cut(name, ".")
	var known []string
	for _, candidate := range slices.Sorted(maps.Keys(settings)) {
		if strings.HasPrefix(candidate, side+".") {
			known = append(known, candidate)
		}
	}
	if known == nil {
		known = slices.Sorted(maps.Keys(settings))
	}
	return fmt.Errorf("%s.%s: there is no such setting, expected one of %s", contextKey, name, strings.Join(known, ", "))
}

// setting stores a value, or says what it expected. Values from the command line
// are always strings.
type setting func(value any) (expected string, ok bool)

func text(to *string, pattern *regexp.Regexp, expected string) setting {
	return func(value any) (string, bool) {
		s, ok := value.(string)
		if !ok || !pattern.MatchString(s) {
			return expected, false
		}
		*to = s
		return "", true
	}
}

func number(to *int, low, high int) setting {
	return func(value any) (string, bool) {
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
			return fmt.Sprintf("a whole number from %d to %d", low, high), false
		}
		*to = int(n)
		return "", true
	}
}

func span(to *time.Duration, low, high time.Duration) setting {
	return func(value any) (string, bool) {
		d, err := time.ParseDuration(fmt.Sprint(value))
		if err != nil || d < low || d > high {
			return fmt.Sprintf("a duration from %s to %s, such as 45m", low, high), false
		}
		*to = d
		return "", true
	}
}
