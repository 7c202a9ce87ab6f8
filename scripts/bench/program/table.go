package program

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/scripts/bench/cost"
	"github.com/waybillhq/waybill/scripts/bench/load"
)

// print writes the report as Markdown.
func (r *Report) print(out io.Writer) {
	m := r.Machine
	fmt.Fprintf(out, "%s, %d × %s, %s, %s; load average before %s, after %s; medians of %d rounds.\n",
		m.Date.Format("2006-01-02 15:04 MST"), m.CPUs, m.CPU, m.OS, m.Go, m.LoadBefore, m.LoadAfter, r.Rounds)
	r.printThroughput(out)
	r.printLatency(out)
	r.printMemory(out)
	r.printCosts(out)
}

// table writes a Markdown table. The first column is text, the others are numbers.
func table(out io.Writer, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(out, "\n| %s |\n|---%s|\n", strings.Join(head, " | "), strings.Repeat("|--:", len(head)-1))
	for _, row := range rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(row, " | "))
	}
}

func latencies(m Measurement) bool { return m.Waybill.P50 > 0 }

func (r *Report) printThroughput(out io.Writer) {
	var rows [][]string
	for _, m := range r.Measured {
		if latencies(m) {
			continue
		}
		row := []string{m.What, fmt.Sprintf("%.0f", m.Waybill.PerSecond)}
		row = append(row, processor(m.Waybill)...)
		if m.Bare == nil {
			row = append(row, "", "")
		} else {
			row = append(row, fmt.Sprintf("%.0f", m.Bare.PerSecond), micros(m.Bare.CPUPerOne))
		}
		rows = append(rows, row)
	}
	table(out, []string{"", "deliveries/s", "CPU µs each", "of it Waybill", "emulated AWS", "receiver", "runtime", "bare HTTP loop/s", "CPU µs each"}, rows)
}

// processor tells the processor time of a delivery and how it divides.
func processor(m load.Result) []string {
	percent := func(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
	return []string{micros(m.CPUPerOne), percent(m.CPU.Functions), percent(m.CPU.Emulator), percent(m.CPU.Receiver + m.CPU.Producer), percent(m.CPU.Runtime)}
}

func micros(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Microsecond)) }

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond))
}

func (r *Report) printLatency(out io.Writer) {
	var rows [][]string
	for _, m := range r.Measured {
		if !latencies(m) {
			continue
		}
		row := []string{m.What, millis(m.Waybill.P50), millis(m.Waybill.P95), millis(m.Waybill.P99)}
		row = append(row, processor(m.Waybill)[:3]...)
		if m.Bare == nil {
			row = append(row, "", "", "")
		} else {
			row = append(row, millis(m.Bare.P50), millis(m.Bare.P95), millis(m.Bare.P99))
		}
		rows = append(rows, row)
	}
	table(out, []string{
		fmt.Sprintf("%.0f/s, ms from when an event is due to its receipt", r.Rate), "p50", "p95", "p99", "CPU µs each", "of it Waybill", "emulated AWS", "bare p50", "p95", "p99",
	}, rows)
}

func (r *Report) printMemory(out io.Writer) {
	var rows [][]string
	for _, m := range r.Memory {
		mb := func(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/(1<<20)) }
		rows = append(rows, []string{strconv.Itoa(m.Events), mb(m.HeapBytes), mb(m.PeakBytes), strconv.Itoa(m.Goroutines)})
	}
	table(out, []string{"events delivered", "heap in use, MB", "largest heap, MB", "goroutines"}, rows)
}

func (r *Report) printCosts(out io.Writer) {
	if len(r.Costs) == 0 {
		return
	}
	fmt.Fprintf(out, "\nA million deliveries of 1 KB, receiver takes 100 ms, functions of %d MB on Arm; list prices of %s, %s:\n",
		r.Costs[0].Usage.MemoryMB, r.Prices.Region, r.Prices.Date)
	var rows [][]string
	for _, c := range r.Costs {
		rows = append(rows, costRow(c))
	}
	for _, o := range r.Prices.Others {
		rows = append(rows, []string{o.Name + ", list price", "", "", "", "", "", "", "", "", "", "", fmt.Sprintf("**%.2f**", o.PerMillion)})
	}
	table(out, []string{
		"each", "SQS requests", "ledger calls", "write units", "read units", "invocations", "GB-ms", "$ SQS", "$ DynamoDB", "$ Lambda", "$ logs", "**$ a million**",
	}, rows)
	if s := r.Standing; s != nil {
		printStanding(out, *s)
	}
}

func costRow(c Cost) []string {
	u, b := c.Usage, c.Bill
	row := []string{c.Profile + ", " + c.Ledger + ", " + c.Arrival}
	for _, n := range []float64{u.SQSRequests, u.DynamoCalls, u.WriteUnits, u.ReadUnits, u.Invocations} {
		row = append(row, fmt.Sprintf("%.3f", n))
	}
	row = append(row, fmt.Sprintf("%.2f", u.GBMilliseconds))
	for _, n := range []float64{b.SQS, b.DynamoDB, b.Lambda, b.Logs} {
		row = append(row, fmt.Sprintf("%.2f", n))
	}
	return append(row, fmt.Sprintf("**%.2f**", b.Total))
}

func printStanding(out io.Writer, s cost.Standing) {
	table(out, []string{"a month without events", "", "$"}, [][]string{
		{fmt.Sprintf("empty receives of Lambda's pollers, 5 for each of %d queues, 20 s each", s.PolledQueues), fmt.Sprintf("%.0f", s.EmptyReceives), fmt.Sprintf("%.2f", s.Pollers)},
		{fmt.Sprintf("waker: %.0f runs of %v, %.0f calls, %.0f read and %.0f write units", s.WakerRuns, cost.WakerTime, s.WakerCalls, s.WakerReads, s.WakerWrites), "", fmt.Sprintf("%.2f", s.Waker)},
		{"not idle: one environment, busy all month, keeps its view of the destinations fresh", fmt.Sprintf("%.0f read units", s.BusyReads), fmt.Sprintf("%.2f", s.Busy)},
	})
}
