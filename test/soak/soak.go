package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/s3ferry/s3ferry/internal/localcloud"
)

// writers is how many writes are under way at once.
const writers = 6

// soak is one run.
type soak struct {
	options
	cloud   *localcloud.Cloud
	written *written
	started time.Time
	quiet   chan struct{}  // closed when faults end
	running sync.WaitGroup // outages

	mu      sync.Mutex
	outages int // that hold the border closed
	struck  map[string][]func() int

	operations atomic.Int64
	skipped    time.Duration // of the queues' time, in the quiet
}

// run soaks a new cloud. Its error means that it could not; what is wrong with
// the ferry is in the report.
func run(ctx context.Context, o options) (*report, error) {
	logs, err := os.Create(o.logs)
	if err != nil {
		return nil, fmt.Errorf("make the log file: %w", err)
	}
	defer logs.Close()
	cloud, err := localcloud.Start(ctx, localcloud.Options{
		Dir: o.dir + "/cloud", Gated: true, Deletes: true, TagChanges: true, ReceiverConcurrency: o.receivers, CourierInterval: time.Second,
		URLLife: o.urlLife, Functions: o.functions, Logs: logs,
	})
	if err != nil {
		return nil, err
	}
	defer cloud.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // its directory goes anyway
	s := &soak{options: o, cloud: cloud, written: newWritten(cloud), quiet: make(chan struct{}), struck: map[string][]func() int{}}
	cloud.Gates.Border.Limit(o.rate * 1e6)
	defer s.showProgress()()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-cloud.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	if err := s.soak(ctx); err != nil {
		return nil, err
	}
	return s.look(ctx)
}

// soak writes and disturbs until the schedule is over, then waits until nothing
// is under way.
func (s *soak) soak(ctx context.Context) error {
	span := time.Duration(s.minutes*float64(time.Minute)) + s.outage
	plan := plan(s.seed, rates{Span: span, PerMinute: s.events, Faults: s.faults})
	s.started = time.Now()
	work, during := errgroup.WithContext(ctx)
	for _, own := range byKey(plan.Operations, writers) {
		work.Go(func() error { return s.write(during, own) })
	}
	work.Go(func() error { return s.disturb(during, plan.Disturbances) })
	if s.outage > 0 {
		work.Go(func() error { return s.closeFor(during, (span-s.outage)/3) })
	}
	if err := work.Wait(); err != nil {
		return err
	}
	s.calm()
	return s.await(ctx)
}

// until waits for a moment of the schedule.
func (s *soak) until(ctx context.Context, at time.Duration) error {
	timer := time.NewTimer(time.Until(s.started.Add(at)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *soak) disturb(ctx context.Context, all []disturbance) error {
	for _, d := range all {
		if err := s.until(ctx, d.At); err != nil {
			return err
		}
		s.note(d.Kind, strike(d.Kind)(s, d))
	}
	return nil
}

func (s *soak) note(kind string, met func() int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.struck[kind] = append(s.struck[kind], met)
}

// closeFor is the long outage.
func (s *soak) closeFor(ctx context.Context, from time.Duration) error {
	if err := s.until(ctx, from); err != nil {
		return err
	}
	met, end := s.shut()
	defer end()
	s.note("the long outage", met)
	return s.until(ctx, from+s.outage)
}

// calm ends all faults.
func (s *soak) calm() {
	close(s.quiet)
	s.running.Wait()
	g := s.cloud.Gates
	for _, gate := range []interface{ Disarm() }{g.API, g.Border, g.Source, g.Destination, g.Services} {
		gate.Disarm()
	}
}
