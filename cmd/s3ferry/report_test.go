package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud/control"
)

// receiptLine is a line of the courier's log.
func receiptLine() string {
	line := `{"function":"courier","timestamp":"T","level":"INFO","message":"receipt","outcome":"copied","id":"1","bucket":"source","key":"a","bytes":5,"lagMillis":1500,"verified":"etag","at":"T"}`
	return strings.ReplaceAll(line, `"T"`, `"`+time.Now().UTC().Format(time.RFC3339)+`"`) + "\n"
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	logs, html, cloud := filepath.Join(dir, "functions.log"), filepath.Join(dir, "report.html"), filepath.Join(dir, "cloud.json")
	receipt := receiptLine()
	for name, content := range map[string]string{
		logs: "no JSON\n" + receipt + receipt, cloud: description(t, "http://127.0.0.1:1", logs), filepath.Join(dir, "none.log"): "",
		filepath.Join(dir, "verbose.json"): description(t, "http://127.0.0.1:1", ""),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		args  []string
		stdin string
		code  int
		want  string // in what is said
	}{
		"from a file":           {[]string{"--logs", logs, "--html", html}, "", exitOK, "1 receipts, 1 copied, 0 given up: " + html},
		"from the laptop cloud": {[]string{"--local", cloud, "--html", html}, "", exitOK, "1 receipts"},
		"from standard input":   {[]string{"--logs", "-", "--html", "-"}, receipt, exitOK, "<title>s3ferry report"},
		"an empty log":          {[]string{"--logs", filepath.Join(dir, "none.log"), "--html", html}, "", exitFailed, "no receipts of the last 24h0m0s in none.log"},
		"no such log":           {[]string{"--logs", dir + "/nowhere", "--html", html}, "", exitFailed, "nowhere"},
		"logs that went away":   {[]string{"--local", filepath.Join(dir, "verbose.json"), "--html", html}, "", exitFailed, "--verbose"},
		"a page nowhere":        {[]string{"--logs", logs, "--html", dir + "/nowhere/a.html"}, "", exitFailed, "--html"},
		"no source":             {[]string{"--html", html}, "", exitUsage, "got 0 of --global-profile, --local and --logs"},
		"two sources, no page":  {[]string{"--logs", logs, "--local", cloud}, "", exitUsage, "--html: got nothing"},
		"metrics of a log":      {[]string{"--logs", logs, "--metrics-only", "--html", html}, "", exitUsage, "--metrics-only: got no --global-profile"},
		"no time":               {[]string{"--logs", logs, "--html", html, "--since", "0s"}, "", exitUsage, "--since: got 0s"},
		"no such profile":       {[]string{"--global-profile", "nobody-has-this", "--html", html}, "", exitFailed, "nobody-has-this"},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(html)
			root := newRoot()
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetIn(strings.NewReader(tc.stdin))
			if got := run(t.Context(), root, append([]string{"report"}, tc.args...)); got != tc.code {
				t.Errorf("exit code %d, want %d", got, tc.code)
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("said %q, want %q in it", out.String(), tc.want)
			}
			if page, _ := os.ReadFile(html); strings.HasSuffix(tc.want, html) && !bytes.Contains(page, []byte("</html>")) {
				t.Errorf("the page is not whole: %d bytes", len(page))
			}
		})
	}
}

// A profile leads to the log group and to the metrics that the sender's stack
// names. What is missing of them is said, and the rest drawn.
func TestReportOfAnAccount(t *testing.T) {
	denied := &control.Error{Code: "AccessDeniedException", Message: "no"}
	const needs = "needs the permission cloudwatch:GetMetricData"
	for name, tc := range map[string]struct {
		args     []string
		receipts bool
		copied   float64 // by metrics; 0: there are none
		unnamed  bool    // the stack is of before it named its sender
		fault    *control.Error
		code     int
		page     []string // what is on it; nil: there is none
		said     string   // on standard error
	}{
		"both": {
			receipts: true, copied: 7,
			page: []string{"from log group courier-logs and metrics of GlobalSender-Sender", `"copied":1`, `"copied":7`},
		},
		"no metrics":           {receipts: true, page: []string{`"copied":1`, "CloudWatch has no metrics of this time."}},
		"metrics denied":       {receipts: true, fault: denied, page: []string{`"copied":1`, needs}, said: needs},
		"an older stack":       {receipts: true, copied: 7, unnamed: true, page: []string{`"copied":1`, "has no output SenderName"}, said: "has no output SenderName"},
		"an empty log":         {copied: 7, page: []string{`"receipts":null`, `"copied":7`}},
		"nothing":              {code: exitFailed, said: "neither receipts nor metrics of the last 1h0m0s in log group courier-logs and metrics of GlobalSender-Sender"},
		"metrics alone":        {args: []string{"--metrics-only"}, copied: 7, page: []string{`"receipts":null`, `"copied":7`, "from metrics of GlobalSender-Sender"}},
		"none alone":           {args: []string{"--metrics-only"}, code: exitFailed, said: "no metrics of the last 1h0m0s"},
		"metrics denied alone": {args: []string{"--metrics-only"}, fault: denied, code: exitFailed, said: needs},
	} {
		t.Run(name, func(t *testing.T) {
			account := control.New(control.Config{
				Region: "us-east-1", Account: "111122223333",
				Metric: func(m control.Metric) (float64, bool) {
					return tc.copied, tc.copied > 0 && m == control.Metric{Namespace: "s3ferry", Name: "Copied", Dimension: "GlobalSender-Sender"}
				},
				Fault: func(_, action string) *control.Error {
					if action == "GetMetricData" {
						return tc.fault
					}
					return nil
				},
			})
			outputs := map[string]string{
				"CourierLogGroupName": "courier-logs", "OutboxUrl": "https://sqs/1/outbox", "OutboxDeadLetterQueueUrl": "https://sqs/1/letters",
			}
			if !tc.unnamed {
				outputs["SenderName"] = "GlobalSender-Sender"
			}
			account.PutStack(control.Stack{Region: "us-east-1", Name: "GlobalSender", Status: "CREATE_COMPLETE", Outputs: outputs})
			var asked map[string]any // of the log
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Amz-Target") != "Logs_20140328.FilterLogEvents" {
					account.ServeHTTP(w, r)
					return
				}
				if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
					t.Error(err)
				}
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				events := []any{}
				if tc.receipts {
					events = append(events, map[string]any{"message": receiptLine()})
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"events": events})
			}))
			defer server.Close()
			writeProfiles(t, server.URL)

			args := append([]string{"report", "--global-profile", "global", "--since", "1h", "--html", "-"}, tc.args...)
			stdout, stderr, code := command(t.Context(), args...)
			if code != tc.code || !strings.Contains(stderr, tc.said) || (tc.said == "") != (stderr == "") || (len(tc.page) > 0) != (stdout != "") {
				t.Errorf("exit code %d and %q, want %d and %q; a page of %d bytes", code, stderr, tc.code, tc.said, len(stdout))
			}
			for _, want := range tc.page {
				if !strings.Contains(stdout, want) {
					t.Errorf("the page does not have %q", want)
				}
			}
			if len(tc.args) > 0 {
				if asked != nil {
					t.Error("the log was read")
				}
				return
			}
			since, _ := asked["startTime"].(float64)
			if age := time.Since(time.UnixMilli(int64(since))); asked["logGroupName"] != "courier-logs" || age < time.Hour || age > 2*time.Hour {
				t.Errorf("asked %v, want the last hour of courier-logs", asked)
			}
		})
	}
}
