package transfer_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/transfer"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// sink is a destination that takes everything and keeps nothing, and a source
// that makes its bytes up: what is left is the engine.
type sink struct{ size int64 }

func (s sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch op := operation(r); {
	case op == "Get" && r.URL.Path == "/src/key":
		from, to := int64(0), s.size-1
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", fmt.Sprint(to-from+1))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, s.size))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.CopyN(w, zeros{}, to-from+1)
	case op == "Get", op == "Head":
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"d"`)
		switch op {
		case "Create":
			_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
		case "List":
			_, _ = io.WriteString(w, "<ListPartsResult></ListPartsResult>")
		case "Complete":
			_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"d"</ETag></CompleteMultipartUploadResult>`)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func BenchmarkPut(b *testing.B) {
	for _, size := range []int64{16 << 10, 256 << 20} {
		b.Run(fmt.Sprintf("%d_KiB", size>>10), func(b *testing.B) {
			server := httptest.NewServer(sink{size})
			defer server.Close()
			engine := transfer.New(transfer.Options{
				S3: clientOf(server.URL), Bucket: bucket, Journal: journal.New(clientOf(server.URL), journalBucket),
				HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: transfer.DefaultConnections}},
			})
			t := &wire.Transfer{
				Op: wire.OpPut, Source: wire.Source{Region: "us-east-1", Bucket: "src", Key: "key", ETag: "e", Size: size, Sequencer: "10"},
				Object: wire.Object{Checksum: &wire.Checksum{Algorithm: "CRC64NVME", Type: wire.FullObject, Value: "AAAAAAAAAAA="}},
				URL:    secret.New(server.URL + "/src/key"), NotAfter: time.Now().Add(time.Hour),
			}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if r, err := engine.Put(b.Context(), t, false); err != nil || r.Outcome != wire.Copied {
					b.Fatal(r.Outcome, err)
				}
			}
		})
	}
}
