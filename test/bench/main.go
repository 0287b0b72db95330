// Command bench measures how s3ferry's receiver uses a long, lossy link, against
// what people use today, on this machine alone: two S3 servers, and between them
// a relay that delays, limits and resets.
//
//	go run ./test/bench --profile fair --work large --columns ferry,rclone-32
//	go run ./test/bench --profile open --work large --columns ferry-1,ferry-8 --segment-mib 64 --connections 64
//	go run ./test/bench --work holes --columns ferry-2
//
// It prints one table. It fails when a column does not carry what it was given,
// never because of a time. It needs the go command and, for rclone, its module.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/internal/localcloud"
	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
	"github.com/s3ferry/s3ferry/test/bench/relay"
)

func main() {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if name := os.Getenv(childMarker); name != "" {
		err = runChild(ctx, name)
	} else {
		err = runBench(ctx, os.Args[1:])
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// usage is what a column took; took is zero where it never began.
type usage struct {
	took time.Duration
	peak int64 // resident bytes of the biggest process
	cpu  time.Duration
}

// columns are the ways to carry objects; a number after a dash is their
// job.Parallel.
var columns = map[string]func(context.Context, *bench, job) (usage, error){
	"ferry":  ferry,
	"plain":  child("plain"),
	"sdk":    child("sdk"),
	"rclone": rclone,
}

// environments is how many receivers the ferry column has where it does not say:
// one for large objects, as many as ten for many.
func environments(j job) int {
	const most, batch = 10, 10
	return min(most, (len(j.Objects)+batch-1)/batch)
}

// bench is one run of the command.
type bench struct {
	dir, cache, functions string
	timeout               time.Duration
	segmentSize           int64
	connections           int
	memory                int64 // MiB of buffers; 0: default
	source                *server
	prefix                string // of the work's keys
	rows                  []row
}

func runBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	profile := flags.String("profile", "fair", "links, separated by commas: "+names(profiles))
	work := flags.String("work", "large", "work, separated by commas: "+names(works)+"; "+holes+" is one of 100 GiB without a link or a disk")
	wanted := flags.String("columns", "ferry,plain,sdk,sdk-32,rclone,rclone-32,rclone-64,rclone-128",
		"what to measure, separated by commas: "+names(columns)+", with the streams, objects at once or environments after a dash")
	scale := flags.Float64("scale", 1, "share of the work")
	repeat := flags.Int("repeat", 1, "runs of each column")
	segment := flags.Int64("segment-mib", envcfg.DefaultSegmentSize/miB, "MiB above which the receiver cuts an object into segments")
	connections := flags.Int("connections", envcfg.DefaultConnections, "connections of a receiver")
	memory := flags.Int64("memory-mib", 0, "MiB of buffers of a receiver; 0: as deployed")
	limit := flags.Duration("timeout", 10*time.Minute, "time of one run")
	asJSON := flags.Bool("json", false, "print JSON")
	dir := flags.String("dir", "", "where objects are kept while it runs; default a temporary directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &bench{timeout: *limit, segmentSize: *segment * miB, connections: *connections, memory: *memory}
	if err := b.prepare(ctx, *dir); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer b.source.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // its directory goes anyway

	for w := range strings.SplitSeq(*work, ",") {
		for p := range strings.SplitSeq(*profile, ",") {
			if w == holes {
				if err := b.measureHoles(ctx, *scale, strings.Split(*wanted, ",")); err != nil {
					return err
				}
				break // there is no link
			}
			link, knownLink := profiles[p]
			sizes, knownWork := works[w]
			if !knownLink || !knownWork {
				return fmt.Errorf("got profile %q and work %q, expected one of %s and one of %s", p, w, names(profiles), names(works))
			}
			if err := b.measure(ctx, p, w, link, scaled(sizes(p), *scale), strings.Split(*wanted, ","), *repeat); err != nil {
				return err
			}
		}
	}
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(b.rows)
	}
	fmt.Println(table(b.rows))
	return nil
}

func names[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

// prepare builds the functions, if they are not, and starts the source.
func (b *bench) prepare(ctx context.Context, dir string) error {
	var err error
	if b.cache, err = cacheDir(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(dir, "s3ferry-bench-"); err != nil {
		return err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	if b.functions == "" {
		b.functions = filepath.Join(b.dir, "functions")
		err = localcloud.BuildFunctions(ctx, b.functions)
	}
	if err == nil {
		b.source, err = startServer(ctx, filepath.Join(b.dir, "source"), sourceRegion, sourceBucket)
	}
	if err != nil {
		return cmp.Or(os.RemoveAll(b.dir), err)
	}
	return nil
}

// measure runs every wanted column on the same work and the same link.
func (b *bench) measure(ctx context.Context, profile, work string, link relay.Link, sizes []int64, wanted []string, repeat int) error {
	b.prefix = work + "-" + profile
	objects, err := b.source.fill(ctx, b.prefix, sizes)
	if err != nil {
		return err
	}
	for range repeat {
		for _, name := range wanted {
			column, parallel, err := parseColumn(name)
			if err != nil {
				return err
			}
			r := row{Profile: profile, Work: work, Column: name}
			j := job{Objects: objects, Parallel: parallel}
			if name == "ferry" {
				j.Parallel = environments(j)
			}
			err = withDestination(ctx, b.dir, func(destination *server) error {
				j.Destination = destination.store
				return b.run(ctx, link, j, columns[column], &r)
			})
			if err != nil {
				return fmt.Errorf("%s, %s, %s: %w", profile, work, name, err)
			}
			fmt.Fprintln(os.Stderr, r)
			b.rows = append(b.rows, r)
		}
	}
	return nil
}

func parseColumn(text string) (name string, parallel int, err error) {
	name, number, ok := strings.Cut(text, "-")
	if ok {
		parallel, err = strconv.Atoi(number)
	}
	if columns[name] == nil || err != nil || (ok && parallel < 1) {
		return "", 0, fmt.Errorf("got column %q, expected one of %s, and perhaps a dash and a number", text, names(columns))
	}
	return name, parallel, nil
}

// run runs one column once through a relay of its own.
func (b *bench) run(ctx context.Context, link relay.Link, j job, column func(context.Context, *bench, job) (usage, error), r *row) error {
	border, err := relay.Start(ctx, link, strings.TrimPrefix(b.source.store.Endpoint, "http://"))
	if err != nil {
		return err
	}
	defer border.Close()
	j.Link = b.source.store
	j.Link.Endpoint = border.Endpoint()

	limited, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	start := time.Now()
	u, failure := column(limited, b, j)
	u.took = cmp.Or(u.took, time.Since(start))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(failure, errReceiver) {
		return failure
	}
	carried, bytes, err := j.check(ctx)
	if err != nil {
		return err
	}
	switch {
	case limited.Err() != nil:
		r.Note = fmt.Sprintf("stopped after %s with %d of %d objects", b.timeout, carried, len(j.Objects))
	case failure != nil:
		r.Note = fmt.Sprintf("failed with %d of %d objects: %.300s", carried, len(j.Objects), failure)
	case carried != len(j.Objects):
		return fmt.Errorf("carried %d of %d objects", carried, len(j.Objects))
	}
	r.fill(link, u, border.Stats(), carried, bytes)
	return nil
}
