package localcloud_test

import (
	"strings"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
)

// Every call of the functions comes through a gate, and an object arrives in
// spite of what the gates do.
func TestAGatedCloud(t *testing.T) {
	cloud := start(t, localcloud.Options{Gated: true, CourierInterval: 50 * time.Millisecond})
	busy := gate.Fault{Status: 503, Body: "<Error><Code>SlowDown</Code></Error>"}
	faults := map[string]func() int{
		"API":         cloud.Gates.API.Arm(1, func(op string) bool { return op == "POST /prod/transfers" }, gate.Fault{}),
		"border":      cloud.Gates.Border.Arm(1, nil, busy),
		"source":      cloud.Gates.Source.Arm(1, nil, gate.Fault{Late: true}),
		"destination": cloud.Gates.Destination.Arm(1, nil, gate.Fault{Late: true}),
		"services":    cloud.Gates.Services.Arm(1, nil, gate.Fault{}),
	}
	put(t, cloud, "key", "through the gates")
	if body, _ := arrived(t, cloud, "key"); body != "through the gates" {
		t.Errorf("got %q", body)
	}
	for name, hits := range faults {
		if hits() != 1 {
			t.Errorf("the fault at the %s happened %d times", name, hits())
		}
	}
	for operation, counts := range map[string]map[string]int64{
		"POST /prod/transfers": cloud.Gates.API.Counts(), "GetObject": cloud.Gates.Border.Counts(),
		"HeadObject": cloud.Gates.Source.Counts(), "PutObject": cloud.Gates.Destination.Counts(),
		"AmazonSSM.GetParameter": cloud.Gates.Services.Counts(),
	} {
		if counts[operation] == 0 {
			t.Errorf("no %s was counted, but %v", operation, counts)
		}
	}
	// The API key, the signing key in two forms, two root secrets, and of a session its secret and token.
	known := cloud.Secrets()
	if len(known) < 7 || !strings.Contains(strings.Join(known, " "), cloud.API.Key) {
		t.Errorf("%d secrets are known", len(known))
	}
	if cloud.Totals().Events == 0 || cloud.Queue("inbox").Name() != "inbox" {
		t.Error("the totals or the queues are not those of the cloud")
	}
}
