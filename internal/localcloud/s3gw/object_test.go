package s3gw_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"github.com/minio/crc64nvme"
)

func sum64(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(data)))
}

// properties is what must be the same on both sides of a ferry.
type properties struct {
	Type, Cache, Disposition, Encoding, Language, Expires, Checksum string
	ChecksumType                                                    types.ChecksumType
	Class                                                           types.StorageClass
	Metadata                                                        map[string]string
	Size                                                            int64
	Tags                                                            map[string]string
}

func propertiesOf(t *testing.T, c *s3.Client, bucket, key string) properties {
	t.Helper()
	head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	tagging, err := c.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, tag := range tagging.TagSet {
		tags[*tag.Key] = *tag.Value
	}
	return properties{
		Type: aws.ToString(head.ContentType), Cache: aws.ToString(head.CacheControl),
		Disposition: aws.ToString(head.ContentDisposition), Encoding: aws.ToString(head.ContentEncoding),
		Language: aws.ToString(head.ContentLanguage), Expires: aws.ToString(head.ExpiresString),
		Checksum: aws.ToString(head.ChecksumCRC64NVME), ChecksumType: head.ChecksumType,
		Class: head.StorageClass, Metadata: head.Metadata, Size: aws.ToInt64(head.ContentLength), Tags: tags,
	}
}

func TestObjectKeepsItsProperties(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	data := []byte("some text")
	want := properties{
		Type: "text/plain; charset=utf-8", Cache: "max-age=60", Disposition: `attachment; filename="a b.txt"`,
		Encoding: "gzip", Language: "zh-CN", Expires: "Thu, 01 Dec 2033 16:00:00 GMT",
		Checksum: sum64(data), ChecksumType: types.ChecksumTypeFullObject, Class: types.StorageClassStandardIa,
		// More than fits into the 4 KiB that some file systems have for it.
		Metadata: map[string]string{"note": "=?UTF-8?B?5L2g5aW9?=", "long": strings.Repeat("m", 1900)},
		Size:     int64(len(data)), Tags: map[string]string{},
	}
	tagging := url.Values{}
	for i := range 10 {
		key, value := fmt.Sprintf("tag %d%s", i, strings.Repeat("k", 100)), strings.Repeat("v", 256)
		want.Tags[key] = value
		tagging.Set(key, value)
	}
	expires := time.Date(2033, 12, 1, 16, 0, 0, 0, time.UTC)
	encoding := "gzip,aws-chunked"

	for _, bucket := range []string{plain, versioned} {
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: aws.String("put"), Body: bytes.NewReader(data),
			ContentType: &want.Type, CacheControl: &want.Cache, ContentDisposition: &want.Disposition, ContentEncoding: &encoding,
			ContentLanguage: &want.Language, Expires: &expires, Metadata: want.Metadata, StorageClass: want.Class,
			Tagging: aws.String(tagging.Encode()), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		}); err != nil {
			t.Fatal(err)
		}
		create, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
			Bucket: &bucket, Key: aws.String("multipart"),
			ContentType: &want.Type, CacheControl: &want.Cache, ContentDisposition: &want.Disposition, ContentEncoding: &encoding,
			ContentLanguage: &want.Language, Expires: &expires, Metadata: want.Metadata, StorageClass: want.Class,
			Tagging: aws.String(tagging.Encode()), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := finish(t, c, bucket, "multipart", create.UploadId, data, nil, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{
			Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String(bucket + "/put"),
		}); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"put", "multipart", "copy"} {
			if diff := cmp.Diff(want, propertiesOf(t, c, bucket, key)); diff != "" {
				t.Errorf("%s/%s: want (-), got (+):\n%s", bucket, key, diff)
			}
		}
	}
}

// finish uploads data as one part, or as 5 MiB parts, and completes the upload.
func finish(t *testing.T, c *s3.Client, bucket, key string, upload *string, data []byte, checksum *string, edit func(*s3.CompleteMultipartUploadInput)) error {
	t.Helper()
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &bucket, Key: &key, UploadId: upload, ChecksumCRC64NVME: checksum, MultipartUpload: &types.CompletedMultipartUpload{},
	}
	for number := int32(1); ; number++ {
		chunk := data[:min(len(data), 5<<20)]
		data = data[len(chunk):]
		out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: &bucket, Key: &key, UploadId: upload, PartNumber: aws.Int32(number), Body: bytes.NewReader(chunk),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		})
		if err != nil {
			t.Fatal(err)
		}
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{
			PartNumber: aws.Int32(number), ETag: out.ETag, ChecksumCRC64NVME: out.ChecksumCRC64NVME,
		})
		if len(data) == 0 {
			break
		}
	}
	if edit != nil {
		edit(in)
	}
	_, err := c.CompleteMultipartUpload(t.Context(), in)
	return err
}

