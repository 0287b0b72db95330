package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
)

// fault is what can be switched on, or done, to the cloud.
type fault struct {
	Name   string
	Title  string
	Effect string // what s3ferry does about it
	Once   bool   // done, not switched

	change func(on bool)
	on     *atomic.Bool
}

func (f *fault) set(on bool) {
	f.change(on)
	f.on.Store(on && !f.Once)
}

func (f *fault) isOn() bool { return f.on.Load() }

// faults returns those of a gated cloud, all off.
func faults(cloud *localcloud.Cloud) []fault {
	gates := cloud.Gates
	all := []fault{
		{
			Name: "border", Title: "Close the border",
			Effect: "Nothing crosses, either way. Events wait in the outbox, half-carried objects in the inbox and the journal.",
			change: func(on bool) {
				for _, g := range []*gate.Gate{gates.API, gates.Border} {
					if on {
						g.Close()
					} else {
						g.Open()
					}
				}
			},
		},
		{
			Name: "slow", Title: "Slow border, 4 MB/s",
			Effect: "All pulls share it. Put a large object in and look at the connections; small ones still get their turn.",
			change: func(on bool) {
				limit := math.MaxFloat64
				if on {
					limit = slowRate
				}
				gates.Border.Limit(limit)
			},
		},
		{
			Name: "throttle", Title: "Mailbox answers 429",
			Effect: "The sender backs off and leaves events in the outbox. The courier comes back in its next round.",
			change: answer(gates.API, gate.Fault{
				Status: http.StatusTooManyRequests, Body: `{"message":"Too Many Requests"}`,
				Header: http.Header{"Content-Type": {"application/json"}, "X-Amzn-Errortype": {"TooManyRequestsException"}},
			}),
		},
		{
			Name: "busy", Title: "Destination answers 503",
			Effect: "Receivers try again, then leave transfers in the inbox, for longer each time.",
			change: answer(gates.Destination, gate.Fault{
				Status: http.StatusServiceUnavailable, Body: "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
			}),
		},
		{
			Name: "kill", Title: "Kill the receivers", Once: true,
			Effect: "As a crash would. Within half a minute others go on, from the parts that are there.",
			change: func(bool) {
				receivers := cloud.Function(localcloud.Receiver)
				for range receivers.PIDs() {
					receivers.Kill()
				}
			},
		},
	}
	for i := range all {
		all[i].on = new(atomic.Bool)
	}
	return all
}

// answer switches an answer that every request meets.
func answer(g *gate.Gate, f gate.Fault) func(on bool) {
	return func(on bool) {
		g.Disarm()
		if on {
			g.Arm(math.MaxInt, nil, f)
		}
	}
}

const (
	slowRate = 4e6 // bytes a second
	maxCount = 500
	maxSize  = 256 << 20
	calls    = 8 // at once
)

func client(b localcloud.Bucket) *s3.Client {
	return s3.New(s3.Options{
		Region: b.Region, BaseEndpoint: &b.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.AccessKeyID, b.SecretAccessKey, ""),
	})
}

// put puts objects of random bytes into the source bucket, under new keys.
func put(ctx context.Context, b localcloud.Bucket, count int, size int64) error {
	client := client(b)
	body := make([]byte, size)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(body) // it never fails
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(calls)
	for range count {
		group.Go(func() error {
			key := fmt.Sprintf("live/%08x.bin", rand.Uint32()) //nolint:gosec // a name
			_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(b.Bucket), Key: &key, Body: bytes.NewReader(body)})
			if err != nil {
				return fmt.Errorf("put %s: %w", key, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// remove deletes the first objects of the source bucket, in the order of their
// keys, or all if there are not so many.
func remove(ctx context.Context, b localcloud.Bucket, count int) error {
	client := client(b)
	listed, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.Bucket, MaxKeys: aws.Int32(int32(count))}) //nolint:gosec // at most maxCount
	if err != nil {
		return fmt.Errorf("list the source: %w", err)
	}
	if len(listed.Contents) == 0 {
		return errors.New("the source bucket is empty: put something in")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(calls)
	for _, object := range listed.Contents {
		group.Go(func() error {
			if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Bucket, Key: object.Key}); err != nil {
				return fmt.Errorf("delete %s: %w", *object.Key, err)
			}
			return nil
		})
	}
	return group.Wait()
}
