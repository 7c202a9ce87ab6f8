// Package redrive moves dead letters back to work: those that a filter selects, at a steady rate, from a dead-letter queue
// to the queue that they came from. The program is scripts/redrive; a function may use this package just as well.
//
// # What is moved, and how
//
// From deliveries-dlq to deliveries: deliveries. Those that Waybill gave up were written as attempt 1 of the next epoch, those
// that SQS moved by receive count, and those of a record that panicked, as they were; both are sent as they lie there, because that is what makes the
// ledger try them again. From ingress-dlq to ingress: messages of producers, as they lie there; one that carries no
// event id yet gets its own message id as one, so that its event stays the same event (a native redrive cannot do that).
// Body, message attributes with Waybill's note, message group and trace are kept.
//
// A replay delivers even what the ledger says is delivered: every message is sent as attempt 1 of one epoch more than it
// says, marked as a replay. The ledger holds the epoch of the message or an earlier one, so that the claim is granted, once
// for each dead letter, also when a crash has its message sent twice. Nothing but a dead letter can be replayed: a delivery that is settled leaves no payload behind.
//
// # Nothing is lost
//
// A message is sent first, and deleted when the queue has accepted the copy. A crash between the two leaves both: the
// next run sends it once more, and the ledger makes one delivery of it. A send whose answer is lost may have
// arrived: the message stays and is sent again. When the context ends, calls that have begun are finished, and everything else
// is visible again before Run returns; after a kill, when Config.Hidden is over. Running again goes on where the last run ended.
//
// # Finding the letters
//
// SQS has no cursor, and 120,000 messages in flight stall a queue. Run receives messages and keeps those that it does not
// move in flight, so that it gets to the others, until there are Config.Window of them. Then it shows the youngest tenth of them
// again and receives on; messages that it has met before it knows by their ids. That makes progress because SQS serves
// a message that was received three times after all others, and because messages of the groups that are not in flight
// come first. Where a queue serves messages strictly by age, nobody can see beyond the limit in flight
// without deleting something; Config.Rotate then sends what does not match to the end of its own queue, with its age and
// identity noted, and deletes the original.
// Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
//
// # It ends
//
// Only messages that lay there when Run began count, by the time that SQS gives them: what fails again at once and
// returns is left for the next run. Run ends when two long polls in a row find nothing and the queue says that nothing is
// visible; or when, for several rounds of the window, nothing came that it had not met before. In the latter case it compares what it
// has met with what the queue says it holds, and reports the difference as Report.Unseen. New messages are finitely many, and between
// two of them there is a bounded number of receives, so one of the two happens.
package redrive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/shared/queue/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// Defaults and limits of a Config.
const (
	DefaultRate   = 50  // messages a second
	MaxRate       = 500 // as fast as SQS's own redrive with a rate
	DefaultWindow = 100_000
	MaxWindow     = 119_000 // SQS's limit is about 120,000, and messages on the move are in flight too
	DefaultHidden = 10 * time.Minute
	minHidden     = 5 * time.Minute // the slowest round takes less
)

