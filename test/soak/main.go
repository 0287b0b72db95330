// Command soak proves the loop by force: on a laptop cloud it writes, tags and
// deletes objects while functions are killed, queues deliver twice and out of order, and networks
// and services fail. Then it leaves all alone until nothing is under way any
// more, and compares both sides.
//
//	go run ./test/soak --minutes 3 --seed 1
//
// The seed and the rates decide what is done when; what comes of it, no two runs
// share. It fails if anything is missing, stale, corrupt, left open or stuck, if
// there is a dead letter, or if a log holds a secret.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/s3ferry/s3ferry/internal/localcloud/s3gw"
)

func main() {
	if s3gw.IsChild() {
		os.Exit(s3gw.Main())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// errWrong says that the report lists what is wrong.
var errWrong = errors.New("something is wrong")

// options are the flags.
type options struct {
	minutes        float64
	seed           uint64
	events, faults float64 // a minute
	rate           float64
	closed         string
	urlLife        time.Duration
	outage         time.Duration
	patience       time.Duration
	receivers      int
	logs, dir      string
	functions      string
	asJSON         bool
}

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("soak", flag.ExitOnError)
	var o options
	flags.Float64Var(&o.minutes, "minutes", 3, "minutes of writes and faults; the quiet after them is not counted")
	flags.Uint64Var(&o.seed, "seed", 1, "what the schedule follows from")
	flags.Float64Var(&o.events, "events", 700, "writes, deletions and changes of tags a minute")
	flags.Float64Var(&o.faults, "faults", 90, "faults a minute")
	flags.DurationVar(&o.urlLife, "url-life", 8*time.Second, "life of signed URLs, whole seconds")
	flags.DurationVar(&o.outage, "outage", 0, "time for which the border is closed after a third of the minutes; added to them")
	flags.StringVar(&o.closed, "closed", "both", "the `WAYS` that an outage closes: both, pulls (what receivers pull) or api (what sender and courier call)")
	flags.Float64Var(&o.rate, "rate", 12, "MB a second that the border lets the receivers pull")
	flags.DurationVar(&o.patience, "patience", 5*time.Minute, "how long nothing may move in the quiet")
	flags.IntVar(&o.receivers, "receivers", 4, "receivers at once")
	flags.StringVar(&o.logs, "logs", "", "`FILE` that takes the logs of the functions; default none that stays")
	flags.StringVar(&o.dir, "dir", "", "where objects are kept while it runs; default a temporary directory")
	flags.StringVar(&o.functions, "functions", "", "directory with the functions' binaries; default: they are built")
	flags.BoolVar(&o.asJSON, "json", false, "print the report as JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || o.minutes <= 0 || o.events <= 0 || o.faults < 0 || o.rate <= 0 || o.receivers < 1 || o.urlLife < time.Second ||
		!slices.Contains([]string{"both", "pulls", "api"}, o.closed) {
		return errors.New("got an argument, or a flag's value out of its range: see --help")
	}
	dir, err := os.MkdirTemp(o.dir, "s3ferry-soak-")
	if err != nil {
		return fmt.Errorf("make a directory for the objects: %w", err)
	}
	defer os.RemoveAll(dir)
	o.dir, o.logs = dir, cmp.Or(o.logs, dir+"/functions.log")
	r, err := run(ctx, o)
	if err != nil {
		return err
	}
	if o.asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(r)
	} else {
		_, err = fmt.Println(r)
	}
	if err == nil && len(r.Wrong) > 0 {
		err = errWrong
	}
	return err
}
