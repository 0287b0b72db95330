package e2e

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

// What the constructs promise of keys and storage classes, by the variables that
// they set.
func TestKeysAndStorageClassesAreMapped(t *testing.T) {
	t.Parallel()
	props := envcfg.Encode(&envcfg.Receiver{
		StripPrefix: "out/年 ", AddPrefix: "from/{region}/{bucket}/",
		StorageClasses: map[string]string{"STANDARD": "STANDARD_IA", "REDUCED_REDUNDANCY": "STANDARD"},
	})
	var args []string
	for _, name := range []string{"S3FERRY_STRIP_PREFIX", "S3FERRY_ADD_PREFIX", "S3FERRY_STORAGE_CLASSES"} {
		args = append(args, "--env", name+"="+props[name])
	}
	l := startLocal(t, args...)
	put := func(key string, class types.StorageClass, content []byte) string {
		t.Helper()
		out, err := l.source.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &l.Source.Bucket, Key: &key, Body: bytes.NewReader(content), StorageClass: class,
		})
		if err != nil {
			t.Fatal(err)
		}
		return *out.ETag
	}
	put("elsewhere", "", body(10))

	into := "from/" + l.Source.Region + "/" + l.Source.Bucket + "/"
	for _, tc := range []struct {
		key         string
		size        int
		class, want types.StorageClass
	}{
		{"报 +%.bin", 70_000, types.StorageClassStandard, types.StorageClassStandardIa},
		{"报 +%.bin", 70_001, types.StorageClassOnezoneIa, types.StorageClassOnezoneIa}, // overwritten in order
		{"large.bin", 17 << 20, types.StorageClassReducedRedundancy, types.StorageClassStandard},
	} {
		content := body(tc.size)
		etag := put("out/年 "+tc.key, tc.class, content)
		head := l.arrived(t, into+tc.key, etag)
		// A HEAD leaves out STANDARD.
		if got := head.StorageClass; got != tc.want && (got != "" || tc.want != types.StorageClassStandard) {
			t.Errorf("%s: got storage class %q, want %s", tc.key, got, tc.want)
		}
		object, err := l.destination.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &l.Destination.Bucket, Key: aws.String(into + tc.key)})
		if err != nil {
			t.Fatal(err)
		}
		if arrived, err := io.ReadAll(object.Body); err != nil || !bytes.Equal(arrived, content) {
			t.Errorf("%s: got %d other bytes, %v", tc.key, len(arrived), err)
		}
	}

	letter := l.letter(t, l.SQS.Queues.InboxDlq, "") // its body is signed, so nothing of it is text
	if class := aws.ToString(letter.MessageAttributes["s3ferry-class"].StringValue); class != "key-mapping" {
		t.Errorf("got class %q", class)
	}
	if reason := aws.ToString(letter.MessageAttributes["s3ferry-reason"].StringValue); !strings.Contains(reason, `got "elsewhere", expected it to begin with "out/年 "`) {
		t.Errorf("got reason %q", reason)
	}
	listed, err := l.destination.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &l.Destination.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.Contents) != 2 {
		t.Errorf("%d objects at the destination, want 2", len(listed.Contents))
	}
}
