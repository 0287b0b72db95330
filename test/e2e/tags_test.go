package e2e

import (
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/internal/event"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// Tags that change arrive, one version's on its own copy, also while that is made.
func TestChangesOfTagsAreCarried(t *testing.T) { eachReceiver(t, testChangesOfTagsAreCarried) }

func testChangesOfTagsAreCarried(t *testing.T, start func(*testing.T, ...string) *local) {
	l := start(t, "--tag-changes")
	key := "报告/a +%.txt"
	l.arrived(t, key, l.put(t, "tagged ", key)[key])
	for _, want := range []map[string]string{{"team": "east + west", "年": "2026"}, {"team": "south"}, {}} {
		l.tagSource(t, key, want)
		eventually(t, "the tags arrive", func() bool { return maps.Equal(l.tags(t, key), want) })
	}

	// Which of the two comes first is open.
	quick := []string{"q1", "q2", "q3", "q4", "q5"}
	etags := map[string]string{}
	for _, key := range quick {
		etags[key] = l.put(t, "tagged at once ", key)[key]
		l.tagSource(t, key, map[string]string{"n": "1"})
		l.tagSource(t, key, map[string]string{"n": "2"})
	}
	for _, key := range quick {
		l.arrived(t, key, etags[key])
		eventually(t, "the tags arrive", func() bool { return maps.Equal(l.tags(t, key), map[string]string{"n": "2"}) })
	}

	// The tags of an old version stay with it.
	old := l.sourceOf(t, key)
	l.arrived(t, key, l.put(t, "newer ", key)[key])
	old.Size, old.Sequencer = 0, ""
	body := event.Encode(wire.OpTag, old)
	if _, err := l.source.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{
		Bucket: &l.Source.Bucket, Key: &key, VersionId: &old.VersionID, Tagging: tagging(map[string]string{"old": "1"}),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.queues.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &l.SQS.Queues.Outbox, MessageBody: &body}); err != nil {
		t.Fatal(err)
	}
	l.quiet(t)
	if got := l.tags(t, key); len(got) > 0 {
		t.Errorf("the newer version has the tags %v, want none", got)
	}
}

// Tags whose change nobody told of are found, and carried where that is asked for.
func TestVerifyRepairsTags(t *testing.T) {
	t.Parallel()
	l := startLocal(t, "--tag-changes")
	put := l.put(t, "x ", "k", "other")
	for key, etag := range put {
		l.arrived(t, key, etag)
	}
	if _, err := l.destination.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{
		Bucket: &l.Destination.Bucket, Key: aws.String("k"), Tagging: tagging(map[string]string{"by": "somebody"}),
	}); err != nil {
		t.Fatal(err)
	}
	l.quiet(t)
	if out, code := l.run(t, "verify", "--json"); code != 0 {
		t.Errorf("without --tags: exit %d and %q", code, out)
	}
	if out, code := l.run(t, "verify", "--tags", "--repair", "--json"); code != 1 || !strings.Contains(out, `"stale":1`) || !strings.Contains(out, `"queued":1`) {
		t.Errorf("exit %d and %q, want one repair", code, out)
	}
	eventually(t, "the tags are repaired", func() bool { return len(l.tags(t, "k")) == 0 })
	l.quiet(t)
	if out, code := l.run(t, "verify", "--tags", "--json"); code != 0 {
		t.Errorf("at the end: exit %d and %q", code, out)
	}
}

// A copy onto itself, which is how S3 changes metadata, is an event like any other,
// although the bytes and so the ETag are the same.
func TestMetadataThatIsReplacedArrives(t *testing.T) {
	t.Parallel()
	l := startLocal(t)
	key := "in place"
	etag := l.put(t, "the same bytes ", key)[key]
	l.arrived(t, key, etag)
	copied, err := l.source.CopyObject(t.Context(), &s3.CopyObjectInput{
		Bucket: &l.Source.Bucket, Key: &key, CopySource: aws.String(l.Source.Bucket + "/in%20place"),
		MetadataDirective: types.MetadataDirectiveReplace, Metadata: map[string]string{"author": "other"},
		ContentType: aws.String("text/x-other"), CacheControl: aws.String("no-store"), WebsiteRedirectLocation: aws.String("/elsewhere"),
		TaggingDirective: types.TaggingDirectiveReplace, Tagging: aws.String("team=west"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if *copied.CopyObjectResult.ETag != etag {
		t.Fatalf("the copy has ETag %s, want the same as before, %s", *copied.CopyObjectResult.ETag, etag)
	}
	var head *s3.HeadObjectOutput
	eventually(t, "the metadata arrives", func() bool {
		head, err = l.destination.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &l.Destination.Bucket, Key: &key})
		return err == nil && head.Metadata["author"] == "other"
	})
	if aws.ToString(head.ContentType) != "text/x-other" || aws.ToString(head.CacheControl) != "no-store" || aws.ToString(head.WebsiteRedirectLocation) != "/elsewhere" ||
		head.Metadata["s3ferry-source-version"] != aws.ToString(copied.VersionId) {
		t.Errorf("got %+v, want the copy's headers and version %s", head, aws.ToString(copied.VersionId))
	}
	if diff := cmp.Diff(map[string]string{"team": "west"}, l.tags(t, key)); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

func tagging(tags map[string]string) *types.Tagging {
	set := []types.Tag{}
	for key, value := range tags {
		set = append(set, types.Tag{Key: &key, Value: &value})
	}
	return &types.Tagging{TagSet: set}
}

func (l *local) tagSource(t *testing.T, key string, tags map[string]string) {
	t.Helper()
	if _, err := l.source.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{
		Bucket: &l.Source.Bucket, Key: &key, Tagging: tagging(tags),
	}); err != nil {
		t.Fatal(err)
	}
}

// tags returns those of the destination's object.
func (l *local) tags(t *testing.T, key string) map[string]string {
	t.Helper()
	out, err := l.destination.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: &l.Destination.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, tag := range out.TagSet {
		tags[*tag.Key] = *tag.Value
	}
	return tags
}
