package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/waybillhq/waybill/functions/wiring"
	"github.com/waybillhq/waybill/shared/awslocal/inmem"
	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	"github.com/waybillhq/waybill/shared/topology"
)

// environment is one execution environment of a function, with a clock and a source of randomness of its own.
type environment struct {
	world    *world
	function topology.FunctionName
	number   int
	skew     time.Duration
	jump     time.Duration // what the skew becomes
	jumpAt   time.Time     // zero: never

	inv     atomic.Pointer[mapping.Invocation]
	touched map[string]bool // deliveries that the invocation has claimed or read; the conductor's
	working *mapping.Invocation

	mu      sync.Mutex
	frost       // guarded by mu
	waiting int // goroutines that stand still
	rand    *rand.Rand
	tokens  int
	blind   time.Time // when it last could not read how destinations fare

	listener *inmem.Listener
	serve    sync.Once
}

// blinded notes that the environment has not learnt how destinations fare: it lets deliveries pass then.
func (e *environment) blinded() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blind = time.Now()
}

// blindSince tells whether that has happened within a time.
func (e *environment) blindSince(d time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.blind.IsZero() && time.Since(e.blind) < d
}

// String gives "deliverer#2".
func (e *environment) String() string { return fmt.Sprintf("%s#%d", e.function, e.number) }

// now is the environment's clock.
func (e *environment) now() time.Time {
	now := time.Now()
	if !e.jumpAt.IsZero() && !now.Before(e.jumpAt) {
		return now.Add(e.jump)
	}
	return now.Add(e.skew)
}

func (e *environment) random() float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rand.Float64()
}

func (e *environment) token() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tokens++
	return fmt.Sprintf("~%s-%d~", e, e.tokens)
}

// largestSkew is how far the clock of an environment may be off.
const largestSkew = 4 * time.Second

// parts makes the parts of a new environment of a function.
func (w *world) parts(f topology.FunctionName, p wiring.Parts) wiring.Parts {
	w.mu.Lock()
	w.started[f]++
	e := &environment{world: w, function: f, number: w.started[f], touched: map[string]bool{}}
	w.made = e
	w.mu.Unlock()
	e.rand = w.dice.of("environment", e.String())
	e.listener = inmem.Listen(e.String())
	w.clock(e)
	p.AWS.HTTPClient = client{e}
	p.AWS.Credentials = aws.AnonymousCredentials{}
	p.AWS.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
				return time.Duration(e.random() * float64(min(time.Second<<max(attempt, 0), 20*time.Second))), nil
			})
		})
	}
	p.Now, p.Random, p.Token = e.now, e.random, e.token
	p.Dial = e.dial
	p.Logger = w.logger(e)
	p.OnAttempt = w.auditor.OnAttempt
	if w.bug != nil && w.bug.plant != nil {
		w.bug.plant(e, &p)
	}
	return p
}

// dial connects the environment with the receivers.
func (e *environment) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	e.serve.Do(func() {
		e.world.mu.Lock()
		e.world.listeners = append(e.world.listeners, e.listener)
		e.world.mu.Unlock()
		go func() { _ = e.world.server.Serve(e.listener) }()
	})
	c, err := e.listener.Dial(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dialled = true
	return &line{Conn: c, env: e}, nil
}

// client carries the requests of an environment to the endpoint, each when it is its turn.
type client struct{ env *environment }

// Do waits for the request's turn and gives what the conductor decided.
func (c client) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if mapping.InvocationFrom(r.Context()) == nil {
		return nil, errOver
	}
	inv := c.env.attend()
	if inv == nil {
		return nil, errOver
	}
	service, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	a := &ask{kind: wire, function: c.env.function, env: c.env, inv: inv, service: services[service], operation: operation, body: body}
	a.step = stepOf(a)
	a.about = c.env.world.about(body)
	err = c.env.world.gate.wait(r.Context(), a)
	if err == nil {
		err = a.err
	}
	if c.env.frozen() && c.env.attend() == nil {
		return nil, errOver
	}
	if healthStep := slices.Contains(healthSteps, a.step); healthStep && (err != nil || a.response.StatusCode >= http.StatusInternalServerError || a.disturbed) {
		c.env.blinded()
	}
	if err != nil {
		return nil, err
	}
	return a.response, nil
}

