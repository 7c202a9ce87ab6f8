// Package recording writes down what CloudWatch would know of a run of the local system: the functions' own lines of metrics and logs as they are, and
// AWS's metrics of queues, tables and functions as far as the local endpoint knows them, as lines in the embedded metric format too. What it does
// not know it leaves out: which groups are noisy, for one.
package recording

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
	"github.com/waybillhq/waybill/shared/topology"
)

// Recording is safe for concurrent use. Its methods are the hooks of a system's Config.
type Recording struct {
	topology topology.Topology

	mu     sync.Mutex
	out    io.Writer
	err    error
	counts map[subject]map[string]float64   // since the last sample
	took   map[subject][]float64            // milliseconds of the runs that ended since then
	polled map[topology.FunctionName]polled // at the last sample
}

// subject is what a metric of AWS is of.
type subject struct{ namespace, dimension, name string }

// polled is what Lambda did on a queue, of which the endpoint hears nothing.
type polled struct{ received, deleted, empty int64 }

// New makes a Recording of a system that the topology declares. It writes to out, a line a call.
func New(out io.Writer, t topology.Topology) *Recording {
	return &Recording{topology: t, out: out, counts: map[subject]map[string]float64{}, took: map[subject][]float64{}, polled: map[topology.FunctionName]polled{}}
}

// Write takes a line of a function's metrics.
func (r *Recording) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(line)
	return len(line), nil
}

func (r *Recording) write(line []byte) {
	if _, err := r.out.Write(line); err != nil && r.err == nil {
		r.err = err
	}
}

// Err is the first failure to write.
func (r *Recording) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Logger gives the functions a logger whose lines have the form that they have in Lambda.
func (r *Recording) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{ReplaceAttr: lambdacontext.ReplaceAttr}))
}

