package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/crc64nvme"
)

// holes is the work of one object that is nowhere: its source makes the bytes up,
// and its destination forgets them as soon as it has their checksum.
const holes = "holes"

const (
	holesSize     = 100 * giB
	holesSegments = 200
	holesETag     = "00000000000000000000000000000000-1"
	// holesBlock is so many bytes that begin with their place in the object; the
	// rest of them is zeros.
	holesBlock = 64 * kiB
)

// measureHoles carries a share of 100 GiB in 200 segments, or in fewer where these
// would be small.
func (b *bench) measureHoles(ctx context.Context, scale float64, wanted []string) error {
	const least = 16 * miB // of a segment
	size := max(least, int64(holesSize*scale))
	segments := min(holesSegments, size/least)
	b.segmentSize = (size + segments - 1) / segments
	for _, name := range wanted {
		column, parallel, err := parseColumn(name)
		if err != nil {
			return err
		}
		if column != "ferry" {
			return fmt.Errorf("got column %q for %s, expected ferry, and perhaps a dash and a number", name, holes)
		}
		r := row{Profile: "none", Work: holes, Column: name}
		if err := b.carryHoles(ctx, size, max(1, parallel), &r); err != nil {
			return fmt.Errorf("%s, %s: %w", holes, name, err)
		}
		fmt.Fprintln(os.Stderr, r)
		b.rows = append(b.rows, r)
	}
	return nil
}

func (b *bench) carryHoles(ctx context.Context, size int64, environments int, r *row) error {
	source, sink := &madeUp{size: size}, newSink(size)
	from, stopSource, err := serveStore(ctx, source, sourceRegion, sourceBucket)
	if err != nil {
		return err
	}
	defer stopSource()
	to, stopSink, err := serveStore(ctx, sink, destinationRegion, destinationBucket)
	if err != nil {
		return err
	}
	defer stopSink()
	limited, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	u, err := ferry(limited, b, job{
		Link: from, Destination: to, Parallel: environments,
		// Without a checksum of the source's: that of the whole is made from its parts'.
		Objects: []object{{Key: holes, Size: size, ETag: holesETag, Uploaded: time.Now().UTC()}},
	})
	if err != nil {
		return err
	}
	if sum := <-sink.want; sink.completed.Load() == nil || *sink.completed.Load() != sum {
		return fmt.Errorf("the object's checksum: got %v, expected %s", sink.completed.Load(), sum)
	}
	r.Seconds, r.PeakMiB = u.took.Seconds(), float64(u.peak)/miB
	r.MBps, r.CPUPerGB = float64(size)/1e6/r.Seconds, u.cpu.Seconds()/(float64(size)/1e9)
	r.Requests, r.Pulled = float64(source.requests.Load()), float64(source.bytes.Load())/float64(size)
	r.Note = fmt.Sprintf("%d bytes in %d segments, checksum proved", size, (size+b.segmentSize-1)/b.segmentSize)
	return nil
}

// serveStore serves a bucket on a free port until stop is called.
func serveStore(ctx context.Context, h http.Handler, region, bucket string) (s store, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return store{}, nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // it ends with stop
	return store{"http://" + listener.Addr().String(), region, bucket, "AKIAHOLES", "holes"}, func() { _ = server.Close() }, nil
}

// holesReader makes up the bytes from an offset on.
type holesReader struct {
	offset, end int64
	block       [holesBlock]byte
}

func (r *holesReader) Read(p []byte) (int, error) {
	if r.offset >= r.end {
		return 0, io.EOF
	}
	at := r.offset % holesBlock
	binary.BigEndian.PutUint64(r.block[:], uint64(r.offset/holesBlock)+1) //nolint:gosec // not negative
	n := copy(p[:min(int64(len(p)), r.end-r.offset)], r.block[at:])
	r.offset += int64(n)
	return n, nil
}

// madeUp is a source that has one object.
type madeUp struct {
	size            int64
	requests, bytes atomic.Int64
}

func (m *madeUp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.requests.Add(1)
	var first, last int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil || first > last || last >= m.size {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	w.Header().Set("ETag", `"`+holesETag+`"`)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, m.size))
	w.Header().Set("Content-Length", strconv.FormatInt(last-first+1, 10))
	w.WriteHeader(http.StatusPartialContent)
	n, _ := io.Copy(w, &holesReader{offset: first, end: last + 1})
	m.bytes.Add(n)
}

// sink is a destination that keeps checksums only, and a journal bucket.
type sink struct {
	size      int64
	want      chan string // the checksum of the whole, from the bytes as they have to be
	completed atomic.Pointer[string]

	mu      sync.Mutex
	parts   map[int]sunk
	entries map[string]sunk
	serial  int
}

type sunk struct {
	Size int64
	Sum  string
	etag string
	body []byte
}

func newSink(size int64) *sink {
	s := &sink{size: size, want: make(chan string, 1), parts: map[int]sunk{}, entries: map[string]sunk{}}
	go func() {
		sum := crc64nvme.New()
		_, _ = io.Copy(sum, &holesReader{end: size})
		s.want <- text64(sum)
	}()
	return s
}

