package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

const (
	sourceRegion      = "us-east-1"
	destinationRegion = "cn-north-1"
	sourceBucket      = "source"
	destinationBucket = "destination"
	journalBucket     = "journal"
)

// server is an S3 server with its first bucket.
type server struct {
	*s3gw.Server
	store
}

// startServer starts an S3 server in dir with the buckets.
func startServer(ctx context.Context, dir, region string, buckets ...string) (*server, error) {
	cfg := s3gw.Config{Dir: dir, Region: region, AccessKeyID: "AKIA" + rand.Text()[:16], SecretAccessKey: rand.Text()}
	for _, name := range buckets {
		cfg.Buckets = append(cfg.Buckets, s3gw.Bucket{Name: name})
	}
	s, err := s3gw.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &server{Server: s, store: store{s.Endpoint, region, buckets[0], cfg.AccessKeyID, cfg.SecretAccessKey}}, nil
}

// withDestination calls f with an empty destination that is gone afterwards.
func withDestination(ctx context.Context, dir string, f func(*server) error) error {
	dir, err := os.MkdirTemp(dir, "destination-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	destination, err := startServer(ctx, dir, destinationRegion, destinationBucket, journalBucket)
	if err != nil {
		return err
	}
	defer destination.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // its directory goes anyway
	return f(destination)
}

func (s store) client() *s3.Client {
	return s3.New(s3.Options{
		Region: s.Region, BaseEndpoint: &s.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretAccessKey, ""),
	})
}

// fill puts the objects of work into the bucket.
func (s store) fill(ctx context.Context, work string, sizes []int64) ([]object, error) {
	client := s.client()
	objects := make([]object, len(sizes))
	g, ctx := errgroup.WithContext(ctx)
	const uploads = 4
	g.SetLimit(uploads)
	for i, size := range sizes {
		g.Go(func() error {
			body := newNoise(int64(i), size)
			out, err := client.PutObject(ctx, &s3.PutObjectInput{
				Bucket: &s.Bucket, Key: aws.String(key(work, i)), Body: body, ContentLength: &size,
				ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
			}, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
			if err != nil {
				return fmt.Errorf("put %s: %w", key(work, i), err)
			}
			objects[i] = object{
				Key: key(work, i), Size: size, ETag: strings.Trim(aws.ToString(out.ETag), `"`),
				CRC64: aws.ToString(out.ChecksumCRC64NVME), Uploaded: time.Now().UTC(),
			}
			return nil
		})
	}
	return objects, g.Wait()
}

// check returns how many objects of the job are at the destination in full
// length, and their bytes.
func (j job) check(ctx context.Context) (objects int, bytes int64, err error) {
	there := map[string]int64{}
	pages := s3.NewListObjectsV2Paginator(j.Destination.client(), &s3.ListObjectsV2Input{Bucket: &j.Destination.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("list the destination: %w", err)
		}
		for _, o := range page.Contents {
			there[aws.ToString(o.Key)] = aws.ToInt64(o.Size)
		}
	}
	for _, o := range j.Objects {
		if size, ok := there[o.Key]; ok && size == o.Size {
			objects++
			bytes += size
		}
	}
	return objects, bytes, nil
}

// noise is size bytes that do not compress, and takes the memory of one block,
// which it repeats.
type noise struct {
	block        []byte
	size, offset int64
}

func newNoise(seed, size int64) *noise {
	block := make([]byte, min(size, miB))
	_, _ = mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(block) //nolint:gosec // bits, not a quantity
	return &noise{block: block, size: size}
}

func (n *noise) Read(p []byte) (int, error) {
	if n.offset >= n.size {
		return 0, io.EOF
	}
	read := copy(p, n.block[n.offset%int64(len(n.block)):])
	read = int(min(int64(read), n.size-n.offset))
	n.offset += int64(read)
	return read, nil
}

func (n *noise) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += n.offset
	case io.SeekEnd:
		offset += n.size
	}
	if offset < 0 {
		return 0, errors.New("seek: got a place before the start")
	}
	n.offset = offset
	return offset, nil
}

// cacheDir returns where built binaries are kept between runs.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	dir = filepath.Join(dir, "s3ferry-bench")
	return dir, os.MkdirAll(dir, 0o750)
}
