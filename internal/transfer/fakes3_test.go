package transfer_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/crc64nvme"
)

// fakeS3 is a destination: conditional writes, multipart uploads with checksums
// of the whole object, and a log of what was asked.
type fakeS3 struct {
	t      *testing.T
	client *s3.Client

	mu      sync.Mutex
	objects map[string]*object // by bucket/key
	uploads map[string]*pending
	log     []string
	next    int

	// before answers a request itself by returning true. It runs unlocked.
	before func(op string, w http.ResponseWriter, r *http.Request) bool
	early  func(op string, w http.ResponseWriter, r *http.Request) bool // before the body is read
	page   int                                                          // parts of one ListParts answer
	naive  bool                                                         // parts are stored as they come, whatever their trailer says
	lose   func(op string) bool                                         // what is asked is done, but not answered
	writes map[string]int                                               // of objects, by name
}

type object struct {
	body   []byte
	header http.Header
	etag   string
}

type pending struct {
	name   string
	header http.Header
	parts  map[int]object
}

func newFakeS3(t *testing.T) *fakeS3 {
	t.Helper()
	f := &fakeS3{t: t, objects: map[string]*object{}, uploads: map[string]*pending{}, writes: map[string]int{}, page: 1000}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.client = clientOf(server.URL)
	return f
}

// clientOf returns an SDK client that gives up quickly.
func clientOf(url string) *s3.Client {
	return s3.New(s3.Options{
		Region: "cn-north-1", BaseEndpoint: aws.String(url), UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK"}, nil
		}),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = 2, 1
			o.RateLimiter = noLimit{}
		}),
	})
}

func base64Of(sum uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum))
}

// operation names a request as S3 does.
func operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "Create"
	case r.Method == http.MethodPost:
		return "Complete"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "Abort"
	case r.Method == http.MethodDelete:
		return "Delete"
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return "List"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "Uploads"
	case r.Method == http.MethodGet && q.Has("list-type"):
		return "Entries"
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return "Part"
	case r.Method == http.MethodPut && q.Has("tagging"):
		return "PutTags"
	case r.Method == http.MethodPut:
		return "Put"
	case r.Method == http.MethodHead:
		return "Head"
	default:
		return "Get"
	}
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := operation(r)
	name := strings.TrimPrefix(r.URL.Path, "/")
	entry := op
	if name == journalBucket || strings.HasPrefix(name, journalBucket+"/") {
		entry = "journal" + op
	}
	f.mu.Lock()
	if op != "Uploads" || r.URL.Query().Has("prefix") { // else it is a test that asks
		f.log = append(f.log, entry)
	}
	before, early, lose := f.before, f.early, f.lose
	f.mu.Unlock()
	if early != nil && early(entry, w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	body = f.unframe(r, body)
	if before != nil && before(entry, w, r) {
		return
	}
	if lose != nil && lose(entry) {
		answerer := w
		defer hangUp(answerer)
		w = httptest.NewRecorder()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := r.Header.Get("X-Amz-Content-Sha256"); (entry == "Put" || entry == "Part") && got != "UNSIGNED-PAYLOAD" {
		f.t.Errorf("%s: x-amz-content-sha256: got %q", entry, got)
	}
	if got := r.Header.Get("Content-Encoding"); strings.Contains(got, "aws-chunked") {
		f.t.Errorf("%s: content-encoding: got %q", entry, got)
	}
	switch op {
	case "Head", "Get":
		o := f.objects[name]
		if o == nil {
			refuse(w, 404, "NoSuchKey")
			return
		}
		maps.Copy(w.Header(), o.header)
		w.Header().Set("ETag", o.etag)
		w.Header().Set("Content-Length", strconv.Itoa(len(o.body)))
		_, _ = w.Write(o.body)
	case "Delete":
		if r.URL.Query().Has("versionId") {
			f.t.Errorf("delete of a version: %s", r.URL)
		}
		if f.objects[name] != nil && !f.condition(w, name, r.Header) {
			return
		}
		delete(f.objects, name)
		w.WriteHeader(http.StatusNoContent)
	case "Put":
		if !f.checksum(w, r.Header, body) || !f.condition(w, name, r.Header) {
			return
		}
		f.keep(w, name, r.Header, body)
	case "PutTags":
		var in struct {
			Tags []struct{ Key, Value string } `xml:"TagSet>Tag"`
		}
		if err := xml.Unmarshal(body, &in); err != nil {
			f.t.Errorf("put tags: %v", err)
		}
		tags := map[string]string{}
		for _, tag := range in.Tags {
			tags[tag.Key] = tag.Value
		}
		if !f.tag(name, tags) {
			refuse(w, 404, "NoSuchKey")
		}
	case "Create":
		if r.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" || r.Header.Get("X-Amz-Checksum-Algorithm") == "" {
			f.t.Errorf("create: checksum headers missing: %v", r.Header)
		}
		f.next++
		id := fmt.Sprintf("upload-%d", f.next)
		f.uploads[id] = &pending{name: name, header: r.Header, parts: map[int]object{}}
		reply(w, struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			Key      string
			UploadID string `xml:"UploadId"`
		}{Key: name, UploadID: id})
	case "Uploads":
		type listed struct {
			Key      string
			UploadID string `xml:"UploadId"`
		}
		out := struct {
			XMLName      xml.Name `xml:"ListMultipartUploadsResult"`
			EncodingType string
			Upload       []listed
		}{}
		for id, u := range f.uploads {
			key, ok := strings.CutPrefix(u.name, strings.TrimSuffix(name, "/")+"/")
			if ok && strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
				out.Upload = append(out.Upload, listed{url.QueryEscape(key), id})
			}
		}
		out.EncodingType = "url"
		reply(w, out)
	case "Entries":
		type listed struct{ Key string }
		out := struct {
			XMLName  xml.Name `xml:"ListBucketResult"`
			Contents []listed
		}{}
		for _, key := range slices.Sorted(maps.Keys(f.objects)) {
			key, ok := strings.CutPrefix(key, strings.TrimSuffix(name, "/")+"/")
			if ok && strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
				out.Contents = append(out.Contents, listed{key})
			}
		}
		reply(w, out)
	default:
		f.multipart(op, w, r, name, body)
	}
}

