package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/metric"
	"github.com/s3ferry/s3ferry/test/synth"
)

// docs/operating.md has a row for every alarm of both templates, with what rings
// it, and no other; and each row says what it means, what to look at, what to do.
func TestDocsExplainEveryAlarm(t *testing.T) {
	want := map[string]string{}
	for _, template := range both(t) {
		for _, a := range template.Resources("AWS::CloudWatch::Alarm") {
			if a.Get("ComparisonOperator") != "GreaterThanOrEqualToThreshold" || a.Get("TreatMissingData") != "notBreaching" ||
				a.Get("Period") != 300.0 || a.Get("EvaluationPeriods") != 1.0 {
				t.Errorf("%s does not ring as docs/operating.md says alarms do: %v", a.ID, a.Properties)
			}
			statistic := a.Get("Statistic")
			if statistic == nil {
				statistic = a.Get("ExtendedStatistic")
			}
			want[a.ID[:len(a.ID)-8]] = fmt.Sprintf("%v %v ≥ %.0f", statistic, a.Get("MetricName"), a.Get("Threshold"))
		}
	}
	got := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| `([^`]+)` \\|([^|]+)\\|([^|]+)\\|([^|]+)\\|$")
	for _, m := range row.FindAllStringSubmatch(read(t, "../docs/operating.md"), -1) {
		got[m[1]] = m[2]
		for _, cell := range m[3:] {
			if len(strings.TrimSpace(cell)) < 10 {
				t.Errorf("the row of %s does not say enough: %q", m[1], m[0])
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the templates have (-), docs/operating.md has (+):\n%s", diff)
	}
}

// Every metric of ours that is drawn or watched is one that the functions log
// under that name, and every outcome is drawn, memory, and what each side costs.
func TestDashboards(t *testing.T) {
	known := []metric.Metric{
		metric.Sent, metric.SentBytes, metric.Held, metric.Unsent, metric.Unneeded, metric.Bytes, metric.Duration,
		metric.Attempts, metric.Lag, metric.Rounds, metric.Requeued, metric.GivenUp, metric.Unreadable, metric.Inbox, metric.Memory,
	}
	var names, outcomes []string
	for _, m := range known {
		names = append(names, m.Name)
	}
	for _, o := range metric.Outcomes() {
		outcomes = append(outcomes, metric.Outcome(o).Name)
	}
	price := regexp.MustCompile(`\b0\.0\d+\b`) // without an exponent, which metric math may not know
	for stack, template := range both(t) {
		ferries := map[any]bool{}
		for _, block := range template.Environments() {
			ferries[block["S3FERRY_NAME"]] = true
		}
		if len(ferries) != 1 {
			t.Errorf("%s: the functions measure under %d names: %v", stack, len(ferries), ferries)
		}
		check := func(where string, name, ferry any) {
			if !slices.Contains(append(names, outcomes...), fmt.Sprint(name)) || !ferries[ferry] {
				t.Errorf("%s: %s has metric %v of %v, which no function logs", stack, where, name, ferry)
			}
		}
		drawn := map[string]bool{}
		var costs []string
		for _, line := range drawnMetrics(t, template) {
			if math, ok := line[0].(map[string]any); ok {
				costs = append(costs, fmt.Sprint(math["label"], ": ", price.ReplaceAllString(fmt.Sprint(math["expression"]), "USD")))
				continue
			}
			drawn[fmt.Sprint(line[1])] = true
			if line[0] == metric.Namespace {
				check("the dashboard", line[1], line[3])
			}
		}
		for _, outcome := range append(outcomes, "ApproximateAgeOfOldestMessage", "Errors", "Duration", "Bytes", "Memory") {
			if !drawn[outcome] {
				t.Errorf("%s: the dashboard does not show %s", stack, outcome)
			}
		}
		wanted := map[string][]string{globalSender: {
			"egress: (bytes * USD) * 3600 / PERIOD(bytes)",
			"requests: (sent * USD) * 3600 / PERIOD(sent)",
			"sender: (sender_invocations * USD + sender_duration * USD) * 3600 / PERIOD(sender_duration)",
			"courier: (courier_invocations * USD + courier_duration * USD) * 3600 / PERIOD(courier_duration)",
		}, chinaReceiver: {
			"mailbox: (requests * USD) * 3600 / PERIOD(requests)",
			"writes: ((copied + bytes / 8388608) * USD) * 3600 / PERIOD(bytes)",
			"receiver: (receiver_invocations * USD + receiver_duration * USD) * 3600 / PERIOD(receiver_duration)",
		}}
		if diff := cmp.Diff(wanted[stack], costs); diff != "" {
			t.Errorf("%s: costs are drawn so (-want +got):\n%s", stack, diff)
		}
		for _, a := range template.Resources("AWS::CloudWatch::Alarm") {
			if a.Get("Namespace") == metric.Namespace {
				check(a.ID, a.Get("MetricName"), a.Get("Dimensions", 0, "Value"))
			}
		}
	}
}

// drawnMetrics returns the metrics of the stack's one dashboard, each as
// [namespace, name, dimension, value, ...]. A dashboard holds graphs only.
func drawnMetrics(t *testing.T, template synth.Template) (lines [][]any) {
	t.Helper()
	var body struct {
		Widgets []struct {
			Type       string
			Properties struct{ Metrics [][]any }
		}
	}
	dashboard := template.Only(t, "AWS::CloudWatch::Dashboard", "")
	if dashboard.Get("Tags") != nil {
		t.Error("the dashboard has tags, which not every region's CloudFormation knows")
	}
	text := fmt.Sprint(synth.Resolve(dashboard.Get("DashboardBody")))
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatalf("the dashboard is no JSON: %v\n%s", err, text)
	}
	for _, w := range body.Widgets {
		if w.Type != "metric" || len(w.Properties.Metrics) == 0 {
			t.Errorf("widget %+v is no graph", w)
		}
		lines = append(lines, w.Properties.Metrics...)
	}
	return lines
}

func TestAlarmEmail(t *testing.T) {
	for stack, template := range templates(t, map[string]any{"s3ferry.global.alarmEmail": "a@example.com", "s3ferry.china.alarmEmail": "b@example.com"}) {
		want := map[string]string{globalSender: "a@example.com", chinaReceiver: "b@example.com"}[stack]
		if got := template.Only(t, "AWS::SNS::Subscription", "").Get("Endpoint"); got != want {
			t.Errorf("%s tells %v, want %s", stack, got, want)
		}
		topic := "${" + template.Only(t, "AWS::SNS::Topic", "").ID + "}"
		for _, a := range template.Resources("AWS::CloudWatch::Alarm") {
			if got := synth.Resolve(a.Get("AlarmActions", 0)); got != topic {
				t.Errorf("%s tells %v, want %s", a.ID, got, topic)
			}
		}
	}
}
