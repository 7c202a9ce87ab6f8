package retry

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ParseAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds, or an HTTP date in any of its three forms,
// which counts from now. The result lies between 0 (also for a date that has passed) and MaxRetryAfter. Anything else
// gives ok = false and counts as no request to wait.
func ParseAfter(header string, now time.Time) (wait time.Duration, ok bool) {
	header = strings.Trim(header, " \t")
	if header == "" {
		return 0, false
	}
	if strings.Trim(header, "0123456789") == "" {
		return parseSeconds(header), true
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), MaxRetryAfter), true
}

// parseSeconds reads digits, however many.
func parseSeconds(digits string) time.Duration {
	const most = uint64(MaxRetryAfter / time.Second)
	seconds, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || seconds > most { // the only error that digits can cause is a number out of range
		return MaxRetryAfter
	}
	return time.Duration(seconds) * time.Second
}