func (f *fakeS3) multipart(op string, w http.ResponseWriter, r *http.Request, name string, body []byte) {
	q := r.URL.Query()
	id := q.Get("uploadId")
	u := f.uploads[id]
	if u == nil || u.name != name {
		refuse(w, 404, "NoSuchUpload")
		return
	}
	algorithm := u.header.Get("X-Amz-Checksum-Algorithm")
	switch op {
	case "Abort":
		delete(f.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	case "Part":
		if r.Header.Get("X-Amz-Checksum-"+algorithm) == "" {
			f.t.Errorf("part without %s: %v", algorithm, r.Header)
		}
		if !f.naive && !f.checksum(w, r.Header, body) {
			return
		}
		n, _ := strconv.Atoi(q.Get("partNumber"))
		f.next++
		etag := fmt.Sprintf(`"%032x"`, f.next) // as under SSE-KMS: not made of the bytes
		u.parts[n] = object{body: body, etag: etag}
		w.Header().Set("ETag", etag)
		w.Header().Set("X-Amz-Checksum-"+algorithm, sumOf(algorithm, body))
	case "List":
		marker, _ := strconv.Atoi(q.Get("part-number-marker"))
		type listed struct {
			PartNumber                                       int
			ETag                                             string
			Size                                             int
			ChecksumCRC64NVME, ChecksumCRC32, ChecksumCRC32C string `xml:",omitempty"`
		}
		out := struct {
			XMLName              xml.Name `xml:"ListPartsResult"`
			Key                  string
			IsTruncated          bool
			NextPartNumberMarker int
			Part                 []listed
		}{Key: strings.SplitN(name, "/", 2)[1]}
		for _, n := range slices.Sorted(maps.Keys(u.parts)) {
			if n <= marker {
				continue
			}
			if len(out.Part) == f.page {
				out.IsTruncated = true
				break
			}
			p := u.parts[n]
			l := listed{PartNumber: n, ETag: p.etag, Size: len(p.body)}
			switch algorithm {
			case "CRC64NVME":
				l.ChecksumCRC64NVME = sumOf(algorithm, p.body)
			case "CRC32":
				l.ChecksumCRC32 = sumOf(algorithm, p.body)
			case "CRC32C":
				l.ChecksumCRC32C = sumOf(algorithm, p.body)
			}
			out.Part = append(out.Part, l)
			out.NextPartNumberMarker = n
		}
		reply(w, out)
	case "Complete":
		f.complete(w, r, name, id, u, body)
	}
}

func (f *fakeS3) complete(w http.ResponseWriter, r *http.Request, name, id string, u *pending, body []byte) {
	var in struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(body, &in); err != nil {
		f.t.Errorf("complete: %v", err)
	}
	var whole []byte
	for i, p := range in.Part {
		if p.PartNumber != i+1 || u.parts[i+1].etag != p.ETag {
			refuse(w, 400, "InvalidPart")
			return
		}
		whole = append(whole, u.parts[i+1].body...)
	}
	if got := r.Header.Get("X-Amz-Mp-Object-Size"); got != strconv.Itoa(len(whole)) {
		f.t.Errorf("complete: x-amz-mp-object-size: got %q, want %d", got, len(whole))
	}
	if r.Header.Get("X-Amz-Checksum-"+u.header.Get("X-Amz-Checksum-Algorithm")) == "" || r.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
		f.t.Errorf("complete: no checksum of the whole object: %v", r.Header)
	}
	if !f.checksum(w, r.Header, whole) || !f.condition(w, name, r.Header) {
		return
	}
	delete(f.uploads, id)
	rec := httptest.NewRecorder()
	f.keep(rec, name, u.header, whole)
	reply(w, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		ETag    string
	}{ETag: rec.Header().Get("ETag")})
}

