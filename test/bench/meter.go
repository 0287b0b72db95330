package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// meter watches processes through /proc; where there is none it reads zero.
type meter struct {
	mu   sync.Mutex
	peak int64                 // resident bytes of the biggest process
	cpu  map[int]time.Duration // by process
	stop context.CancelFunc
	over sync.WaitGroup
}

// Linux counts processor time in hundredths of a second for user space,
// whatever the kernel's own tick.
const clockTick = 10 * time.Millisecond

// startMeter watches what pids returns, again and again.
func startMeter(ctx context.Context, pids func() []int) *meter {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	m := &meter{cpu: map[int]time.Duration{}, stop: stop}
	m.over.Go(func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				m.read(pids())
			}
		}
	})
	return m
}

func (m *meter) read(pids []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, pid := range pids {
		m.peak = max(m.peak, peakRSS(pid))
		if used := cpuTime(pid); used > 0 {
			m.cpu[pid] = used
		}
	}
}

// end reads one last time and returns the peak of the biggest process in bytes
// and the processor time of all.
func (m *meter) end(pids []int) (peak int64, cpu time.Duration) {
	m.stop()
	m.over.Wait()
	m.read(pids)
	for _, used := range m.cpu {
		cpu += used
	}
	return m.peak, cpu
}

func peakRSS(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n * kiB
}

func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; utime and stime are the 12th
	// and 13th fields after it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const utime, stime = 11, 12
	if len(fields) <= stime {
		return 0
	}
	user, _ := strconv.ParseInt(fields[utime], 10, 64)
	system, _ := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * clockTick
}
