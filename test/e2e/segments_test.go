package e2e

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// One object is carried by several receivers at once, all of which are killed in
// the middle; it arrives whole, and the journal forgets.
func TestAnObjectInSegmentsIsCarriedByManyReceivers(t *testing.T) {
	eachReceiver(t, testAnObjectInSegmentsIsCarriedByManyReceivers)
}

func testAnObjectInSegmentsIsCarriedByManyReceivers(t *testing.T, start func(*testing.T, ...string) *local) {
	if runtime.GOOS != "linux" {
		t.Skip("finds the receivers' processes in /proc")
	}
	const key, size, segment = "large.bin", 64 << 20, 16 << 20
	link := startRelay(t, 0)
	// At most one segment gets done, so the others need a receiver each.
	release := link.hold(size/4 + 4<<20)
	settings := envcfg.Encode(&envcfg.Receiver{SegmentSize: segment})
	const variable = "S3FERRY_SEGMENT_SIZE"
	l := start(t, "--presign-endpoint", link.url, "--env", variable+"="+settings[variable])
	link.to(t, l.Source)
	content := body(size)
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &l.Source.Bucket, Key: aws.String(key), Body: bytes.NewReader(content),
	})
	if err != nil {
		t.Fatal(err)
	}
	// A receiver killed before it has begun would leave its segment hidden for as
	// long as the queue says.
	eventually(t, "every segment to be asked for, and a quarter of the bytes", func() bool {
		begun := map[int]bool{}
		for _, asked := range link.since(time.Time{}) {
			var first int
			if _, err := fmt.Sscanf(asked, "bytes=%d-", &first); err != nil {
				t.Fatalf("a receiver asked for %q: %v", asked, err)
			}
			begun[first/segment] = true
		}
		return len(begun) == size/segment && link.bytes() > size/4
	})
	// A worker is many in one process.
	if killed := l.killReceivers(t); l.worker == nil && killed <= 2 {
		t.Errorf("%d receivers were at work, want several", killed)
	}
	release()
	l.arrived(t, key, *put.ETag)

	l.holds(t, key, content)
	eventually(t, "no journal entry to be left", func() bool {
		entries, err := l.destination.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{
			Bucket: aws.String(localcloud.JournalBucket), Prefix: aws.String(envcfg.JournalUploads),
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(entries.Contents) == 0
	})
	t.Logf("%d bytes came over the link for %d", link.bytes(), size)
}