// keep stores an object with the headers that S3 keeps.
func (f *fakeS3) keep(w http.ResponseWriter, name string, header http.Header, body []byte) {
	kept := http.Header{}
	for k, v := range header {
		switch k {
		case "Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires", "X-Amz-Website-Redirect-Location",
			"X-Amz-Tagging", "X-Amz-Storage-Class":
			kept[k] = v
		}
		if strings.HasPrefix(k, "X-Amz-Meta-") {
			kept[k] = v
		}
	}
	f.next++
	o := &object{body: body, header: kept, etag: fmt.Sprintf(`"%s-%d"`, strings.Trim(md5ETag(body), `"`), f.next)}
	f.objects[name] = o
	f.writes[name]++
	w.Header().Set("ETag", o.etag)
}

// unframe returns what is in a body with a trailer, whose checksum it puts among
// the headers.
func (f *fakeS3) unframe(r *http.Request, body []byte) []byte {
	if r.Header.Get("X-Amz-Content-Sha256") != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
		return body
	}
	head, rest, _ := bytes.Cut(body, []byte("\r\n"))
	size, err := strconv.ParseInt(string(head), 16, 64)
	if err != nil || size > int64(len(rest)) || r.Header.Get("X-Amz-Decoded-Content-Length") != strconv.FormatInt(size, 10) {
		f.t.Errorf("body with a trailer: chunk of %q, decoded length %q, %d bytes", head, r.Header.Get("X-Amz-Decoded-Content-Length"), len(rest))
		return body
	}
	name, value, _ := strings.Cut(string(rest[size:]), ":")
	name, isLast := strings.CutPrefix(name, "\r\n0\r\n")
	value, isWhole := strings.CutSuffix(value, "\r\n\r\n")
	if !isLast || !isWhole || name != r.Header.Get("X-Amz-Trailer") || r.Header.Get("Content-Encoding") != "aws-chunked" {
		f.t.Errorf("body with a trailer: %q, headers %v", rest[size:], r.Header)
	}
	r.Header.Set(name, value)
	r.Header.Del("Content-Encoding")
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	return rest[:size]
}