// API is what Run needs of the SDK's client. Repeating failed calls is the client's business: whoever makes it configures the SDK's
// retries.
type API interface {
	sqs.API
	ReceiveMessage(ctx context.Context, in *awssqs.ReceiveMessageInput, options ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(ctx context.Context, in *awssqs.DeleteMessageBatchInput, options ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error)
	GetQueueAttributes(ctx context.Context, in *awssqs.GetQueueAttributesInput, options ...func(*awssqs.Options)) (*awssqs.GetQueueAttributesOutput, error)
}

// Config says what to move where. The first four fields are required.
type Config struct {
	SQS     API
	From    topology.QueueName // DeliveriesDeadLetter or IngressDeadLetter: what the messages are
	FromURL string
	ToURL   string

	Filter Filter
	// Limit is how many messages are moved at most. 0: no limit.
	Limit int
	// Rate is how many messages are moved in a second at most, evenly spread. Default DefaultRate, at most MaxRate.
	Rate int
	// DryRun counts what would be moved, moves nothing, and shows every message again. All that it changes is what SQS itself counts:
	// how often a message was received and when first. Dead-letter queues have no redrive policy that would act on that.
	DryRun bool
	// Replay has even delivered deliveries made again, under the public id that they have; NewID under a new one, because a receiver
	// that remembers ids drops the old one. That id is drawn once: what becomes of the message later keeps it.
	Replay, NewID bool
	// Rotate permits to send what does not match to the end of its own queue where messages cannot be reached otherwise. It
	// changes the message id, and SQS counts the retention from then.
	Rotate bool
	// Window is how many messages are kept in flight at most while looking for others. More is faster in large queues; the limit
	// of SQS is shared with other readers. Default DefaultWindow, at most MaxWindow. It shrinks by itself where the queue stalls earlier.
	Window int
	// Hidden is for how long messages stay invisible after a crash. Shorter: they are received more often during a long run.
	// Default DefaultHidden, at least 5 min.
	Hidden time.Duration
	// OnProgress hears of the state from time to time, always from the goroutine of Run. It must be quick.
	OnProgress func(Report)
}

// Redrive is a configured move. It keeps no state: every Run looks at the whole queue. It is safe for concurrent use; concurrent runs
// take messages from each other and each reports its own part.
type Redrive struct{ cfg Config }

// New checks the configuration. The error lists every problem at once.
func New(cfg Config) (*Redrive, error) {
	if err := errors.Join(cfg.problems()...); err != nil {
		return nil, err
	}
	if cfg.Rate == 0 {
		cfg.Rate = DefaultRate
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Hidden == 0 {
		cfg.Hidden = DefaultHidden
	}
	return &Redrive{cfg}, nil
}

func (c *Config) problems() (problems []error) {
	need := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	need(c.SQS != nil, "the SQS client is missing")
	ingress := c.From == topology.IngressDeadLetter
	need(ingress || c.From == topology.DeliveriesDeadLetter, "queue %q: redrive knows %s and %s", c.From, topology.DeliveriesDeadLetter, topology.IngressDeadLetter)
	need(c.FromURL != "", "the URL of the dead-letter queue is missing")
	need(c.ToURL != "", "the URL of the queue to move to is missing")
	need(c.FromURL == "" || c.FromURL != c.ToURL, "source and target are the same queue")
	need(!strings.HasSuffix(c.FromURL, ".fifo") && !strings.HasSuffix(c.ToURL, ".fifo"),
		"FIFO queues cannot be redriven by filter, their order would be lost: use SQS's own redrive")
	need(c.Rate >= 0 && c.Rate <= MaxRate, "rate %d: between 1 and %d messages a second", c.Rate, MaxRate)
	need(c.Limit >= 0, "limit %d: 1 or more, or 0 for none", c.Limit)
	need(c.Window == 0 || c.Window >= 100 && c.Window <= MaxWindow, "window %d: between 100 and %d messages", c.Window, MaxWindow)
	need(c.Hidden == 0 || c.Hidden >= minHidden && c.Hidden <= 11*time.Hour, "hidden for %v: between %v and 11h", c.Hidden, minHidden)
	need(!c.NewID || c.Replay, "a new id is for a replay: a redrive keeps the id, so that the receiver sees one effect")
	need(!ingress || !c.Replay, "events in %s cannot be replayed: they have not been delivered yet", c.From)
	need(!ingress || len(c.Filter.Destinations) == 0, "messages in %s have no destination yet: select by tenant, type, reason or time", c.From)
	need(!ingress || len(c.Filter.Codes) == 0, "messages in %s have no status code, nobody was called: select by tenant, type, reason or time", c.From)
	need(!c.Replay || !c.Filter.Unreadable, "what cannot be read cannot be marked as a replay: move it without replay")
	need(!c.Rotate || !c.DryRun, "a dry run moves nothing, so it cannot rotate the queue")
	return append(problems, c.Filter.problems()...)
}
