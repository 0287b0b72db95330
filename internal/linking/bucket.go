package linking

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3ferry/s3ferry/internal/link"
)

// Buckets is what a side asks of *s3.Client.
type Buckets interface {
	HeadBucket(context.Context, *s3.HeadBucketInput, ...func(*s3.Options)) (*s3.HeadBucketOutput, error)
	GetBucketNotificationConfiguration(context.Context, *s3.GetBucketNotificationConfigurationInput, ...func(*s3.Options)) (*s3.GetBucketNotificationConfigurationOutput, error)
}

var _ Buckets = (*s3.Client)(nil)

// The values of a sender's output SourceEvents: how its bucket tells of new
// objects. A stack from before that output has none.
const (
	byEventBridge   = "EventBridge"
	byNotifications = "Notifications"
)

// checkSources reports source buckets that are elsewhere, or from which the
// outbox would never hear.
func (g *Global) checkSources(ctx context.Context, state globalState, sources []link.Source) error {
	errs := make([]error, len(sources))
	var wg sync.WaitGroup
	for i, source := range sources {
		events := "" // the stack says it of its first bucket only
		if source == state.source {
			events = state.events
		}
		wg.Go(func() {
			if errs[i] = g.checkBucket(ctx, g.Buckets, "source", source.Bucket, source.Region); errs[i] == nil {
				errs[i] = g.checkEvents(ctx, source.Bucket, state.outbox, events)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// checkBucket reports a bucket that is not in the region. S3 tells the region of
// any bucket, also to somebody who may not look into it.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
func (s *Side) checkBucket(ctx context.Context, client Buckets, what, bucket, region string) error {
	out, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
	var in string
	if err == nil {
		in = aws.ToString(out.BucketRegion)
	} else if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		if response.HTTPStatusCode() == http.StatusNotFound {
			return fmt.Errorf("profile %q: there is no %s bucket %s: name one that exists and deploy stack %s again", s.Profile, what, bucket, s.Stack)
		}
		in = response.Response.Header.Get("X-Amz-Bucket-Region")
	}
	switch {
	case in == region:
		return nil
	case in != "":
		return fmt.Errorf("%s bucket %s is in %s, and stack %s is in %s: name a bucket of that region, or deploy the stack to the bucket's",
			what, bucket, in, s.Stack, region)
	case err == nil:
		return fmt.Errorf("profile %q: S3 does not tell the region of bucket %s", s.Profile, bucket)
	}
	return s.explain("look at bucket "+bucket, "s3:ListBucket on it", err)
}

// checkEvents reports a source bucket that does not tell the outbox of new
// objects: because nobody has turned its events on, or because somebody has
// overwritten its notifications since.
func (g *Global) checkEvents(ctx context.Context, bucket, outbox, events string) error {
	if events != "" && events != byEventBridge && events != byNotifications {
		return nil // whoever gave the outbox sees to that
	}
	out, err := g.Buckets.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	if err != nil {
		return g.explain("read the notifications of bucket "+bucket, "s3:GetBucketNotification on it", err)
	}
	notified, others := notifies(out, outbox)
	bridged := out.EventBridgeConfiguration != nil
	if events != byNotifications && bridged || events != byEventBridge && notified {
		return nil
	}
	if events == byNotifications {
		advice := "deploy stack " + g.Stack + " again"
		if len(others) > 0 {
			advice = fmt.Sprintf("S3 notifies one only of a key, and now that is %s: have that one take other keys and deploy stack %s again, or let the sender use EventBridge",
				strings.Join(others, ", "), g.Stack)
		}
		return fmt.Errorf("source bucket %s does not notify the outbox of new objects any more: %s", bucket, advice)
	}
	return fmt.Errorf("source bucket %s does not send its events to EventBridge, so nothing would arrive: turn that on (Properties, Amazon EventBridge), which leaves its other notifications alone", bucket)
}

// notifies reports whether the notifications tell the queue of new objects, and
// whom else, by ARN.
func notifies(n *s3.GetBucketNotificationConfigurationOutput, queueURL string) (queue bool, others []string) {
	told := func(to *string, events []types.Event) bool {
		if !slices.ContainsFunc(events, func(e types.Event) bool { return strings.HasPrefix(string(e), "s3:ObjectCreated:") }) {
			return false
		}
		if !slices.Contains(others, aws.ToString(to)) {
			others = append(others, aws.ToString(to))
		}
		return true
	}
	for _, c := range n.TopicConfigurations {
		told(c.TopicArn, c.Events)
	}
	for _, c := range n.LambdaFunctionConfigurations {
		told(c.LambdaFunctionArn, c.Events)
	}
	for _, c := range n.QueueConfigurations {
		if told(c.QueueArn, c.Events) && isQueue(aws.ToString(c.QueueArn), queueURL) {
			queue = true
		}
	}
	return queue, others
}

// isQueue reports whether an ARN and a URL end in the same account and name.
func isQueue(arn, url string) bool {
	a, u := strings.Split(arn, ":"), strings.Split(url, "/")
	return len(a) >= 2 && len(u) >= 2 && slices.Equal(a[len(a)-2:], u[len(u)-2:])
}

// wrong is what a check of a bucket found, as reasons against a link. What could
// not be asked is an error.
func wrong(check error) (why []string, err error) {
	if _, ok := errors.AsType[smithy.APIError](check); ok || check == nil {
		return nil, check
	}
	return []string{check.Error()}, nil
}