func (r *Recording) count(s subject, metric string, n float64) {
	if n == 0 {
		return // AWS publishes no sum that is zero
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts[s] == nil {
		r.counts[s] = map[string]float64{}
	}
	r.counts[s][metric] += n
}

func queue(name string) subject    { return subject{topology.AWSQueue, "QueueName", name} }
func table(name string) subject    { return subject{topology.AWSTable, "TableName", name} }
func function(name string) subject { return subject{topology.AWSFunction, "FunctionName", name} }

// OnSend counts a message that a queue took.
func (r *Recording) OnSend(name string, _ sqs.Message) {
	r.count(queue(name), "NumberOfMessagesSent", 1)
}

// OnInvocation counts a run of a function that has ended.
func (r *Recording) OnInvocation(name topology.FunctionName, took time.Duration, err error) {
	s := function(string(name))
	r.count(s, "Invocations", 1)
	if err != nil {
		r.count(s, "Errors", 1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took[s] = append(r.took[s], float64(took.Microseconds())/1000)
}

// OnCall counts what a call to the endpoint consumed or received.
func (r *Recording) OnCall(c awslocal.Call) {
	switch c.Service {
	case "dynamodb":
		s := table(tableOf(c.Request))
		r.count(s, "ConsumedReadCapacityUnits", c.Units.Read)
		r.count(s, "ConsumedWriteCapacityUnits", c.Units.Write)
		if c.Err != nil && c.Err.Code == "ProvisionedThroughputExceededException" {
			r.count(s, throttled(c.Operation), 1)
		}
	case "sqs":
		r.received(c)
	}
}

func throttled(operation string) string {
	switch operation {
	case "GetItem", "BatchGetItem", "Query", "Scan":
		return "ReadThrottleEvents"
	}
	return "WriteThrottleEvents"
}

// received counts what programs take from queues by calls, which functions do not.
func (r *Recording) received(c awslocal.Call) {
	var in struct{ QueueUrl string } //nolint:revive // SQS's own name
	var out struct{ Messages, Successful []json.RawMessage }
	if json.Unmarshal(c.Request, &in) != nil || c.Err != nil || json.Unmarshal(c.Response, &out) != nil && c.Operation != "DeleteMessage" {
		return
	}
	s := queue(lastPart.FindString(in.QueueUrl))
	switch c.Operation {
	case "ReceiveMessage":
		r.count(s, "NumberOfMessagesReceived", float64(len(out.Messages)))
		if len(out.Messages) == 0 {
			r.count(s, "NumberOfEmptyReceives", 1)
		}
	case "DeleteMessage":
		r.count(s, "NumberOfMessagesDeleted", 1)
	case "DeleteMessageBatch":
		r.count(s, "NumberOfMessagesDeleted", float64(len(out.Successful)))
	}
}

var (
	lastPart = regexp.MustCompile(`[^/]*$`)
	target   = regexp.MustCompile(`(?i)^\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+"?([\w.-]+)`)
)

// tableOf is the table that a request is about. None of ours is about two.
func tableOf(request []byte) string {
	var in struct {
		TableName    string
		RequestItems map[string]json.RawMessage
		Statements   []struct{ Statement string }
	}
	_ = json.Unmarshal(request, &in) // the endpoint has refused what is no JSON
	for name := range in.RequestItems {
		return name
	}
	if len(in.Statements) > 0 {
		if m := target.FindStringSubmatch(in.Statements[0].Statement); m != nil {
			return m[1]
		}
	}
	return in.TableName
}

// Sample writes what queues and functions look like now, and what was counted since the last time.
func (r *Recording) Sample(s *system.System) {
	now := time.Now()
	for _, q := range s.Queues.Queues() {
		depth, oldest := q.Depth(), 0.0
		for _, held := range q.Snapshot() {
			sent, _ := strconv.ParseInt(held.Attributes["SentTimestamp"], 10, 64) // every message has one
			oldest = max(oldest, now.Sub(time.UnixMilli(sent)).Seconds())
		}
		r.emit(now, queue(q.Name()), map[string]any{
			"ApproximateNumberOfMessagesVisible": depth.Visible, "ApproximateNumberOfMessagesNotVisible": depth.InFlight,
			"ApproximateNumberOfMessagesDelayed": depth.Delayed, "ApproximateAgeOfOldestMessage": oldest,
		})
	}
	for _, f := range r.topology.Functions {
		m := s.Mappings[f.Name]
		if m == nil {
			continue
		}
		stats, last, source := m.Stats(), r.last(f.Name), queue(string(f.Source.Queue))
		next := polled{stats.Received, stats.Deleted, stats.EmptyReceives}
		r.count(source, "NumberOfMessagesReceived", float64(next.received-last.received))
		r.count(source, "NumberOfMessagesDeleted", float64(next.deleted-last.deleted))
		r.count(source, "NumberOfEmptyReceives", float64(next.empty-last.empty))
		r.remember(f.Name, next)
	}
	r.flush(now)
}

func (r *Recording) last(name topology.FunctionName) polled {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.polled[name]
}

func (r *Recording) remember(name topology.FunctionName, p polled) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.polled[name] = p
}

// flush writes what was counted and begins anew.
func (r *Recording) flush(now time.Time) {
	r.mu.Lock()
	counts, took := r.counts, r.took
	r.counts, r.took = map[subject]map[string]float64{}, map[subject][]float64{}
	r.mu.Unlock()
	for s, metrics := range counts {
		values := map[string]any{}
		for name, n := range metrics {
			values[name] = n
		}
		r.emit(now, s, values)
	}
	for s, durations := range took {
		r.emit(now, s, map[string]any{"Duration": durations})
	}
}

// emit writes a line in the embedded metric format.
func (r *Recording) emit(now time.Time, s subject, values map[string]any) {
	type name struct{ Name string }
	var names []name
	line := map[string]any{s.dimension: s.name}
	for metric, value := range values {
		names = append(names, name{metric})
		line[metric] = value
	}
	line["_aws"] = map[string]any{
		"Timestamp":         now.UnixMilli(),
		"CloudWatchMetrics": []any{map[string]any{"Namespace": s.namespace, "Dimensions": [][]string{{s.dimension}}, "Metrics": names}},
	}
	text, err := json.Marshal(line)
	if err != nil {
		return // numbers and texts alone
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(append(text, '\n'))
}

// Run samples until ctx ends, and once more then.
func (r *Recording) Run(ctx context.Context, s *system.System, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		r.Sample(s)
		select {
		case <-ctx.Done():
			r.Sample(s)
			return
		case <-ticker.C:
		}
	}
}
