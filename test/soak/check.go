package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/demo"
	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/journal"
	"github.com/s3ferry/s3ferry/internal/listing"
	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/sqs"
	"github.com/s3ferry/s3ferry/internal/settle"
	"github.com/s3ferry/s3ferry/internal/verify"
)

// readers is how many objects are compared at once.
const readers = 4

func client(b localcloud.Bucket) *s3.Client {
	return s3.New(s3.Options{
		Region: b.Region, BaseEndpoint: &b.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(b.AccessKeyID, b.SecretAccessKey, ""),
	})
}

// look makes the report of a cloud that is quiet.
func (s *soak) look(ctx context.Context) (*report, error) {
	r := s.newReport()
	f := findings{report: r, cloud: s.cloud, from: client(s.cloud.Source), to: client(s.cloud.Destination)}
	for _, check := range []func(context.Context) error{
		f.compareSides, f.compareBytes, f.openUploads, f.messages,
		func(ctx context.Context) error { return f.compareWritten(ctx, s.written) },
		func(context.Context) error { return f.logs(s.logs) },
	} {
		if err := check(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// findings looks for what is wrong.
type findings struct {
	report   *report
	cloud    *localcloud.Cloud
	from, to *s3.Client

	mu sync.Mutex
}

func (f *findings) wrong(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report.Wrong = append(f.report.Wrong, fmt.Sprintf(format, args...))
}

// compareSides is s3ferry verify.
func (f *findings) compareSides(ctx context.Context) error {
	summary, err := verify.Run(ctx, verify.Options{
		Source:      verify.Bucket{S3: f.from, Name: f.cloud.Source.Bucket},
		Destination: verify.Bucket{S3: f.to, Name: f.cloud.Destination.Bucket},
		Region:      f.cloud.Source.Region, Journal: journal.New(f.to, localcloud.JournalBucket),
		Found: func(d verify.Difference) error {
			f.wrong("%s: %q %s", d.Kind, d.Key, d.Reason)
			return nil
		},
	})
	f.report.Verified = summary
	return err
}

// compareWritten holds the source against what the writers know they have
// written: it is what everything else is compared with.
func (f *findings) compareWritten(ctx context.Context, w *written) error {
	found := map[string]bool{}
	for o, err := range (listing.Bucket{S3: f.from, Name: w.bucket}).Objects(ctx, listing.Range{}) {
		if err != nil {
			return err
		}
		found[o.Key] = true
		if want := w.get(o.Key).etag; o.ETag != want {
			f.wrong("the source has %q with ETag %q, and %q was written last", o.Key, o.ETag, want)
		}
	}
	for key := range w.current {
		if !found[key] {
			f.wrong("the source has lost %q", key)
		}
	}
	return nil
}

// compareBytes reads every object on both sides.
func (f *findings) compareBytes(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	from, to := demo.Side{S3: f.from, Bucket: f.cloud.Source.Bucket}, demo.Side{S3: f.to, Bucket: f.cloud.Destination.Bucket}
	there := map[string]bool{}
	for o, err := range (listing.Bucket{S3: f.to, Name: to.Bucket}).Objects(ctx, listing.Range{}) {
		if err != nil {
			return err
		}
		there[o.Key] = true
	}
	for o, err := range (listing.Bucket{S3: f.from, Name: from.Bucket}).Objects(ctx, listing.Range{}) {
		if err != nil {
			return err
		}
		f.report.Objects++
		f.report.Bytes += o.Size
		if !there[o.Key] {
			continue // missing, which compareSides has told
		}
		group.Go(func() error {
			_, differences, err := demo.Compare(ctx, from, to, o.Key)
			for _, d := range differences {
				f.wrong("corrupt: %q: %s", o.Key, d)
			}
			return err
		})
	}
	return group.Wait()
}

// openUploads looks for uploads that are under way, and for journal entries of
// such.
func (f *findings) openUploads(ctx context.Context) error {
	for o, err := range (listing.Bucket{S3: f.to, Name: localcloud.JournalBucket}).Objects(ctx, listing.Range{Prefix: envcfg.JournalUploads}) {
		if err != nil {
			return err
		}
		f.wrong("journal entry left: %s", o.Key)
	}
	pages := s3.NewListMultipartUploadsPaginator(f.to, &s3.ListMultipartUploadsInput{Bucket: &f.cloud.Destination.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list uploads at the destination: %w", err)
		}
		for _, u := range page.Uploads {
			f.wrong("open upload: %q since %s", aws.ToString(u.Key), aws.ToTime(u.Initiated).Format(time.TimeOnly))
		}
	}
	return nil
}

// messages tells of what the queues still hold.
func (f *findings) messages(ctx context.Context) error {
	for _, name := range ways {
		f.cloud.Queue(name).Pass(24 * time.Hour)
		for _, m := range all(ctx, f.cloud.Queue(name)) {
			f.wrong("stuck in the %s after %s receives: %.300s", name, m.System["ApproximateReceiveCount"], m.Body)
		}
	}
	for _, name := range []string{"outbox-dlq", "inbox-dlq"} {
		for _, m := range all(ctx, f.cloud.Queue(name)) {
			f.wrong("dead letter in %s: %s: %s: %.300s", name, attribute(m, settle.ClassAttribute), attribute(m, settle.ReasonAttribute), m.Body)
		}
	}
	return nil
}

func all(ctx context.Context, q *sqs.Queue) (messages []sqs.Received) {
	hidden, none := time.Hour, time.Duration(0)
	for {
		batch := q.Receive(ctx, sqs.ReceiveOptions{Max: 10, Visibility: &hidden, Wait: &none})
		if len(batch) == 0 {
			return messages
		}
		messages = append(messages, batch...)
	}
}

func attribute(m sqs.Received, name string) string {
	if a, ok := m.Attributes[name]; ok {
		return aws.ToString(a.StringValue)
	}
	return "no " + name
}

// logs looks for secrets in the log file: keys, tokens, and signed URLs.
func (f *findings) logs(name string) error {
	secrets := append(f.cloud.Secrets(), "X-Amz-Signature=", "X-Amz-Signature%3D", "X-Amz-Credential=", "X-Amz-Security-Token=")
	file, err := os.Open(name) //nolint:gosec // the user named it
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64*mib)
	for ; lines.Scan(); f.report.LogLines++ {
		found := slices.ContainsFunc(secrets, func(secret string) bool { return bytes.Contains(lines.Bytes(), []byte(secret)) })
		if found {
			f.wrong("a secret in line %d of the logs: %s", f.report.LogLines+1, saidBy(lines.Text()))
		}
	}
	return lines.Err()
}

// saidBy is what a log line says without its secrets: who wrote what.
func saidBy(line string) string {
	var said []string
	for _, member := range []string{`"function":"`, `"msg":"`} {
		if _, value, ok := strings.Cut(line, member); ok {
			value, _, _ = strings.Cut(value, `"`)
			said = append(said, value)
		}
	}
	return strings.Join(said, ": ")
}
