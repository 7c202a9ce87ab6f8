package program

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/shared/topology"
)

// progress shows the state of a run: one line that is rewritten on a terminal, plain lines elsewhere, nothing with -json.
type progress struct {
	run      *run
	out      io.Writer
	terminal bool
	last     string
	lastAt   time.Time
}

func newProgress(r *run, out io.Writer) *progress {
	p := &progress{run: r, out: out}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			p.terminal = info.Mode()&os.ModeCharDevice != 0
		}
	}
	return p
}

// opening tells where things are and how to send an event.
func (p *progress) opening() {
	if p.run.json {
		return
	}
	fmt.Fprintf(p.out, "Waybill is running: SQS and DynamoDB at %s\n\n", p.run.baseURL)
	for _, q := range p.run.system.Queues.Queues() {
		fmt.Fprintf(p.out, "  %-15s %s\n", q.Name(), q.URL())
	}
	fmt.Fprintf(p.out, "\nSend an event with any AWS SDK or the AWS CLI, with any credentials:\n\n"+
		"  aws --endpoint-url %s sqs send-message --queue-url %s/000000000000/%s \\\n"+
		"    --message-body '{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"order.created\",\"data\":{\"total\":9.50}}'\n\n",
		p.run.baseURL, p.run.baseURL, topology.Ingress)
	if !p.run.exit {
		fmt.Fprintf(p.out, "Interrupt (Ctrl-C) ends it and prints what became of every delivery.\n\n")
	}
}

// show tells the state where it has changed.
func (p *progress) show(b auditor.Books) {
	if p.run.json {
		return
	}
	line := fmt.Sprintf("accepted %d · delivered %d/%d · waiting %d · queued %d · parked %d · dead %d · ingress dead letters %d · lost %d · HTTP calls %d",
		b.Accepted, b.Delivered, b.Deliveries, b.Waiting, b.Queued, b.Parked, b.Dead, b.IngressDead, b.Lost, b.HTTPAttempts)
	if line == p.last || (!p.terminal && time.Since(p.lastAt) < time.Second) {
		return
	}
	p.last, p.lastAt = line, time.Now()
	stamp := fmt.Sprintf("%5.1fs  ", time.Since(p.run.started).Seconds())
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[2K"+stamp+line)
		return
	}
	fmt.Fprintln(p.out, stamp+line)
}

// closing prints the final table, or the summary as JSON.
func (p *progress) closing(b auditor.Books) error {
	if p.run.json {
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		return enc.Encode(b)
	}
	if p.terminal {
		fmt.Fprintln(p.out)
	}
	fmt.Fprintln(p.out)
	slices.SortStableFunc(b.Rows, func(x, y auditor.Row) int {
		return strings.Compare(x.Destination, y.Destination)
	})
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DESTINATION\tTENANT\tTYPE\tEVENT\tSTATE\tATTEMPTS\tWHY\tTOOK")
	for _, row := range b.Rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", row.Destination, clip(row.Tenant, 12), clip(row.Type, 22), clip(row.Event, 24), row.State, row.Attempts,
			why(row), took(row))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "\n%d events accepted: %d duplicate, %d unmatched, %d dropped, %d in the ingress dead-letter queue\n",
		b.Accepted, b.Duplicates, b.Unmatched, b.Dropped, b.IngressDead)
	fmt.Fprintf(p.out, "%d deliveries: %d delivered, %d waiting, %d parked, %d dead, %d queued, %d LOST\n",
		b.Deliveries, b.Delivered, b.Waiting, b.Parked, b.Dead, b.Queued, b.Lost)
	_, err := fmt.Fprintf(p.out, "%d HTTP calls, %d of them retries; %s; %s write units, %s read units\n",
		b.HTTPAttempts, b.Retried, calls(b), units(b.WriteUnits), units(b.ReadUnits))
	return err
}

func why(row auditor.Row) string {
	if row.State == auditor.Delivered {
		return ""
	}
	return clip(row.Reason, 24)
}

func took(row auditor.Row) string {
	if row.Took <= 0 {
		return ""
	}
	return row.Took.Round(time.Millisecond).String()
}

func calls(b auditor.Books) string {
	var parts []string
	for _, service := range []string{"sqs", "dynamodb"} {
		n := 0
		for _, count := range b.AWSCalls[service] {
			n += count
		}
		parts = append(parts, fmt.Sprintf("%d %s calls", n, service))
	}
	return strings.Join(parts, ", ")
}

func units(u float64) string { return strconv.FormatFloat(u, 'f', -1, 64) }

// clip shortens s to n characters and makes what is not printable visible: it comes from producers.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}
