// Package sqs is a small, strict Amazon SQS for local use: queues in memory that accept what SQS
// accepts, refuse what SQS refuses with SQS's error codes, and time delays, visibility, retention
// and long polls like SQS.
//
// It has two doors. [Service] is a wire.Service that takes the JSON documents of the AWS protocol, so
// that any AWS SDK is a client. [Queue] is a typed Go API for what lives in the same process. Both
// see the same messages, and everything is safe for concurrent use.
//
// What is not like SQS, on purpose:
//
//   - Nothing is lost or delivered twice by itself, and messages of a standard queue come in the order in
//     which they were sent. [Disorder] takes that comfort away, deterministically.
//   - Counts are exact and settings take effect at once.
//   - A receipt handle that has been superseded by a later receive deletes nothing (SQS promises
//     no more), although the call succeeds.
//   - Fair queues: a group is noisy while it has 30 or more messages in flight. Quiet groups go first, in the
//     order of their messages; of the noisy ones that with the fewest in flight. SQS asks in addition
//     for 10 % of all messages in flight or of the processing time, which are left out.
//     A message without a group is a group of its own.
//   - Operations on permissions and tags, and ReceiveRequestAttemptId, are refused.
package sqs

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// DefaultMaxInFlight is SQS's own limit on messages in flight.
const DefaultMaxInFlight = 120_000

// Options configure a Service. The zero value is usable.
type Options struct {
	// BaseURL is what queue URLs start with, without a slash at the end. Default "http://127.0.0.1:4566".
	// Requests may name a queue under any host.
	BaseURL string
	// AccountID defaults to "000000000000".
	AccountID string
	// Region defaults to "us-east-1".
	Region string
	// Seed makes message ids, and Disorder, repeatable. 0 takes a random seed.
	Seed uint64
	// Disorder makes standard queues reorder and repeat messages, as SQS may. Default: neither.
	Disorder Disorder
	// MaxInFlight is how many messages of one queue can be received and not yet deleted. Default DefaultMaxInFlight. At
	// the limit a receive without a wait on a standard queue fails with OverLimit; with a wait, or on a FIFO
	// queue, it finds nothing: the queue stalls in silence.
	MaxInFlight int
	// OnSend is called for every message that SendMessage, SendMessageBatch or Queue.Send accepted, before
	// anybody can receive it; not for moves between queues, nor for a message that a FIFO queue dropped as a duplicate.
	// It runs under the service's lock: it must be quick and must not call the service.
	OnSend func(queue string, message Message)
}

// Disorder says how badly standard queues behave.
type Disorder struct {
	Reorder   float64 // share of messages that take a place up to 32 messages later
	Duplicate float64 // share of receives after which the message stays visible to others
}

// Service is a region's worth of queues.
type Service struct {
	opts Options

	mu      sync.Mutex // guards everything below and every queue
	rand    *rand.Rand
	queues  map[string]*Queue
	deleted map[string]time.Time // names that cannot be used again yet
	tasks   []*moveTask
	serial  uint64 // orders messages, numbers receipts and FIFO sequences
}

// Name gives "sqs".
func (s *Service) Name() string { return "sqs" }

// New gives a service without queues. It needs no closing.
func New(opts Options) *Service {
	opts.BaseURL = strings.TrimRight(cmp.Or(opts.BaseURL, "http://127.0.0.1:4566"), "/")
	opts.AccountID = cmp.Or(opts.AccountID, wire.AccountID)
	opts.Region = cmp.Or(opts.Region, wire.Region)
	opts.MaxInFlight = cmp.Or(opts.MaxInFlight, DefaultMaxInFlight)
	seed := opts.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &Service{
		opts:    opts,
		rand:    rand.New(rand.NewPCG(seed, seed)),
		queues:  map[string]*Queue{},
		deleted: map[string]time.Time{},
	}
}

// Queue gives the queue of that name.
func (s *Service) Queue(name string) (*Queue, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	return q, ok
}

// Queues gives all queues by name.
func (s *Service) Queues() []*Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sorted()
}

func (s *Service) sorted() []*Queue {
	return slices.SortedFunc(maps.Values(s.queues), func(a, b *Queue) int { return cmp.Compare(a.name, b.name) })
}

// Snapshot gives every message in every queue by queue name, all at the same instant: a message that is
// being moved between queues is in exactly one of them.
func (s *Service) Snapshot() map[string][]Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	all := map[string][]Held{}
	for name, q := range s.queues {
		all[name] = q.snapshot(now)
	}
	return all
}

var (
	queueName     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)
	fifoQueueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,75}\.fifo$`)
)

// CreateQueue creates a queue, or gives the existing one if every attribute named has the same value there.
func (s *Service) CreateQueue(name string, attributes map[string]string) (*Queue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fifo := attributes["FifoQueue"] == "true"
	switch {
	case fifo && !fifoQueueName.MatchString(name):
		return nil, invalidParameter("The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length.")
	case !fifo && !queueName.MatchString(name):
		return nil, invalidParameter("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length. A name that ends with .fifo needs the attribute FifoQueue.")
	}
	now := time.Now()
	if q, ok := s.queues[name]; ok {
		return q, q.settings.same(attributes)
	}
	if since := now.Sub(s.deleted[name]); since < time.Minute {
		return nil, simple("QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another with the same name.")
	}
	q := s.newQueue(name, fifo, now)
	if err := s.change(q, attributes, true); err != nil {
		return nil, err
	}
	delete(s.deleted, name)
	s.queues[name] = q
	return q, nil
}

// DeleteQueue deletes the queue and its messages. Receives that wait for it fail.
func (s *Service) DeleteQueue(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return noQueue()
	}
	now := time.Now()
	maps.DeleteFunc(s.deleted, func(_ string, at time.Time) bool { return now.Sub(at) >= time.Minute })
	s.deleted[name] = now
	delete(s.queues, name)
	q.gone = true
	q.clear()
	for q.waiters.Len() > 0 {
		q.signal()
	}
	return nil
}

// arn gives the ARN of a queue of this service.
func (s *Service) arn(name string) string {
	return "arn:aws:sqs:" + s.opts.Region + ":" + s.opts.AccountID + ":" + name
}

// byARN gives the queue of that ARN, nil if there is none.
func (s *Service) byARN(arn string) *Queue {
	name := arn[strings.LastIndexByte(arn, ':')+1:]
	if q, ok := s.queues[name]; ok && q.arn == arn {
		return q
	}
	return nil
}

// next gives numbers that only grow.
func (s *Service) next() uint64 {
	s.serial++
	return s.serial
}

func (s *Service) newID() string {
	a, b := s.rand.Uint64(), s.rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

var _ wire.Service = (*Service)(nil)