// direct carries requests of those who are not simulated: operators and the set-up.
type direct struct{ handler http.Handler }

// Do calls the endpoint at once.
func (d direct) Do(r *http.Request) (*http.Response, error) {
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	d.handler.ServeHTTP(rec, r)
	return rec.response(), nil
}

var services = map[string]string{"AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb"}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func (r *recorder) response() *http.Response {
	return &http.Response{
		StatusCode: r.status, Status: http.StatusText(r.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: r.header,
		Body: io.NopCloser(bytes.NewReader(r.body.Bytes())), ContentLength: int64(r.body.Len()),
	}
}

// perform has the endpoint do what a request asks for, and gives the answer.
func (w *world) perform(a *ask, body []byte) *recorder {
	prefix := "DynamoDB_20120810."
	if a.service == "sqs" {
		prefix = "AmazonSQS."
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://awslocal/", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", prefix+a.operation)
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	w.Endpoint.ServeHTTP(rec, r)
	rec.header.Set("X-Amzn-RequestId", "simulated") // in place of a random one
	w.observe(a)
	return rec
}

// answerWith makes an answer of AWS.
func answerWith(status int, body []byte) *http.Response {
	rec := &recorder{header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, status: status}
	rec.body.Write(body)
	return rec.response()
}

// failure makes an error of AWS.
func failure(a *ask, throttled bool) *http.Response {
	code, status := "com.amazonaws.dynamodb.v20120810#InternalServerError", http.StatusInternalServerError
	switch {
	case throttled && a.service == "sqs":
		code, status = "com.amazonaws.sqs#RequestThrottled", http.StatusBadRequest
	case throttled:
		code, status = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", http.StatusBadRequest
	case a.service == "sqs":
		code = "com.amazonaws.sqs#InternalFailure"
	}
	return answerWith(status, fmt.Appendf(nil, `{"__type":%q,"message":"simulated"}`, code))
}

// refusal is the answer of an account that does not permit PartiQL, for the whole call or for each statement.
func refusal(a *ask, whole bool) *http.Response {
	if whole {
		return answerWith(http.StatusBadRequest, []byte(`{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException","message":"simulated"}`))
	}
	var document struct{ Statements []json.RawMessage }
	_ = json.Unmarshal(a.body, &document)
	responses := make([]json.RawMessage, len(document.Statements))
	for i := range responses {
		responses[i] = json.RawMessage(`{"Error":{"Code":"AccessDenied","Message":"simulated"}}`)
	}
	body, _ := json.Marshal(map[string]any{"Responses": responses})
	return answerWith(http.StatusOK, body)
}

// lists names where an operation on several things keeps them.
var lists = map[string]string{
	"BatchExecuteStatement": "Statements", "SendMessageBatch": "Entries", "ChangeMessageVisibilityBatch": "Entries", "BatchWriteItem": "RequestItems",
	"BatchGetItem": "RequestItems",
}

// partly performs a request for several things for some of them, and gives an answer that says so. Those of which DynamoDB says
// InternalServerError may be performed all the same.
func (w *world) partly(a *ask, r *rand.Rand) *http.Response {
	var document map[string]json.RawMessage
	if json.Unmarshal(a.body, &document) != nil {
		return failure(a, false)
	}
	switch name := lists[a.operation]; name {
	case "Statements", "Entries":
		return w.partlyList(a, document, name, r)
	case "RequestItems":
		return w.partlyItems(a, document, r)
	}
	return failure(a, true)
}

func (w *world) partlyList(a *ask, document map[string]json.RawMessage, name string, r *rand.Rand) *http.Response {
	var entries, kept []json.RawMessage
	if json.Unmarshal(document[name], &entries) != nil {
		return failure(a, false)
	}
	fails, performed := make([]bool, len(entries)), make([]bool, len(entries))
	for i := range entries {
		fails[i] = r.Float64() < 0.6
		performed[i] = !fails[i] || name == "Statements" && r.Float64() < 0.5
		if performed[i] {
			kept = append(kept, entries[i])
		}
	}
	answer := struct {
		Responses, Successful, Failed []json.RawMessage
	}{}
	if len(kept) > 0 {
		document[name], _ = json.Marshal(kept)
		body, _ := json.Marshal(document)
		rec := w.perform(a, body)
		if rec.status != http.StatusOK {
			return rec.response()
		}
		_ = json.Unmarshal(rec.body.Bytes(), &answer)
	}
	if name == "Entries" {
		for i, entry := range entries {
			if fails[i] {
				var id struct{ Id string }
				_ = json.Unmarshal(entry, &id)
				answer.Failed = append(answer.Failed, fmt.Appendf(nil, `{"Id":%q,"Code":"InternalError","SenderFault":false,"Message":"simulated"}`, id.Id))
			}
		}
		body, _ := json.Marshal(map[string]any{"Successful": append([]json.RawMessage{}, answer.Successful...), "Failed": append([]json.RawMessage{}, answer.Failed...)})
		return answerWith(http.StatusOK, body)
	}
	responses := make([]json.RawMessage, len(entries))
	next := 0
	for i := range entries {
		if performed[i] && next < len(answer.Responses) {
			responses[i] = answer.Responses[next]
			next++
		}
		if fails[i] {
			code := "ThrottlingError"
			if performed[i] {
				code = "InternalServerError"
			}
			responses[i] = fmt.Appendf(nil, `{"Error":{"Code":%q,"Message":"simulated"}}`, code)
		}
	}
	body, _ := json.Marshal(map[string]any{"Responses": responses})
	return answerWith(http.StatusOK, body)
}

func (w *world) partlyItems(a *ask, document map[string]json.RawMessage, r *rand.Rand) *http.Response {
	if a.operation == "BatchGetItem" {
		return answerWith(http.StatusOK, fmt.Appendf(nil, `{"Responses":{},"UnprocessedKeys":%s}`, document["RequestItems"]))
	}
	var tables map[string][]json.RawMessage
	if json.Unmarshal(document["RequestItems"], &tables) != nil {
		return failure(a, false)
	}
	kept, left := map[string][]json.RawMessage{}, map[string][]json.RawMessage{}
	for table, writes := range tables {
		for _, write := range writes {
			if r.Float64() < 0.6 {
				left[table] = append(left[table], write)
			} else {
				kept[table] = append(kept[table], write)
			}
		}
	}
	if len(kept) > 0 {
		document["RequestItems"], _ = json.Marshal(kept)
		body, _ := json.Marshal(document)
		if rec := w.perform(a, body); rec.status != http.StatusOK {
			return rec.response()
		}
	}
	body, _ := json.Marshal(map[string]any{"UnprocessedItems": left})
	return answerWith(http.StatusOK, body)
}

// The steps of the functions, as their requests tell them.
const (
	stepClaim     = "claim"
	stepReclaim   = "claim again"
	stepRead      = "read waybills"
	stepSettle    = "settle"
	stepRecord    = "record"
	stepRelease   = "release"
	stepSuccessor = "send successor"
	stepOutcome   = "send outcome"
	stepBury      = "send dead letter"
	stepResend    = "send again"
	stepHide      = "change visibility"
	stepRoute     = "send deliveries"
	stepRefuse    = "send ingress dead letter"
	stepNotice    = "send notice"
	stepMark      = "mark destination"
	stepPut       = "put row"
	stepState     = "read watermarks"
	stepMarks     = "read marks"
	stepDue       = "read due rows"
	stepParked    = "read parked rows"
	stepWake      = "send what is due"
	stepDelete    = "delete row"
	stepAdvance   = "advance watermark"
	stepSaveScan  = "save scan"
	stepScan      = "scan"
	stepRegistry  = "read registry"
	stepDisable   = "disable destination"
	stepHealth    = "read breakers"
	stepProbe     = "read breaker"
	stepCount     = "count results"
	stepMove      = "move breaker"
	stepPace      = "read pace"
	stepLate      = "count late answers"
	stepLimit     = "give calls away"
	stepPassOn    = "pass on to the slow lane"
)

// healthSteps are those of the breaker.
var healthSteps = []string{stepHealth, stepProbe, stepCount, stepMove}

// stepOf tells what a request is for.
func stepOf(a *ask) string {
	has := func(part string) bool { return bytes.Contains(a.body, []byte(part)) }
	switch a.operation {
	case "BatchExecuteStatement":
		switch {
		case has("DELETE FROM"):
			return stepDelete
		case has("'reason': ?"):
			return stepRecord
		case has("INSERT INTO"):
			return stepClaim
		case has(`SET \"leaseUntil\"`):
			return stepRelease
		}
		return stepSettle
	case "UpdateItem":
		switch {
		case has("#hour"):
			return stepAdvance
		case has("#began"):
			return stepSaveScan
		case has("leaseUntil = :lease"):
			return stepReclaim
		case has("#leaseUntil = :zero, #updatedAt"):
			return stepRelease
		case has("SET #state = :state, #epoch"):
			return stepRecord
		case has("SET #state = :state, #code"):
			return stepSettle
		}
		return registryStepOf(has)
	case "GetItem":
		return stepProbe
	case "DeleteItem":
		return stepDelete
	case "BatchGetItem":
		return stepRead
	case "BatchWriteItem":
		if has(`"marks#`) {
			return stepMark
		}
		return stepPut
	case "Query":
		switch {
		case has(`"progress"`):
			return stepState
		case has(`"marks#`):
			return stepMarks
		case has(`"parked#`):
			return stepParked
		case has(`"health"`):
			return stepHealth
		case has(`"pace"`):
			return stepPace
		case has(`"registry"`):
			return stepRegistry
		}
		return stepDue
	case "Scan":
		return stepScan
	case "ChangeMessageVisibilityBatch":
		return stepHide
	}
	return sendStepOf(a, has)
}

func registryStepOf(has func(string) bool) string {
	switch {
	case has(`"limit#`):
		return stepLimit
	case has(`"pace"`):
		return stepLate
	case has(`"health"`) && has(`"phase"`):
		return stepMove
	case has(`"health"`):
		return stepCount
	}
	return stepDisable
}

func sendStepOf(a *ask, has func(string) bool) string {
	switch {
	case a.operation != "SendMessageBatch":
		return a.operation
	case has(`/deliveries-dlq"`):
		return stepBury
	case has(`/ingress-dlq"`):
		return stepRefuse
	case has(`/ingress"`) && a.function != topology.Router:
		return stepNotice
	case has(`/deliveries-slow"`) && a.function == topology.Deliverer:
		return stepPassOn
	case has(`/ingress"`) || has(`"waybill"`) || has(`"waybill-held"`):
		return stepResend
	case a.function == topology.Router:
		return stepRoute
	case a.function == topology.Waker:
		return stepWake
	case has(`\"outcome\":{\"owner\"`):
		return stepOutcome
	}
	return stepSuccessor
}

// destinationRow is the key of a destination's row in the registry.
var destinationRow = regexp.MustCompile(`"row":\{"S":"([^"]+)"\}`)

var bucket = regexp.MustCompile(`"(\d{4}-\d\d-\d\dT\d\d#\d|parked#[^"]+|marks#\d|progress)"`)

// about gives the deliveries, events or buckets that a text names, in our words.
func (w *world) about(text []byte) []string {
	var found []string
	for i, n := range w.names {
		if i == len(w.deliveries) && len(found) > 0 {
			break // the events themselves are of interest where no delivery is meant
		}
		if bytes.Contains(text, n.needle) {
			found = append(found, n.name)
		}
	}
	if len(found) == 0 {
		for _, m := range bucket.FindAllSubmatch(text, 3) {
			if name := string(m[1]); !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
	}
	if m := destinationRow.FindSubmatch(text); m != nil && len(found) == 0 {
		found = append(found, string(m[1]))
	}
	return found
}
