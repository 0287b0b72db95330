package e2e

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// A deletion at the source is one at the destination, whatever comes late, and a
// delete marker that is removed brings the object back. A versioned destination
// keeps what it had.
func TestDeletionsAreCarried(t *testing.T) { eachReceiver(t, testDeletionsAreCarried) }

func testDeletionsAreCarried(t *testing.T, start func(*testing.T, ...string) *local) {
	l := start(t, "--deletes")
	if _, err := l.destination.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &l.Destination.Bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	}); err != nil {
		t.Fatal(err)
	}
	put := l.put(t, "to be deleted ", "k", "kept")
	for key, etag := range put {
		l.arrived(t, key, etag)
	}
	early := l.sourceOf(t, "k")

	marker, err := l.source.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.Source.Bucket, Key: aws.String("k")})
	if err != nil || !aws.ToBool(marker.DeleteMarker) {
		t.Fatalf("got %+v, %v, want a delete marker", marker, err)
	}
	eventually(t, "the deletion arrives", func() bool { return l.gone(t, "k") })
	versions, err := l.destination.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &l.Destination.Bucket, Prefix: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	if len(versions.DeleteMarkers) != 1 || len(versions.Versions) != 2 {
		t.Errorf("the destination has %d delete markers and %d versions, want 1 and those of 2 objects", len(versions.DeleteMarkers), len(versions.Versions))
	}

	// The event of the version that was deleted comes again, late.
	body := event.Encode(wire.OpPut, early)
	if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &l.SQS.Queues.Outbox, MessageBody: &body}); err != nil {
		t.Fatal(err)
	}
	l.quiet(t)
	if !l.gone(t, "k") {
		t.Error("a late older event brought the object back")
	}

	if _, err := l.source.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.Source.Bucket, Key: aws.String("k"), VersionId: marker.VersionId}); err != nil {
		t.Fatal(err)
	}
	l.arrived(t, "k", put["k"])
	l.quiet(t)
	if v, code := l.verify(t); code != 0 {
		t.Errorf("at the end: exit %d and %+v", code, v)
	}
}

// What only the destination has is deleted where that is asked for.
func TestVerifyDeletesWhatIsExtra(t *testing.T) {
	t.Parallel()
	l := startLocal(t) // without deletions: they are missed
	for key, etag := range l.put(t, "x ", "extra", "kept") {
		l.arrived(t, key, etag)
	}
	l.quiet(t)
	if _, err := l.source.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &l.Source.Bucket, Key: aws.String("extra")}); err != nil {
		t.Fatal(err)
	}
	// Signed by the sender's key, and refused: this receiver carries no deletions.
	out, code := l.run(t, "verify", "--repair", "--delete-extra", "--json")
	if code != 1 || !strings.Contains(out, `"extra":1`) || !strings.Contains(out, `"queued":1`) {
		t.Errorf("exit %d and %q, want one deletion queued", code, out)
	}
	l.quiet(t)
	if l.gone(t, "extra") || l.gone(t, "kept") {
		t.Error("a sender without deletions has carried one")
	}
	key := l.signingKey(t)
	source := l.sourceOf(t, "kept")
	source.ETag, source.Size, source.Sequencer = "", 0, "FF"
	message, err := wire.Sign(&wire.Transfer{
		ID: wire.ID(wire.OpDelete, source), Op: wire.OpDelete, Source: source, NotAfter: source.EventTime.AddDate(1, 0, 0),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &l.SQS.Queues.Inbox, MessageBody: &message}); err != nil {
		t.Fatal(err)
	}
	letter := l.letter(t, l.SQS.Queues.InboxDlq, message)
	if got := aws.ToString(letter.MessageAttributes["s3ferry-class"].StringValue); got != "deletes-off" || l.gone(t, "kept") {
		t.Errorf("got class %q, want deletes-off", got)
	}
}

// gone reports whether the destination has no such object.
func (l *local) gone(t *testing.T, key string) bool {
	t.Helper()
	_, err := l.destination.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &l.Destination.Bucket, Key: &key})
	return err != nil && strings.Contains(err.Error(), "StatusCode: 404")
}