func text64(h hash.Hash64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, h.Sum64()))
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, q := strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query()
	switch {
	case strings.HasPrefix(name, journalBucket+"/"):
		s.journal(w, r, name)
	case r.Method == http.MethodHead && s.completed.Load() == nil:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost && q.Has("uploads"):
		answerXML(w, struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			UploadID string   `xml:"UploadId"`
		}{UploadID: "upload"})
	case s.completed.Load() != nil:
		refuseXML(w, http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPut:
		s.part(w, r, q.Get("partNumber"))
	case r.Method == http.MethodGet:
		s.list(w, q.Get("part-number-marker"), q.Get("max-parts"))
	case r.Method == http.MethodPost:
		s.complete(w, r)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// part reads a part, and keeps its checksum if it is that of the request.
func (s *sink) part(w http.ResponseWriter, r *http.Request, number string) {
	sum := crc64nvme.New()
	n, want, err := readPart(sum, r)
	at, atErr := strconv.Atoi(number)
	if err != nil || atErr != nil || want != text64(sum) {
		refuseXML(w, http.StatusBadRequest, "BadDigest")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[at] = sunk{Size: n, Sum: text64(sum)}
	w.Header().Set("ETag", `"part"`)
}

// readPart copies what r brings to w, and returns the checksum that it brings too:
// in a header, or after the one chunk of which its body consists then.
func readPart(w io.Writer, r *http.Request) (n int64, sum string, err error) {
	decoded := r.Header.Get("X-Amz-Decoded-Content-Length")
	if decoded == "" {
		n, err = io.Copy(w, r.Body)
		return n, r.Header.Get("X-Amz-Checksum-Crc64nvme"), err
	}
	if n, err = strconv.ParseInt(decoded, 10, 64); err != nil {
		return 0, "", err
	}
	body := bufio.NewReader(r.Body)
	head, err := body.ReadString('\n')
	if err != nil {
		return 0, "", fmt.Errorf("read the head of a chunk: %w", err)
	}
	if head != fmt.Sprintf("%x\r\n", n) {
		return 0, "", fmt.Errorf("got a chunk of %q, expected %x", head, n)
	}
	if _, err := io.CopyN(w, body, n); err != nil {
		return 0, "", err
	}
	tail, err := io.ReadAll(body)
	_, sum, _ = strings.Cut(strings.TrimSpace(string(tail)), "x-amz-checksum-crc64nvme:")
	return n, sum, err
}

func (s *sink) list(w http.ResponseWriter, marker, most string) {
	type listed struct {
		PartNumber        int
		ETag              string
		Size              int64
		ChecksumCRC64NVME string
	}
	out := struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		IsTruncated          bool
		NextPartNumberMarker int
		Part                 []listed
	}{}
	first, _ := strconv.Atoi(marker)
	limit, err := strconv.Atoi(most)
	if err != nil {
		limit = 1000
	}
	s.mu.Lock()
	const maxParts = 10_000
	for n := first + 1; n <= maxParts && !out.IsTruncated; n++ {
		if p, ok := s.parts[n]; ok {
			out.Part = append(out.Part, listed{n, `"part"`, p.Size, p.Sum})
			out.NextPartNumberMarker, out.IsTruncated = n, len(out.Part) == limit
		}
	}
	s.mu.Unlock()
	answerXML(w, out)
}

// complete takes the parts if they are the whole, and its checksum is as it has
// to be.
func (s *sink) complete(w http.ResponseWriter, r *http.Request) {
	want := <-s.want
	s.want <- want
	s.mu.Lock()
	var size int64
	for n := 1; n <= len(s.parts); n++ {
		size += s.parts[n].Size
	}
	s.mu.Unlock()
	got := r.Header.Get("X-Amz-Checksum-Crc64nvme")
	if got != want || size != s.size {
		refuseXML(w, http.StatusBadRequest, "BadDigest")
		return
	}
	s.completed.Store(&got)
	answerXML(w, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		ETag    string
	}{ETag: `"whole"`})
}

// journal keeps small objects with conditional writes.
func (s *sink) journal(w http.ResponseWriter, r *http.Request, name string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, there := s.entries[name]
	match := r.Header.Get("If-Match")
	switch {
	case r.Method == http.MethodGet && !there:
		refuseXML(w, http.StatusNotFound, "NoSuchKey")
	case r.Header.Get("If-None-Match") == "*" && there, match != "" && match != entry.etag:
		refuseXML(w, http.StatusPreconditionFailed, "PreconditionFailed")
	case r.Method == http.MethodGet:
		w.Header().Set("ETag", entry.etag)
		_, _ = w.Write(entry.body)
	case r.Method == http.MethodPut:
		s.serial++
		entry = sunk{body: body, etag: strconv.Quote(strconv.Itoa(s.serial))}
		s.entries[name] = entry
		w.Header().Set("ETag", entry.etag)
	case r.Method == http.MethodDelete:
		delete(s.entries, name)
		w.WriteHeader(http.StatusNoContent)
	}
}

func answerXML(w http.ResponseWriter, v any) { _ = xml.NewEncoder(w).Encode(v) }

func refuseXML(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}
