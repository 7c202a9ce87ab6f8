package program

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/waybillhq/waybill/scripts/local/auditor"
	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/xray"
	"github.com/waybillhq/waybill/shared/batch"
	"github.com/waybillhq/waybill/shared/queue"
	"github.com/waybillhq/waybill/shared/terminal"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waybill"
)

// opening tells where things are and how to send an event.
func (r *run) opening() {
	if r.json {
		r.logger.Info("running", "endpoint", r.baseURL())
		return
	}
	fmt.Fprintf(r.out, "Waybill is running, with SQS and DynamoDB at %s\n\n", r.baseURL())
	for _, q := range r.topology.Queues {
		fmt.Fprintf(r.out, "  %-15s %s\n", q.Name, r.queueURL(q.Name))
	}
	if r.demo != nil {
		fmt.Fprintf(r.out, "\nEvents go to a demo receiver, which misbehaves: %s\n", r.demo.baseURL)
	} else {
		fmt.Fprintf(r.out, "\nEvents go to the destinations in %s.\n", r.destinations)
	}
	if r.exposed() {
		fmt.Fprint(r.out, "\nWhoever reaches this address may send and read: credentials are not looked at.\n")
	}
	fmt.Fprintf(r.out, "\nSend one with any AWS SDK or the AWS CLI; any credentials do, or none:\n\n%s\n\n", r.example())
	if !r.exit {
		fmt.Fprint(r.out, "Ctrl-C ends it and shows what became of every delivery.\n\n")
	}
}

func (r *run) queueURL(name topology.QueueName) string {
	return fmt.Sprintf("%s/%s/%s", r.baseURL(), awslocal.AccountID, name)
}

// example is a command to paste into a shell.
func (r *run) example() string {
	return fmt.Sprintf(`  aws --no-sign-request --region %s \
    --endpoint-url %s sqs send-message \
    --queue-url %s \
    --message-body '{"specversion":"1.0","id":"1","source":"/shop",
                     "type":"order.created","data":{"total":9.50}}'`,
		awslocal.Region, r.baseURL(), r.queueURL(topology.Ingress))
}

// tellOf says something beside the progress.
func (r *run) tellOf(text string) {
	if r.json {
		r.logger.Info(text)
		return
	}
	fmt.Fprintln(r.out, text)
}

// report prints the final table and what it comes to, or the summary as JSON.
func (r *run) report(b auditor.Books) error {
	var text bytes.Buffer
	if r.json {
		enc := json.NewEncoder(&text)
		enc.SetIndent("", "  ")
		if err := enc.Encode(b); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(&text)
		writeTable(&text, b.Rows)
		writeRefused(&text, r.refused())
		writeSummary(&text, b)
		r.writePassages(&text)
		if err := r.writeTraces(&text, b); err != nil {
			return err
		}
	}
	_, err := text.WriteTo(r.out)
	return err
}

// order is that of the table: what needs a look comes last, next to the summary.
var order = []auditor.State{auditor.Delivered, auditor.Queued, auditor.Waiting, auditor.Parked, auditor.Dead, auditor.Lost}

// writeTable writes a line for every delivery: those of one state together, by destination, in the order of acceptance. It is made for
// lines of 80 characters.
func writeTable(out io.Writer, rows []auditor.Row) {
	if len(rows) == 0 {
		fmt.Fprint(out, "There were no deliveries.\n\n")
		return
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(x, y auditor.Row) int {
		return cmp.Or(cmp.Compare(slices.Index(order, x.State), slices.Index(order, y.State)), strings.Compare(x.Destination, y.Destination))
	})
	var padded bytes.Buffer
	table := tabwriter.NewWriter(&padded, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DESTINATION\tEVENT\tTYPE\tTENANT\tSTATE\tTRIES\tTOOK/WHY")
	for _, row := range rows {
		end := took(row.Took)
		if row.State != auditor.Delivered {
			end = terminal.Printable(row.Reason, 80)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%5d\t%s\n", clipMiddle(row.Destination, 16), clipMiddle(row.Event, 13), clipMiddle(row.Type, 15),
			clipMiddle(row.Tenant, 9), row.State, row.Attempts, end)
	}
	_ = table.Flush() // to a buffer
	for line := range strings.Lines(padded.String()) {
		fmt.Fprintln(out, strings.TrimRight(line, " \n")) // before an empty last cell there are blanks, which would wrap
	}
	fmt.Fprintln(out)
}

// refusal is a message in the ingress dead-letter queue.
type refusal struct{ message, reason, detail string }

func (r *run) refused() (all []refusal) {
	for _, held := range r.system.Queues.Snapshot()[string(topology.IngressDeadLetter)] {
		attributes := map[string]queue.Attribute{}
		for name, a := range held.MessageAttributes {
			attributes[name] = queue.Attribute{DataType: a.DataType, String: a.StringValue, Binary: a.BinaryValue}
		}
		_, _, note, err := waybill.Detach(held.Body, attributes)
		if err != nil || note.Reason == "" {
			note.Reason = cmp.Or(attributes[batch.ReasonAttribute].String, "received too often") // moved by SQS, which gives no reasons
		}
		all = append(all, refusal{cmp.Or(note.EventID, held.MessageID), note.Reason, note.Detail})
	}
	return all
}

// String says which message it is, and why it was refused.
func (m refusal) String() string {
	why := m.detail
	if !strings.Contains(why, m.reason) {
		why = strings.TrimSuffix(m.reason+": "+m.detail, ": ")
	}
	return fmt.Sprintf("message %s: %s", clipMiddle(m.message, 36), terminal.Printable(why, waybill.MaxReasonBytes+2+waybill.MaxDetailBytes))
}

// maxRefusals is how many refused messages are told of one by one: while the program runs, and once more in the end.
const maxRefusals = 20

// tellRefused tells of messages that were refused since it was called last, so that whoever sends by hand need not wait for the end.
func (r *run) tellRefused() {
	for _, m := range r.refused() {
		switch {
		case r.told[m.message] || len(r.told) > maxRefusals:
			continue
		case len(r.told) == maxRefusals:
			r.progress.tell(fmt.Sprintf("refused more than %d messages; the others are in the queue %s", maxRefusals, topology.IngressDeadLetter))
		default:
			r.progress.tell("refused " + m.String())
		}
		r.told[m.message] = true
	}
}

// writeRefused lists the first messages that are no events, and why.
func writeRefused(out io.Writer, all []refusal) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(out, "Refused, now in the queue %s:\n", topology.IngressDeadLetter)
	for _, m := range all[:min(len(all), maxRefusals)] {
		fmt.Fprintf(out, "  %s\n", m)
	}
	if len(all) > maxRefusals {
		fmt.Fprintf(out, "  and %d more\n", len(all)-maxRefusals)
	}
	fmt.Fprintln(out)
}

