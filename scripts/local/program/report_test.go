package program

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/waybillhq/waybill/scripts/local/auditor"
)

// rows have one delivery in each state, in a bad order, with ids as producers make them.
func rows() []auditor.Row {
	return []auditor.Row{
		{Destination: "shop", Tenant: "acme", Event: "9", Type: "order.paid", State: auditor.Lost, Attempts: 1, Reason: "its message is gone"},
		{Destination: "shop", Tenant: "acme", Event: "7bf73129-1428-4cd3-a780-95db273d1602", Type: "EC2 Instance State-change Notification", State: auditor.Dead, Attempts: 10, Reason: "http-400", Took: time.Hour},
		{Destination: "shop", Tenant: "a tenant of many words", Event: "3", Type: "order.paid", State: auditor.Waiting, Attempts: 2, Reason: "timeout"},
		{Destination: "a-destination-with-a-long-name", Tenant: "acme", Event: "4\x1b[2J\n4", Type: "order.paid", State: auditor.Delivered, Attempts: 1, Took: 12 * time.Millisecond},
		{Destination: "shop", Tenant: "acme", Event: "2", Type: "order.paid", State: auditor.Delivered, Attempts: 3, Took: 4520 * time.Millisecond},
		{Destination: "shop", Tenant: "acme", Event: "1", Type: "order.paid", State: auditor.Delivered, Attempts: 1, Took: 70 * time.Hour},
		{Destination: "shop", Tenant: "acme", Event: "5", Type: "order.paid", State: auditor.Parked},
		{Destination: "shop", Tenant: "acme", Event: "6", Type: "order.paid", State: auditor.Queued},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	given := rows()
	writeTable(&out, given)
	const want = `DESTINATION       EVENT          TYPE             TENANT     STATE      TRIES  TOOK/WHY
a-destin…ng-name  4?[2J?4        order.paid       acme       delivered      1  12ms
shop              2              order.paid       acme       delivered      3  4.5s
shop              1              order.paid       acme       delivered      1  70h
shop              6              order.paid       acme       queued         0
shop              3              order.paid       a te…ords  waiting        2  timeout
shop              5              order.paid       acme       parked         0
shop              7bf731…3d1602  EC2 Ins…ication  acme       dead          10  http-400
shop              9              order.paid       acme       lost           1  its message is gone

`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if given[0].State != auditor.Lost {
		t.Error("the books' own rows were sorted")
	}
	out.Reset()
	writeTable(&out, nil)
	if got := out.String(); got != "There were no deliveries.\n\n" {
		t.Errorf("%q", got)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		books auditor.Books
		want  string
	}{
		"nothing": {auditor.Books{}, `0 events accepted
0 deliveries: 0 delivered, none lost
0 HTTP calls, 0 of them retries
0 SQS calls; 0 DynamoDB calls with 0 write and 0 read units
The books balance: every event and every delivery is accounted for.
`},
		"one": {
			auditor.Books{
				Accepted: 1, Routed: 1, Deliveries: 1, Delivered: 1, Retried: 1, HTTPAttempts: 2, WriteUnits: 3, ReadUnits: 0.5,
				AWSCalls: map[string]map[string]int{"sqs": {"SendMessage": 1}, "dynamodb": {"UpdateItem": 1}},
			}, `1 event accepted
1 delivery: 1 delivered, none lost
2 HTTP calls, 1 of them a retry
1 SQS call; 1 DynamoDB call with 3 write and 0.5 read units
The books balance: every event and every delivery is accounted for.
`,
		},
		"everything": {
			auditor.Books{
				Accepted: 28, Duplicates: 2, Unmatched: 3, Dropped: 4, IngressDead: 5, InIngress: 6, Missing: 7, Routed: 3,
				Deliveries: 21, Delivered: 1, Waiting: 2, Parked: 3, Dead: 4, Queued: 5, Lost: 6, Retried: 9, HTTPAttempts: 30,
				AWSCalls: map[string]map[string]int{"sqs": {"SendMessage": 40, "ReceiveMessage": 2}}, Unreadable: []string{"message x\ny"}, Foreign: []string{"message z"},
			}, `28 events accepted, of these 2 duplicate, 3 unmatched, 4 dropped, 5 refused, 6 not routed yet, 7 MISSING
21 deliveries: 1 delivered, 6 LOST, 4 dead, 3 parked, 2 waiting, 5 queued
30 HTTP calls, 9 of them retries
42 SQS calls; 0 DynamoDB calls with 0 write and 0 read units
not understood: message x?y
not understood: message z
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			writeSummary(&out, test.books)
			if got := out.String(); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestRefusedMessages(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	all := []refusal{{"6f1c0c2e-90a5-4f0e-9c55-0a7f2d3b1e11", "bad-json", "invalid event: bad-json: at byte 3"}, {"m-2", "poison", "it \x07panicked"}, {"m-3", "received too often", ""}}
	writeRefused(&out, all)
	const want = `Refused, now in the queue ingress-dlq:
  message 6f1c0c2e-90a5-4f0e-9c55-0a7f2d3b1e11: invalid event: bad-json: at byte 3
  message m-2: poison: it ?panicked
  message m-3: received too often

`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for range 5 {
		all = append(all, all...)
	}
	out.Reset()
	writeRefused(&out, all)
	if got := out.String(); strings.Count(got, "\n") != 23 || !strings.Contains(got, "  and 76 more\n") {
		t.Errorf("%s", got)
	}
	out.Reset()
	if writeRefused(&out, nil); out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}

// TestState: the line of progress fits a terminal of 80 columns when thousands of events are on their way.
func TestState(t *testing.T) {
	t.Parallel()
	for want, books := range map[string]auditor.Books{
		"0 events → 0/0 delivered":                                             {},
		"1 event → 0/2 delivered, 2 queued":                                    {Accepted: 1, Deliveries: 2, Queued: 2},
		"3 events (1 refused) → 0/0 delivered":                                 {Accepted: 3, IngressDead: 1},
		"3 events (1 refused) (2 MISSING) → 1/2 delivered, 1 LOST":             {Accepted: 3, IngressDead: 1, Missing: 2, Deliveries: 2, Delivered: 1, Lost: 1},
		"9999 events → 9999/9999 delivered, 99 dead, 9999 waiting, 999 queued": {Accepted: 9999, Deliveries: 9999, Delivered: 9999, Dead: 99, Waiting: 9999, Queued: 999},
	} {
		got := state(books)
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if n := utf8.RuneCountInString(got); n > 72 { // 8 are for the time
			t.Errorf("%q has %d characters", got, n)
		}
	}
}

// TestProgress: a change is shown, once; where the line is rewritten, it leaves the terminal as it was.
func TestProgress(t *testing.T) {
	t.Parallel()
	books, audits := auditor.Books{}, 0
	audit := func() auditor.Books { audits++; return books }
	play := func(p *progress) {
		for _, accepted := range []int{1, 1, 2} {
			books.Accepted = accepted
			p.show(audit)
			p.show(audit) // too soon
			p.next = time.Time{}
		}
		p.end()
	}
	var plain, terminal bytes.Buffer
	play(newProgress(options{}, &plain))
	if lines := strings.Split(plain.String(), "\n"); len(lines) != 3 || !strings.HasSuffix(lines[0], "s  1 event → 0/0 delivered") || !strings.HasSuffix(lines[1], "s  2 events → 0/0 delivered") {
		t.Errorf("%q", plain.String())
	}
	if strings.Contains(plain.String(), "\x1b") || strings.Contains(plain.String(), "\r") {
		t.Errorf("control characters where no terminal is: %q", plain.String())
	}
	if audits != 3 {
		t.Errorf("%d audits", audits)
	}
	p := newProgress(options{}, &terminal)
	p.terminal = true
	play(p)
	got := terminal.String()
	if strings.Count(got, rewrite) != 2 || strings.Count(got, wrap) != 2 || strings.LastIndex(got, wrap) < strings.LastIndex(got, rewrite) || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Errorf("%q", got)
	}
	audits = 0
	var silent bytes.Buffer
	play(newProgress(options{json: true}, &silent))
	if silent.Len() > 0 || audits > 0 {
		t.Errorf("with -json: %d audits, %q", audits, silent.String())
	}
}

func TestTook(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0ms", -time.Second: "0ms", 999 * time.Millisecond: "999ms", time.Second: "1.0s", 99*time.Second + 900*time.Millisecond: "99.9s",
		99*time.Second + 970*time.Millisecond: "2m", 100 * time.Second: "2m", 99 * time.Minute: "99m", 100 * time.Minute: "2h", 75 * time.Hour: "75h",
	} {
		if got := took(d); got != want || len(got) > 5 {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

// TestRefusalIsToldAtOnce: whoever sends by hand need not end the program to see what was wrong, and a flood of refusals does not hide the rest.
func TestRefusalIsToldAtOnce(t *testing.T) {
	t.Parallel()
	s := begin(t, nil, "-samples=false")
	send := func() string {
		out, err := s.client().SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: aws.String(s.ingressURL()), MessageBody: aws.String(`{"specversion":"0.3"}`)})
		if err != nil {
			t.Fatal(err)
		}
		return *out.MessageId
	}
	shown := func(text string) {
		t.Helper()
		eventually(t, text, func() bool { return strings.Contains(s.stdout.String(), text) })
	}
	shown("refused message " + send() + `: invalid event (cloudevents): bad-specversion: specversion is "0.3"`)
	for range maxRefusals {
		send()
	}
	shown("refused more than 20 messages; the others are in the queue ingress-dlq")
	s.stop()
	if n := strings.Count(s.stdout.String(), "refused message "); n != maxRefusals {
		t.Errorf("%d messages are told of, want %d", n, maxRefusals)
	}
}
