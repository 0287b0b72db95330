package s3gw_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A part that is still on its way when its upload ends must not open it again: after
// a kill, or with two workers on one transfer, that would leave an upload which its
// owner has ended.
func TestAPartUnderWayDoesNotReopenItsUpload(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *s3.Client, *string){
		"aborted": func(t *testing.T, c *s3.Client, upload *string) {
			if _, err := c.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{
				Bucket: aws.String(plain), Key: aws.String("key"), UploadId: upload,
			}); err != nil {
				t.Fatal(err)
			}
		},
		"completed": func(t *testing.T, c *s3.Client, upload *string) {
			if err := finish(t, c, plain, "key", upload, random(1000, 1), nil, nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(start(t, config(t.TempDir())))
			upload := createUpload(t, c, plain, "key")
			const size = 8 << 20 // more than connections hold that nobody reads
			under, last := make(chan struct{}), make(chan struct{})
			body := io.MultiReader(bytes.NewReader(random(size-1, 2)), &late{asked: under, until: last})
			answered := make(chan error, 1)
			go func() {
				_, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
					Bucket: aws.String(plain), Key: aws.String("key"), UploadId: upload, PartNumber: aws.Int32(2),
					Body: body, ContentLength: aws.Int64(size),
				}, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware), func(o *s3.Options) {
					o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
					o.Retryer = aws.NopRetryer{}
				})
				answered <- err
			}()
			select {
			case <-under:
			case err := <-answered:
				t.Fatalf("the part ended before its last byte: %v", err)
			}
			end(t, c, upload)
			close(last)
			err := <-answered
			out, listErr := c.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(plain)})
			if listErr != nil {
				t.Fatal(listErr)
			}
			wantError(t, "the part", err, 404, "NoSuchUpload")
			if n := len(out.Uploads); n != 0 {
				t.Errorf("%d uploads are open", n)
			}
		})
	}
}

// late is one byte that comes when until is closed. It closes asked once it is
// asked for it.
type late struct{ asked, until chan struct{} }

func (l *late) Read(p []byte) (int, error) {
	if l.until == nil {
		return 0, io.EOF
	}
	close(l.asked)
	<-l.until
	l.until = nil
	p[0] = 'x'
	return 1, nil
}
