package program

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// used gives the processor time and the most memory that a process has used, as Linux tells them.
func used(pid int) (processor time.Duration, peakBytes int64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is well-formed
	for _, thread := range threads {
		processor += onProcessor(read(thread))
	}
	return processor, peak(read(fmt.Sprintf("/proc/%d/status", pid)))
}

func read(path string) string {
	text, _ := os.ReadFile(path) //nolint:gosec // below /proc; elsewhere there is none, and nothing is told
	return string(text)
}

// onProcessor reads a thread's schedstat, whose first number is nanoseconds.
func onProcessor(schedstat string) time.Duration {
	first, _, _ := strings.Cut(schedstat, " ")
	n, _ := strconv.ParseInt(first, 10, 64) // 0 for what is no number
	return time.Duration(n)
}

// peak reads VmHWM of a process's status, which is in kB.
func peak(status string) int64 {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// loadAverage gives the load averages over 1, 5 and 15 minutes.
func loadAverage() string {
	fields := strings.Fields(read("/proc/loadavg"))
	if len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}

// processorModel names the processor.
func processorModel() string {
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
