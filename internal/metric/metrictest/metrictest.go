// Package metrictest reads what the functions measured from their logs.
package metrictest

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// document is a line in the embedded metric format.
type document struct {
	AWS struct {
		Timestamp         int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	} `json:"_aws"`
}

// Read reads a log as CloudWatch does, and holds it against the format's rules. It
// returns the values of each metric by its name and unit ("Lag in Milliseconds"),
// and in how many lines they were. ferry is the dimension that all have to have.
func Read(t testing.TB, log, ferry string) (values map[string][]float64, lines int) {
	t.Helper()
	values = map[string][]float64{}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"_aws"`) {
			continue
		}
		lines++
		var d document
		var root map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if err := json.Unmarshal([]byte(line), &root); err != nil {
			t.Fatal(err)
		}
		if d.AWS.Timestamp < 1e12 || len(d.AWS.CloudWatchMetrics) != 1 {
			t.Fatalf("got %s", line)
		}
		told := d.AWS.CloudWatchMetrics[0]
		if told.Namespace != "s3ferry" || !cmp.Equal(told.Dimensions, [][]string{{"Ferry"}}) || string(root["Ferry"]) != strconv.Quote(ferry) {
			t.Errorf("got namespace %q, dimensions %v, Ferry %s", told.Namespace, told.Dimensions, root["Ferry"])
		}
		if len(told.Metrics) > 100 {
			t.Errorf("%d metrics in a line, at most 100 are allowed", len(told.Metrics))
		}
		for _, m := range told.Metrics {
			var one float64
			var all []float64
			if json.Unmarshal(root[m.Name], &one) == nil {
				all = []float64{one}
			} else if err := json.Unmarshal(root[m.Name], &all); err != nil || len(all) == 0 || len(all) > 100 {
				t.Errorf("%s is %.80s (%v), expected a number or 1 to 100 of them", m.Name, root[m.Name], err)
			}
			name := m.Name + " in " + m.Unit
			values[name] = append(values[name], all...)
		}
	}
	return values, lines
}
