package downstream

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/waybillhq/waybill/shared/registry"
)

// throttled are the statuses that say that the receiver has too much to do.
var throttled = [...]int{
	http.StatusTooManyRequests,    // 429
	http.StatusBadGateway,         // 502
	http.StatusServiceUnavailable, // 503
	http.StatusGatewayTimeout,     // 504
}

// Classify returns the verdict on an HTTP status. The first row that fits:
//
//	200–299                       Delivered
//	in reject                     Reject
//	410                           Gone
//	429, 502, 503, 504            Throttle
//	anything else, 3xx included   Retry
//
// A nil reject stands for registry.DefaultReject; a list that is not nil replaces it, an
// empty one rejects nothing.
func Classify(status int, reject []int) Verdict {
	if reject == nil {
		reject = registry.DefaultReject()
	}
	switch {
	case status >= 200 && status <= 299:
		return Delivered
	case slices.Contains(reject, status):
		return Reject
	case status == http.StatusGone:
		return Gone
	case slices.Contains(throttled[:], status):
		return Throttle
	default:
		return Retry
	}
}

// HTTPReason returns the reason for a status that did not deliver: "redirect"
// for 3xx, else "http-" and the status.
func HTTPReason(status int) string {
	if status >= 300 && status <= 399 {
		return ReasonRedirect
	}
	return "http-" + strconv.Itoa(status)
}