func createUpload(t *testing.T, c *s3.Client, bucket, key string) *string {
	t.Helper()
	out, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: &bucket, Key: &key,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.UploadId
}

func TestRangesVersionsAndConditions(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	old := put(t, c, versioned, "key", "0123456789")
	put(t, c, versioned, "key", "abcdefghij")

	for name, tc := range map[string]struct {
		in     s3.GetObjectInput
		want   string
		status int
		code   string
	}{
		"newest":              {in: s3.GetObjectInput{}, want: "abcdefghij"},
		"range":               {in: s3.GetObjectInput{Range: aws.String("bytes=2-4")}, want: "cde"},
		"version":             {in: s3.GetObjectInput{VersionId: old.VersionId}, want: "0123456789"},
		"range of a version":  {in: s3.GetObjectInput{VersionId: old.VersionId, Range: aws.String("bytes=8-")}, want: "89"},
		"version with ETag":   {in: s3.GetObjectInput{VersionId: old.VersionId, IfMatch: old.ETag}, want: "0123456789"},
		"older ETag":          {in: s3.GetObjectInput{IfMatch: old.ETag}, status: 412, code: "PreconditionFailed"},
		"range of older ETag": {in: s3.GetObjectInput{IfMatch: old.ETag, Range: aws.String("bytes=0-1")}, status: 412, code: "PreconditionFailed"},
		"unsatisfiable range": {in: s3.GetObjectInput{Range: aws.String("bytes=10-")}, status: 416, code: "InvalidRange"},
		"unknown version":     {in: s3.GetObjectInput{VersionId: aws.String("01ARZ3NDEKTSV4RRFFQ69G5FAV")}, status: 404, code: "NoSuchVersion"},
	} {
		tc.in.Bucket, tc.in.Key = aws.String(versioned), aws.String("key")
		out, err := c.GetObject(t.Context(), &tc.in)
		if tc.status != 0 {
			wantError(t, name, err, tc.status, tc.code)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := read(t, out.Body); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestArchivedObjectCannotBeRead(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(plain), Key: aws.String("cold"), StorageClass: types.StorageClassDeepArchive, Body: strings.NewReader("x"),
	}); err != nil {
		t.Fatal(err)
	}
	_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(plain), Key: aws.String("cold")})
	wantError(t, "get", err, 403, "InvalidObjectState")
	if got := propertiesOf(t, c, plain, "cold").Class; got != types.StorageClassDeepArchive {
		t.Errorf("its class is %q", got)
	}
}

// Each reader checks that the body it gets is the one its ETag speaks of.
func TestReadersNeverSeeAMixture(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	write := func(i int) { put(t, c, plain, "key", string(random(1000+i%7*1000, byte(i)))) }
	write(0)
	var stop atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !stop.Load() {
				out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(plain), Key: aws.String("key")})
				if err != nil {
					t.Error(err)
					return
				}
				data, err := io.ReadAll(out.Body)
				sum := md5.Sum(data)
				if err != nil || strings.Trim(*out.ETag, `"`) != hex.EncodeToString(sum[:]) {
					t.Errorf("%d bytes with ETag %s: %v", len(data), *out.ETag, err)
					return
				}
			}
		})
	}
	for i := range 300 {
		write(i)
	}
	stop.Store(true)
	readers.Wait()
}

func TestOneOfManyConditionalWritersWins(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	const writers = 8
	race := func(name, code string, write func(i int) error) {
		t.Helper()
		var wins atomic.Int32
		var wait sync.WaitGroup
		for i := range writers {
			wait.Go(func() {
				err := write(i)
				if err == nil {
					wins.Add(1)
					return
				}
				wantError(t, name, err, 412, code)
			})
		}
		wait.Wait()
		if wins.Load() != 1 {
			t.Errorf("%s: %d of %d writers won", name, wins.Load(), writers)
		}
	}
	for _, bucket := range []string{plain, versioned} {
		race("If-None-Match put", "PreconditionFailed", func(i int) error {
			_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &bucket, Key: aws.String("put"), IfNoneMatch: aws.String("*"), Body: bytes.NewReader(random(100_000, byte(i))),
			})
			return err
		})
		etag := put(t, c, bucket, "put", "old").ETag
		race("If-Match put", "PreconditionFailed", func(i int) error {
			_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &bucket, Key: aws.String("put"), IfMatch: etag, Body: bytes.NewReader(random(100_000, byte(i))),
			})
			return err
		})
		race("If-None-Match complete", "PreconditionFailed", func(i int) error {
			upload := createUpload(t, c, bucket, "multipart")
			return finish(t, c, bucket, "multipart", upload, random(1000, byte(i)), nil, func(in *s3.CompleteMultipartUploadInput) { in.IfNoneMatch = aws.String("*") })
		})
		etag = put(t, c, bucket, "multipart", "old").ETag
		race("If-Match complete", "PreconditionFailed", func(i int) error {
			upload := createUpload(t, c, bucket, "multipart")
			return finish(t, c, bucket, "multipart", upload, random(1000, byte(i)), nil, func(in *s3.CompleteMultipartUploadInput) { in.IfMatch = etag })
		})
	}
}

