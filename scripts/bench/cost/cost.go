// Package cost counts what AWS would charge for deliveries: the calls and units that the emulated services counted while a system delivered,
// times the list prices in prices.json.
package cost

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/waybillhq/waybill/scripts/bench/load"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/topology"
)

//go:embed prices.json
var pricesFile []byte

// Prices are list prices in dollars. There is one table of them, with its date and where each comes from.
type Prices struct {
	Date   string
	Region string
	AWS    struct {
		SQSPerMillionRequests       float64
		SQSFairPerMillionRequests   float64 // on top, on the deliveries queue
		WriteUnitsPerMillion        float64
		ReadUnitsPerMillion         float64
		LambdaPerMillionInvocations float64
		LambdaArmPerGBSecond        float64
		LogsPerGB                   float64
	}
	Sources map[string]string
	Others  []Other
}

// Other is what somebody else asks for a million deliveries.
type Other struct {
	Name       string
	PerMillion float64
	Date       string
	Source     string
}

// List gives the table.
func List() (Prices, error) {
	var p Prices
	if err := json.Unmarshal(pricesFile, &p); err != nil {
		return Prices{}, fmt.Errorf("prices.json: %w", err)
	}
	return p, nil
}

// Usage is what was used per delivery, unless it says otherwise.
type Usage struct {
	Deliveries     int // how many were made
	SQSRequests    float64
	FairRequests   float64 // of these, on the deliveries queue
	DynamoCalls    float64 // of the ledger
	WriteUnits     float64 // of the ledger
	ReadUnits      float64 // of the ledger
	OtherWrites    float64 // units of the other tables: health of destinations, and the first run of the waker
	OtherReads     float64 // units of the other tables: what is known of destinations, by how long and in how many environments the run was
	Invocations    float64
	GBMilliseconds float64
	LogBytes       float64
	MemoryMB       int // of the functions
}

// Load says which deliveries to count.
type Load struct {
	Shape      load.Shape
	Deliveries int
	// PerSecond is the rate at which events come; 0: they are all there before the functions start, so that batches are full.
	PerSecond float64
}

// producerBatch is how many events producers send in a request: what SQS takes at most.
const producerBatch = 10

// Measure makes the deliveries and counts. Requests of producers count as those of batches of ten, like everything else that Waybill sends; receives that
// bring nothing are left out, see Idle.
func Measure(l Load) (_ Usage, err error) {
	r, err := load.Start(l.Shape, l.Deliveries)
	if err != nil {
		return Usage{}, err
	}
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	before, tables := r.System.Endpoint.Counts(), r.Tables()
	if l.PerSecond > 0 {
		r.Resume()
		err = r.Pace(l.Deliveries, l.PerSecond)
	} else {
		for n := 0; n < l.Deliveries && err == nil; n++ {
			err = r.Send(n)
		}
		r.Resume()
	}
	if err != nil {
		return Usage{}, err
	}
	if err := r.Sink.Wait(l.Deliveries, load.Patience); err != nil {
		return Usage{}, err
	}
	if err := r.Settled(); err != nil {
		return Usage{}, err
	}
	return count(r, r.System.Endpoint.Counts().Since(before), tables, l.Deliveries), nil
}

func count(r *load.Rig, counts awslocal.Counts, before map[topology.TableName]load.TableUse, deliveries int) Usage {
	n := float64(deliveries)
	u := Usage{Deliveries: deliveries, LogBytes: float64(r.Written.Bytes()) / n}
	for name, used := range r.Tables() {
		calls, write, read := float64(used.Calls-before[name].Calls)/n, (used.Write-before[name].Write)/n, (used.Read-before[name].Read)/n
		if name == topology.Ledger {
			u.DynamoCalls, u.WriteUnits, u.ReadUnits = calls, write, read
		} else {
			u.OtherWrites, u.OtherReads = u.OtherWrites+write, u.OtherReads+read
		}
	}
	sent := float64(counts.Total("sqs").Attempted) // by functions, all of it to the deliveries queue when nothing goes wrong
	polled := func(name topology.FunctionName) float64 {
		s := r.System.Mappings[name].Stats()
		return float64(s.Receives - s.EmptyReceives + s.Deletes)
	}
	fair := sent + polled(topology.Deliverer) + polled(topology.SlowLane)
	u.FairRequests = fair / n
	u.SQSRequests = (n/producerBatch + polled(topology.Router) + fair) / n
	for name := range r.System.Mappings {
		s := r.System.Functions[name].Stats()
		u.Invocations += float64(s.Invocations) / n
		u.GBMilliseconds += s.GBSeconds * 1000 / n
		f, _ := r.Topology.Function(name)
		u.MemoryMB = f.MemoryMB
	}
	return u
}

