package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/backfill"
	"github.com/s3ferry/s3ferry/internal/listing"
)

type backfillFlags struct {
	sides     sidesFlags
	prefix    string
	suffix    string
	inventory string
	state     string
	rate      int
	dryRun    bool
	json      bool
}

func newBackfill() *cobra.Command {
	var f backfillFlags
	command := &cobra.Command{
		Use:   "backfill",
		Short: "Carry the objects that no event told of",
		Long: `Backfill puts an event into the outbox for each object that is in the source
bucket now: those from before the link, or from while its events went elsewhere.
It lists the bucket, in several ranges at once, or reads an S3 Inventory in CSV.
Of a versioned bucket only current versions are carried.

It may run while others write: such an event is older than any of S3's for the
same key, and what is at the destination already is left alone. So it does not
mend what is stale there; verify --repair does.

With --state it goes on where an earlier run has stopped.`,
		Example: `  s3ferry backfill --global-profile global --prefix reports/ --rate 200 --state reports.state
  s3ferry backfill --global-profile global --inventory s3://inventories/source/daily/2026-11-01T00-00Z/manifest.json
  s3ferry backfill --local cloud.json --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error { return errors.Join(cobra.NoArgs(cmd, args), f.check()) },
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.sides.register(command)
	f.sides.registerSource(command)
	flags := command.Flags()
	flags.StringVar(&f.prefix, "prefix", "", "only keys that begin with this `TEXT`")
	flags.StringVar(&f.suffix, "suffix", "", "only keys that end in this `TEXT`")
	flags.StringVar(&f.inventory, "inventory", "", "`MANIFEST` of an S3 Inventory: s3://BUCKET/KEY, or a file with the data files in its directory")
	flags.StringVar(&f.state, "state", "", "`FILE` that keeps how far it is")
	flags.IntVar(&f.rate, "rate", 0, "most `OBJECTS` a second (default: as fast as it goes)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "count what would be queued, and change nothing")
	flags.BoolVar(&f.json, "json", false, "print the totals as JSON")
	return command
}

// check says which flags do not belong together.
func (f *backfillFlags) check() error {
	err := f.sides.check(false)
	if f.rate < 0 {
		err = errors.Join(err, fmt.Errorf("--rate: got %d, expected 0 or more", f.rate))
	}
	if f.dryRun && f.state != "" {
		err = errors.Join(err, errors.New("--dry-run does nothing that --state could keep"))
	}
	return err
}

func (f *backfillFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	global, err := f.sides.openSending(ctx, cmd.InOrStdin())
	if err != nil {
		return err
	}
	from, err := f.from(ctx, global)
	if err != nil {
		return err
	}
	state, err := backfill.OpenState(f.state, fmt.Sprintf("%s in %s, prefix %q, suffix %q, inventory %q, to %s",
		global.bucket, global.region, f.prefix, f.suffix, f.inventory, global.outbox))
	if err != nil {
		return err
	}
	shown := newCounter(cmd.ErrOrStderr(), "objects queued")
	options := backfill.Options{
		Region: global.region, Bucket: global.bucket, Suffix: f.suffix, State: state, Rate: f.rate,
		Progress: func(t backfill.Totals) { shown.set(t.Queued) },
	}
	if !f.dryRun {
		options.Outbox = global.queue()
	}
	totals, err := backfill.Run(ctx, from, options)
	shown.done()
	return errors.Join(f.print(cmd.OutOrStdout(), totals), err)
}

func (f *backfillFlags) print(out io.Writer, t backfill.Totals) error {
	verb := "queued"
	if f.dryRun {
		verb = "to be queued"
	}
	if f.json {
		if err := json.NewEncoder(out).Encode(t); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "%d objects %s, %d bytes of them in this run\n", t.Queued, verb, t.Bytes)
	}
	if t.Unfit > 0 {
		return fmt.Errorf("%d objects cannot be carried, such as %s", t.Unfit, t.Example)
	}
	return nil
}

// from is where the objects are known from.
func (f *backfillFlags) from(ctx context.Context, global *sending) (backfill.From, error) {
	if f.inventory == "" {
		return &backfill.Listing{Bucket: listing.Bucket{S3: global.s3, Name: global.bucket}, Prefix: f.prefix}, nil
	}
	open, manifest := besideManifest(f.inventory), filepath.Base(f.inventory)
	if rest, ok := strings.CutPrefix(f.inventory, "s3://"); ok {
		bucket, key, _ := strings.Cut(rest, "/")
		if bucket == "" || key == "" {
			return nil, fmt.Errorf("--inventory: got %q, expected s3://BUCKET/KEY", f.inventory)
		}
		open, manifest = inBucket(global.s3, bucket), key
	}
	inventory, err := backfill.OpenInventory(ctx, open, manifest, global.bucket)
	if err != nil {
		return nil, err
	}
	inventory.Prefix = f.prefix
	return inventory, nil
}

func inBucket(client *s3.Client, bucket string) backfill.Open {
	return func(ctx context.Context, key string, from int64) (io.ReadCloser, error) {
		in := &s3.GetObjectInput{Bucket: &bucket, Key: &key}
		if from > 0 {
			in.Range = aws.String(fmt.Sprintf("bytes=%d-", from))
		}
		out, err := client.GetObject(ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Body, nil
	}
}

// besideManifest opens the files of an inventory that was fetched: their names
// are the last parts of their keys.
func besideManifest(manifest string) backfill.Open {
	return func(_ context.Context, key string, from int64) (io.ReadCloser, error) {
		file, err := os.Open(filepath.Join(filepath.Dir(manifest), path.Base(key)))
		if err != nil {
			return nil, err
		}
		_, err = file.Seek(from, io.SeekStart)
		return file, err
	}
}