// condition enforces If-Match and If-None-Match of a write.
func (f *fakeS3) condition(w http.ResponseWriter, name string, h http.Header) bool {
	o := f.objects[name]
	match := h.Get("If-Match")
	switch {
	case h.Get("If-None-Match") == "*" && o != nil, match != "" && o != nil && match != o.etag:
		refuse(w, 412, "PreconditionFailed")
		return false
	case match != "" && o == nil:
		refuse(w, 404, "NoSuchKey")
		return false
	}
	return true
}

// checksum verifies every checksum header against body.
func (f *fakeS3) checksum(w http.ResponseWriter, h http.Header, body []byte) bool {
	for k := range h {
		algorithm, ok := strings.CutPrefix(strings.ToUpper(k), "X-AMZ-CHECKSUM-")
		if !ok || algorithm == "ALGORITHM" || algorithm == "TYPE" || algorithm == "MODE" {
			continue
		}
		if h.Get(k) != sumOf(algorithm, body) {
			refuse(w, 400, "BadDigest")
			return false
		}
	}
	return true
}

func sumOf(algorithm string, b []byte) string {
	var sum []byte
	switch algorithm {
	case "CRC64NVME":
		sum = binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(b))
	case "CRC32":
		sum = binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))
	case "CRC32C":
		sum = binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	case "SHA1":
		s := sha1.Sum(b)
		sum = s[:]
	case "SHA256":
		s := sha256.Sum256(b)
		sum = s[:]
	}
	return base64.StdEncoding.EncodeToString(sum)
}

func md5ETag(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>fake says %s</Message></Error>", code, code)
}

func reply(w http.ResponseWriter, v any) {
	_ = xml.NewEncoder(w).Encode(v)
}

// requests returns the log since the last call.
func (f *fakeS3) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

func (f *fakeS3) get(name string) *object {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[name]
}

// put stores an object from outside the ferry.
func (f *fakeS3) put(name string, body []byte, metadata map[string]string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := http.Header{}
	for k, v := range metadata {
		h.Set("X-Amz-Meta-"+k, v)
	}
	rec := httptest.NewRecorder()
	f.keep(rec, name, h, body)
	return rec.Header().Get("ETag")
}

func (f *fakeS3) hook(before func(op string, w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// setTags gives an object tags from outside the ferry, and tagsOf returns them.
func (f *fakeS3) setTags(name string, tags map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tag(name, tags)
}

func (f *fakeS3) tagsOf(name string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return unescapeTags(f.t, f.objects[name].header.Get("X-Amz-Tagging"))
}

// tag reports whether there is such an object; f.mu is held.
func (f *fakeS3) tag(name string, tags map[string]string) bool {
	o := f.objects[name]
	if o == nil {
		return false
	}
	v := url.Values{}
	for key, value := range tags {
		v.Set(key, value)
	}
	o.header = o.header.Clone()
	o.header.Set("X-Amz-Tagging", v.Encode())
	return true
}

// meet is hook for what comes before the body of a request.
func (f *fakeS3) meet(early func(op string, w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.early = early
}

// names lists what is in a bucket, and pendings counts the uploads under way.
func (f *fakeS3) names(bucket string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.objects {
		if rest, ok := strings.CutPrefix(name, bucket+"/"); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

func (f *fakeS3) pendings() int {
	f.t.Helper()
	out, err := f.client.ListMultipartUploads(context.WithoutCancel(f.t.Context()), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	if err != nil {
		f.t.Errorf("list uploads: %v", err)
		return -1
	}
	return len(out.Uploads)
}

// stored returns how many parts of uploads there are.
func (f *fakeS3) stored() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, u := range f.uploads {
		n += len(u.parts)
	}
	return n
}

// written returns how often an object was written.
func (f *fakeS3) written(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes[name]
}

// losing lets answers get lost after what was asked is done.
func (f *fakeS3) losing(lose func(op string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose = lose
}

func unescapeTags(t *testing.T, s string) map[string]string {
	t.Helper()
	v, err := url.ParseQuery(s)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for k := range v {
		tags[k] = v.Get(k)
	}
	return tags
}

// noLimit keeps the SDK's client-side throttle out of tests full of faults.
type noLimit struct{}

func (noLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noLimit) AddTokens(uint) error { return nil }