func TestChecksumsAreProved(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	data := random(11<<20, 3)
	wrong := sum64([]byte("other"))
	absent := func(key string) {
		t.Helper()
		_, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(plain), Key: &key})
		wantError(t, "head of "+key, err, 404, "")
	}

	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(plain), Key: aws.String("put"), Body: bytes.NewReader(data), ChecksumCRC64NVME: &wrong,
	})
	wantError(t, "put with a wrong checksum", err, 400, "BadDigest")
	absent("put")

	upload := createUpload(t, c, plain, "multipart")
	err = finish(t, c, plain, "multipart", upload, data, &wrong, nil)
	wantError(t, "complete with a wrong checksum", err, 400, "BadDigest")
	absent("multipart")

	right := sum64(data)
	if err := finish(t, c, plain, "multipart", upload, data, &right, nil); err != nil {
		t.Fatalf("complete again, with the right checksum: %v", err)
	}
	got := propertiesOf(t, c, plain, "multipart")
	if got.Checksum != right || got.ChecksumType != types.ChecksumTypeFullObject {
		t.Errorf("the object has checksum %s %s, want %s", got.Checksum, got.ChecksumType, right)
	}
	if body := get(t, c, plain, "multipart"); body != string(data) {
		t.Error("other bytes came back")
	}
}

// A client that hangs up in the middle of a body must leave nothing behind.
func TestTruncatedBodyIsNotStored(t *testing.T) {
	server := start(t, config(t.TempDir()))
	c := client(server)
	presign := s3.NewPresignClient(c)
	upload := createUpload(t, c, plain, "parts")
	whole, err := presign.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(plain), Key: aws.String("whole")})
	if err != nil {
		t.Fatal(err)
	}
	part, err := presign.PresignUploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: aws.String(plain), Key: aws.String("parts"), UploadId: upload, PartNumber: aws.Int32(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		signed     string
		size, sent int
		want       string // the HTTP server itself answers for what fits its buffer
	}{
		{whole.URL, 1_000_000, 400_000, "IncompleteBody"}, {part.URL, 1_000_000, 400_000, "IncompleteBody"},
		{whole.URL, 1000, 400, "500 Internal"}, {part.URL, 1000, 999, "500 Internal"},
	} {
		address, err := url.Parse(tc.signed)
		if err != nil {
			t.Fatal(err)
		}
		connection, err := net.Dial("tcp", address.Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(connection, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", address.RequestURI(), address.Host, tc.size, strings.Repeat("x", tc.sent))
		_ = connection.(*net.TCPConn).CloseWrite()
		_ = connection.SetReadDeadline(time.Now().Add(time.Minute))
		answer, err := io.ReadAll(connection)
		if err != nil || !strings.Contains(string(answer), tc.want) {
			t.Errorf("the answer is %q, %v", answer, err)
		}
		connection.Close()
	}
	_, err = c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(plain), Key: aws.String("whole")})
	wantError(t, "head", err, 404, "")
	parts, err := c.ListParts(t.Context(), &s3.ListPartsInput{Bucket: aws.String(plain), Key: aws.String("parts"), UploadId: upload})
	if err != nil || len(parts.Parts) != 0 {
		t.Errorf("parts: %+v, %v", parts, err)
	}
}

func TestUnknownUpload(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	put(t, c, plain, "key", "is there")
	complete := func(upload *string) error {
		_, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
			Bucket: aws.String(plain), Key: aws.String("key"), UploadId: upload,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{
				{PartNumber: aws.Int32(1), ETag: aws.String(`"d41d8cd98f00b204e9800998ecf8427e"`)},
			}},
		})
		return err
	}
	wantError(t, "made up", complete(aws.String("0190c5f2-7a3b-4c1d-8e2f-1a2b3c4d5e6f")), 404, "NoSuchUpload")

	upload := createUpload(t, c, plain, "key")
	if _, err := c.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{
		Bucket: aws.String(plain), Key: aws.String("key"), UploadId: upload,
	}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "aborted", complete(upload), 404, "NoSuchUpload")
	if got := get(t, c, plain, "key"); got != "is there" {
		t.Errorf("the object is now %q", got)
	}
}

