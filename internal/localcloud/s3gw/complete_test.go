package s3gw_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

// BenchmarkComplete is what this server takes to make one object of 1 GiB of its
// parts: it copies them, which a benchmark of a transfer has to know.
func BenchmarkComplete(b *testing.B) {
	const parts, size = 128, 8 << 20
	server, err := s3gw.Start(b.Context(), config(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop(context.Background()) })
	c, body := client(server), random(size, 1)
	b.SetBytes(parts * size)
	for b.Loop() {
		b.StopTimer()
		create, err := c.CreateMultipartUpload(b.Context(), &s3.CreateMultipartUploadInput{
			Bucket: aws.String(plain), Key: aws.String("large"),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
		})
		if err != nil {
			b.Fatal(err)
		}
		var done []types.CompletedPart
		for n := range int32(parts) {
			out, err := c.UploadPart(b.Context(), &s3.UploadPartInput{
				Bucket: aws.String(plain), Key: aws.String("large"), UploadId: create.UploadId, PartNumber: aws.Int32(n + 1),
				Body: bytes.NewReader(body), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
			})
			if err != nil {
				b.Fatal(err)
			}
			done = append(done, types.CompletedPart{PartNumber: aws.Int32(n + 1), ETag: out.ETag, ChecksumCRC64NVME: out.ChecksumCRC64NVME})
		}
		b.StartTimer()
		if _, err := c.CompleteMultipartUpload(b.Context(), &s3.CompleteMultipartUploadInput{
			Bucket: aws.String(plain), Key: aws.String("large"), UploadId: create.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: done}, ChecksumType: types.ChecksumTypeFullObject,
		}); err != nil {
			b.Fatal(err)
		}
	}
}
