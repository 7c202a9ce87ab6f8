package auditor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State says where a delivery is; see the package documentation.
type State string

// The states of a delivery.
const (
	Delivered State = "delivered"
	Waiting   State = "waiting"
	Parked    State = "parked"
	Queued    State = "queued"
	Dead      State = "dead"
	Lost      State = "lost"

	unrouted State = "" // its event is an ingress dead letter: not a delivery until it is moved back
)

// What Check reports.
var (
	// ErrEvents: the first law is broken, an accepted event is missing.
	ErrEvents = errors.New("events accepted ≠ routed + unmatched + dropped + ingress dead letters + still in the ingress queue")
	// ErrDeliveries: the second law is broken, a delivery is lost.
	ErrDeliveries = errors.New("deliveries ≠ delivered + waiting + parked + dead + queued")
	// ErrUnexpected: there is a delivery that no accepted event asks for.
	ErrUnexpected = errors.New("deliveries that no accepted event asks for")
	// ErrUnexplained: a dead letter that had room for its reason tells none.
	ErrUnexplained = errors.New("dead letters without a reason")
)

// Books are the result of an audit. In JSON they are the summary of a run: numbers only.
type Books struct {
	Accepted    int `json:"accepted"`     // events, each time they were accepted; a message that is no event counts as one
	Unmatched   int `json:"unmatched"`    // of these: no destination wants them
	Dropped     int `json:"dropped"`      // notices that are no events
	IngressDead int `json:"ingress_dead"` // in the ingress dead-letter queue
	Deliveries  int `json:"deliveries"`
	Delivered   int `json:"delivered"`
	Duplicates  int `json:"duplicates"` // accepted events that had been accepted before: same tenant, source and id
	Retried     int `json:"retried"`    // attempts beyond the first of each delivery
	Waiting     int `json:"waiting"`
	Parked      int `json:"parked"`
	Dead        int `json:"dead"`
	Queued      int `json:"queued"`
	Lost        int `json:"lost"`

	HTTPAttempts int                       `json:"http_attempts"` // attempts made, whatever came of them
	AWSCalls     map[string]map[string]int `json:"aws_calls"`     // by service and operation
	WriteUnits   float64                   `json:"write_units"`
	ReadUnits    float64                   `json:"read_units"`

	Routed    int   `json:"-"` // accepted events with all deliveries on their way
	InIngress int   `json:"-"` // accepted events that the router has not finished with
	Missing   int   `json:"-"` // accepted events that are nowhere
	Rows      []Row `json:"-"` // one for each delivery, in the order of acceptance

	// Unreadable tells of messages and rows that could not be read, Foreign of messages in the ingress queues that no producer sent. Both
	// list the first few; they break no law by themselves.
	Unreadable, Foreign []string `json:"-"`

	missing, unexpected, unexplained list
}

// Row is the account of one delivery.
type Row struct {
	Delivery    string        `json:"delivery"`
	Destination string        `json:"destination"`
	Tenant      string        `json:"tenant"`
	Source      string        `json:"source"`
	Event       string        `json:"event"` // its id
	Type        string        `json:"type"`
	State       State         `json:"state"`
	Attempts    int           `json:"attempts"`
	Code        int           `json:"code,omitempty"`    // of the last attempt: the receiver's status, 0 where there was none
	Reason      string        `json:"reason,omitempty"`  // why it is not delivered; of a lost one, what is missing
	Took        time.Duration `json:"took_ns,omitempty"` // from acceptance until it was delivered or given up; else 0
}

// Check holds the books to the two laws, and to two rules that must hold beside them. The error wraps ErrEvents, ErrDeliveries,
// ErrUnexpected and ErrUnexplained, whichever apply, and names the first few ids.
func (b Books) Check() error {
	var errs []error
	if found := b.Routed + b.Unmatched + b.Dropped + b.IngressDead + b.InIngress; b.Accepted != found {
		errs = append(errs, fmt.Errorf("%w: %d ≠ %d + %d + %d + %d + %d, missing: %v",
			ErrEvents, b.Accepted, b.Routed, b.Unmatched, b.Dropped, b.IngressDead, b.InIngress, b.missing))
	}
	if found := b.Delivered + b.Waiting + b.Parked + b.Dead + b.Queued; b.Deliveries != found {
		var lost list
		for _, r := range b.Rows {
			if r.State == Lost {
				lost.addf("%s of event %q to %s (%s)", r.Delivery, bounded(r.Event), r.Destination, r.Reason)
			}
		}
		errs = append(errs, fmt.Errorf("%w: %d ≠ %d + %d + %d + %d + %d, lost: %v",
			ErrDeliveries, b.Deliveries, b.Delivered, b.Waiting, b.Parked, b.Dead, b.Queued, lost))
	}
	if len(b.unexpected.first) > 0 {
		errs = append(errs, fmt.Errorf("%w: %v", ErrUnexpected, b.unexpected))
	}
	if len(b.unexplained.first) > 0 {
		errs = append(errs, fmt.Errorf("%w: %v", ErrUnexplained, b.unexplained))
	}
	return errors.Join(errs...)
}

// maxListed bounds how many ids an error names.
const maxListed = 10

// list keeps the first few different entries. The zero list is empty.
type list struct {
	first []string
	more  bool
}

func (l *list) addf(format string, args ...any) {
	entry := fmt.Sprintf(format, args...)
	switch {
	case slices.Contains(l.first, entry):
	case len(l.first) == maxListed:
		l.more = true
	default:
		l.first = append(l.first, entry)
	}
}

// String gives the entries on one line.
func (l list) String() string {
	s := strings.Join(l.first, "; ")
	if l.more {
		s += "; and more"
	}
	return s
}

func (l list) clone() list { return list{slices.Clone(l.first), l.more} }

// bounded shortens an id of a producer for an error.
func bounded(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
