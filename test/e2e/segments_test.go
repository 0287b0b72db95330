package e2e

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

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
	port := freePort(t)
	link := startRelay(t, port, 12<<20)
	settings := envcfg.Encode(&envcfg.Receiver{SegmentSize: 16 << 20})
	const variable = "S3FERRY_SEGMENT_SIZE"
	l := start(t, "--source-port", fmt.Sprint(port), "--presign-endpoint", link.url, "--env", variable+"="+settings[variable])
	const key, size = "large.bin", 64 << 20
	content := body(size)
	put, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &l.Source.Bucket, Key: aws.String(key), Body: bytes.NewReader(content),
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "several receivers, and a quarter of the bytes", func() bool {
		// A worker is many in one process.
		return (l.worker != nil || len(l.receivers(t)) > 2) && link.bytes() > size/4
	})
	l.killReceivers(t)
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