func TestListMultipartUploadsPages(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	want := map[string]string{}
	for _, key := range []string{"a/b", "a/b", "a/b", "a/b2", "a/c", "b"} {
		upload := createUpload(t, c, plain, key)
		if strings.HasPrefix(key, "a/") {
			want[*upload] = key
		}
	}
	for _, size := range []int32{1, 2, 4, 1000} {
		got := map[string]string{}
		pages := s3.NewListMultipartUploadsPaginator(c, &s3.ListMultipartUploadsInput{
			Bucket: aws.String(plain), Prefix: aws.String("a/"), MaxUploads: &size,
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatalf("pages of %d: %v", size, err)
			}
			for _, upload := range page.Uploads {
				if _, twice := got[*upload.UploadId]; twice {
					t.Errorf("pages of %d: %s twice", size, *upload.Key)
				}
				got[*upload.UploadId] = *upload.Key
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d: want (-), got (+):\n%s", size, diff)
		}
	}
}

func TestUnholdableKeysAreRefused(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	ctx := t.Context()
	for _, key := range []string{"a/b", "x"} {
		put(t, c, plain, key, "kept")
	}
	put(t, c, plain, "folder/", "")
	for key, why := range map[string]string{
		"a//b":                               "empty segment",
		"/a/b":                               "empty segment",
		"a/b//":                              "empty segment",
		"a/./b":                              `segment "."`,
		"./a/b":                              `segment "."`,
		"a/c/../b":                           `segment ".."`,
		"../" + plain + "/a/b":               `segment ".."`,
		"a/" + strings.Repeat("长", 86) + "x": "259 bytes",
		".sgwtmp/a":                          "uploads under way",
		"a/b\x00":                            "NUL",
	} {
		refused := func(what string, err error) {
			t.Helper()
			wantError(t, what+" "+key, err, 400, "InvalidArgument")
			if err != nil && (!strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), fmt.Sprintf("%q", key))) {
				t.Errorf("%s: key and reason %q are not in %v", what, why, err)
			}
		}
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(plain), Key: &key, Body: strings.NewReader("other")})
		refused("put", err)
		_, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(plain), Key: &key})
		refused("create upload", err)
		_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(plain), Key: &key, CopySource: aws.String(plain + "/x")})
		refused("copy to", err)

		_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(plain), Key: &key})
		wantError(t, "get "+key, err, 404, "NoSuchKey")
		_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(plain), Key: &key})
		wantError(t, "head "+key, err, 404, "")
		_, err = c.CopyObject(ctx, &s3.CopyObjectInput{
			Bucket: aws.String(plain), Key: aws.String("copied"), CopySource: aws.String(plain + "/" + url.PathEscape(key)),
		})
		if strings.HasPrefix(key, "../") {
			wantError(t, "copy from "+key, err, 400, "InvalidArgument")
		} else {
			wantError(t, "copy from "+key, err, 404, "NoSuchKey")
		}
		if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(plain), Key: &key}); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
		if key == "a/b\x00" {
			continue // XML has no NUL
		}
		if _, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: aws.String(plain), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: &key}}},
		}); err != nil {
			t.Errorf("delete several %s: %v", key, err)
		}
	}

	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(plain), Key: aws.String("dir/"), Body: strings.NewReader("x")})
	wantError(t, "folder with data", err, 400, "InvalidArgument")
	_, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(plain), Key: aws.String("dir/")})
	wantError(t, "folder as upload", err, 400, "InvalidArgument")

	for key, other := range map[string]string{"x/y": "x", "x/y/z": "x", "a": "a/", "folder": "folder/"} {
		beside := func(what string, err error) {
			t.Helper()
			wantError(t, what+" "+key, err, 409, "")
			if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("the key %q beside %q", key, other)) {
				t.Errorf("%s: unclear: %v", what, err)
			}
		}
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(plain), Key: &key, Body: strings.NewReader("other")})
		beside("put", err)
		_, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(plain), Key: &key})
		beside("create upload", err)
		_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(plain), Key: &key, CopySource: aws.String(plain + "/x")})
		beside("copy to", err)
		_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(plain), Key: &key})
		wantError(t, "head "+key, err, 404, "")
	}
	var keys []string
	list, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(plain)})
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range list.Contents {
		keys = append(keys, *object.Key)
	}
	if diff := cmp.Diff([]string{"a/b", "folder/", "x"}, keys); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if got := get(t, c, plain, "a/b") + get(t, c, plain, "x"); got != "keptkept" {
		t.Errorf("the objects are now %q", got)
	}
}

// A name as long as a file system takes must be writable and replaceable.
func TestLongestSegment(t *testing.T) {
	c := client(start(t, config(t.TempDir())))
	key := "a/" + strings.Repeat("长", 85)
	for _, bucket := range []string{plain, versioned} {
		put(t, c, bucket, key, "one")
		put(t, c, bucket, key, "two")
		if got := get(t, c, bucket, key); got != "two" {
			t.Errorf("%s: got %q", bucket, got)
		}
	}
}

func fetch(t *testing.T, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response, read(t, response.Body)
}