// Bill is what a million deliveries cost, in dollars.
type Bill struct {
	SQS, DynamoDB, Lambda, Logs, Total float64
}

// PerMillion prices a usage.
func (p Prices) PerMillion(u Usage) Bill {
	b := Bill{
		SQS:      u.SQSRequests*p.AWS.SQSPerMillionRequests + u.FairRequests*p.AWS.SQSFairPerMillionRequests,
		DynamoDB: (u.WriteUnits+u.OtherWrites)*p.AWS.WriteUnitsPerMillion + (u.ReadUnits+u.OtherReads)*p.AWS.ReadUnitsPerMillion,
		Lambda:   u.Invocations*p.AWS.LambdaPerMillionInvocations + u.GBMilliseconds*1e3*p.AWS.LambdaArmPerGBSecond,
		Logs:     u.LogBytes * 1e6 / (1 << 30) * p.AWS.LogsPerGB,
	}
	b.Total = b.SQS + b.DynamoDB + b.Lambda + b.Logs
	return b
}

// Standing is what a system without events costs in a month of 730 hours. Only the functions' own calls and those of Lambda's pollers are in it;
// tables, queues and functions cost nothing by themselves.
type Standing struct {
	PolledQueues   int
	EmptyReceives  float64 // of their pollers
	WakerRuns      float64
	WakerCalls     float64 // of DynamoDB
	WakerReads     float64 // units
	WakerWrites    float64 // units
	WakerGBSeconds float64 // at WakerTime a run
	WakerLogBytes  float64
	Pollers        float64 // dollars for EmptyReceives
	Waker          float64 // dollars for everything of the waker
	// An environment that is busy all month reads what is known of the destinations again and again.
	BusyReads float64 // units
	Busy      float64 // dollars for them, each environment
}

// What is known of AWS and not counted.
const (
	month     = 730 * time.Hour
	longPoll  = 20 * time.Second // of each of Lambda's pollers
	pollers   = 5                // of each mapping, when it has nothing to do
	WakerTime = 50 * time.Millisecond
)

// Idle counts what runs of the waker use that find nothing to wake, over the given hours, and prices a month of them.
func Idle(ctx context.Context, p Prices, hours int) (_ Standing, err error) {
	r, err := load.Start(load.Shape{}, 1)
	if err != nil {
		return Standing{}, err
	}
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	idle, err := r.Idle(ctx, hours)
	if err != nil {
		return Standing{}, err
	}
	waker, _ := r.Topology.Function(topology.Waker)
	s := Standing{WakerRuns: float64(month / waker.Every)}
	const perQueue = float64(pollers * (month / longPoll))
	for _, f := range r.Topology.Functions {
		if f.Source.Queue == "" {
			continue
		}
		s.PolledQueues++
		s.EmptyReceives += perQueue
		s.Pollers += perQueue * p.AWS.SQSPerMillionRequests / 1e6
		if f.Source.Queue.Delivers() { // a fair queue
			s.Pollers += perQueue * p.AWS.SQSFairPerMillionRequests / 1e6
		}
	}
	each := s.WakerRuns / float64(idle.Runs)
	s.WakerCalls, s.WakerReads, s.WakerWrites = float64(idle.Calls)*each, idle.ReadUnits*each, idle.WriteUnits*each
	s.WakerLogBytes = float64(idle.LogBytes) * each
	s.WakerGBSeconds = s.WakerRuns * WakerTime.Seconds() * float64(waker.MemoryMB) / 1024
	s.Waker = (s.WakerReads*p.AWS.ReadUnitsPerMillion+s.WakerWrites*p.AWS.WriteUnitsPerMillion+s.WakerRuns*p.AWS.LambdaPerMillionInvocations)/1e6 +
		s.WakerGBSeconds*p.AWS.LambdaArmPerGBSecond + s.WakerLogBytes/(1<<30)*p.AWS.LogsPerGB
	s.BusyReads = idle.RefreshUnits * float64(month/r.Topology.Limits.RegistryAge)
	s.Busy = s.BusyReads / 1e6 * p.AWS.ReadUnitsPerMillion
	return s, nil
}