// writeSummary tells what it all comes to.
func writeSummary(out io.Writer, b auditor.Books) {
	var of []string
	for _, c := range []struct {
		n    int
		text string
	}{
		{b.Duplicates, "duplicate"}, {b.Unmatched, "unmatched"}, {b.Dropped, "dropped"},
		{b.IngressDead, "refused"}, {b.InIngress, "not routed yet"}, {b.Missing, "MISSING"},
	} {
		if c.n > 0 {
			of = append(of, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	fmt.Fprintf(out, "%s accepted%s\n", terminal.Plural(b.Accepted, "event"), join(of, ", of these ", ", "))
	states := slices.Concat([]string{fmt.Sprintf("%d delivered", b.Delivered)}, undelivered(b))
	if b.Lost == 0 {
		states = append(states, "none lost")
	}
	fmt.Fprintf(out, "%s: %s\n", terminal.Plural(b.Deliveries, "delivery"), strings.Join(states, ", "))
	fmt.Fprintf(out, "%s, %s\n", terminal.Plural(b.HTTPAttempts, "HTTP call"), retries(b.Retried))
	fmt.Fprintf(out, "%s; %s with %s write and %s read units\n",
		terminal.Plural(calls(b, "sqs"), "SQS call"), terminal.Plural(calls(b, "dynamodb"), "DynamoDB call"), units(b.WriteUnits), units(b.ReadUnits))
	for _, strange := range slices.Concat(b.Unreadable, b.Foreign) {
		fmt.Fprintf(out, "not understood: %s\n", terminal.Printable(strange, 200))
	}
	if b.Check() == nil {
		fmt.Fprintln(out, "The books balance: every event and every delivery is accounted for.")
	}
}

// writePassages tells of the ways round that deliveries have taken.
func (r *run) writePassages(out io.Writer) {
	var ways []string
	for _, c := range []struct {
		n    int
		text string
	}{
		{r.passages.waited(), "waited in the waiting room"}, {r.passages.parkedAll(), "parked while their destination could not receive"},
		{r.passages.redrivenAll(), "moved back from the dead-letter queue"},
	} {
		if c.n > 0 {
			ways = append(ways, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	if len(ways) > 0 {
		fmt.Fprintln(out, strings.Join(ways, ", "))
	}
}

// writeTraces tells where the event of -trace has been.
func (r *run) writeTraces(out io.Writer, b auditor.Books) error {
	for _, row := range b.Rows {
		if r.traces == nil || row.Event != r.trace {
			continue
		}
		fmt.Fprintln(out)
		if err := r.traces.Tree(out, row.Delivery); err != nil && !errors.Is(err, xray.ErrNoTrace) {
			return err
		}
	}
	return nil
}

func retries(n int) string {
	if n == 1 {
		return "1 of them a retry"
	}
	return fmt.Sprintf("%d of them retries", n)
}

func calls(b auditor.Books, service string) (n int) {
	for _, count := range b.AWSCalls[service] {
		n += count
	}
	return n
}

func units(u float64) string { return strconv.FormatFloat(u, 'f', -1, 64) }

// took gives a time in at most five characters, up to days.
func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", max(d, 0).Milliseconds())
	case d.Round(100*time.Millisecond) < 100*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d.Round(time.Minute) < 100*time.Minute:
		return fmt.Sprintf("%.0fm", d.Minutes())
	default:
		return fmt.Sprintf("%.0fh", d.Hours())
	}
}

// clipMiddle makes s printable and shortens it to n characters, for ids of producers, which often begin alike.
func clipMiddle(s string, n int) string {
	runes := []rune(terminal.Printable(s, len(s))) // all of it
	if len(runes) <= n {
		return string(runes)
	}
	return string(runes[:n/2]) + "…" + string(runes[len(runes)-(n-1-n/2):])
}
