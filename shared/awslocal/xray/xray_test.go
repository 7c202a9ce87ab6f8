package xray_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/xray"
)

const (
	header   = "{\"format\": \"json\", \"version\": 1}\n"
	eventID  = "1-6743a1b2-0123456789abcdef01234567" // the event's own trace
	routerID = "1-6743a1b3-0123456789abcdef01234567"
	firstID  = "1-6743a1b4-0123456789abcdef01234567"
	secondID = "1-6743a1b5-0123456789abcdef01234567"
)

// id makes a segment id.
func id(n int) string { return fmt.Sprintf("%016x", n) }

// valid is a segment document with one thing changed.
func valid(old, with string) string {
	const document = `{"name":"claim","id":"000000000000000b","trace_id":"` + eventID + `","parent_id":"000000000000000a","type":"subsegment",` +
		`"start_time":1700000000.25,"end_time":1700000000.5,"annotations":{"delivery":"3v0","attempt":1,"replay":false}}`
	if !strings.Contains(document, old) {
		panic(old)
	}
	return strings.Replace(document, old, with, 1)
}

func TestAcceptsWhatXRayTakes(t *testing.T) {
	for name, document := range map[string]string{
		"subsegment":          valid("", ""),
		"segment":             valid(`,"parent_id":"000000000000000a","type":"subsegment"`, ""),
		"segment of a parent": valid(`"type":"subsegment",`, ""),
		"in progress":         valid(`"end_time":1700000000.5`, `"in_progress":true`),
		"whole seconds":       valid(`1700000000.25`, `1700000000`),
		"names":               valid(`"claim"`, `"Zürich 7 _.:/%&#=+\\-@"`),
		"fields of the SDK":   valid(`{`, `{"Dummy":false,"aws":{"xray":{"sdk":"X-Ray for Go"}},"metadata":{"default":{"a":[1]}},`),
		"everything else": valid(`{`, `{"namespace":"remote","fault":true,"error":true,"throttle":true,"links":[{"trace_id":"`+routerID+`","id":"000000000000000c"}],`+
			`"http":{"request":{"method":"POST","url":"https://example.com/"},"response":{"status":500,"content_length":12}},`+
			`"cause":{"exceptions":[{"id":"000000000000000d","type":"x","message":"broken"}]},`),
		"cause elsewhere":   valid(`{`, `{"cause":"000000000000000d",`),
		"cause of none":     valid(`{`, `{"cause":null,`),
		"with subsegments":  valid(`{`, `{"subsegments":[{"name":"in","id":"000000000000000e","start_time":1700000000,"end_time":1700000001,"subsegments":[]}],`),
		"longest name":      valid(`claim`, strings.Repeat("é", 200)),
		"longest text":      valid(`3v0`, strings.Repeat("é", 1000)),
		"number in the key": valid(`"replay"`, `"9_Z"`),
	} {
		if err := xray.New(xray.Options{}).Receive([]byte(header + document)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusesWhatXRayRefuses(t *testing.T) {
	d := xray.New(xray.Options{})
	packets := map[string]string{
		"nothing":        "",
		"no header":      valid("", ""),
		"another format": "{\"format\":\"xml\",\"version\":1}\n" + valid("", ""),
		"another version": "{\"format\":\"json\",\"version\":2}\n" +
			valid("", ""),
		"no document":  header,
		"not UTF-8":    header + valid("claim", "cl\xffim"),
		"too large":    header + valid(`{`, `{"metadata":{"default":"`+strings.Repeat("x", 64<<10)+`"},`),
		"two segments": header + valid("", "") + valid("", ""),
	}
	for name, c := range map[string][2]string{
		"list":                         {`{`, `[{`},
		"no id":                        {`"id":"000000000000000b",`, ``},
		"short id":                     {`000000000000000b`, `00000000000000b`},
		"id not hexadecimal":           {`000000000000000b`, `000000000000000g`},
		"id of zeros":                  {`000000000000000b`, `0000000000000000`},
		"id is a number":               {`"000000000000000b"`, `11`},
		"no trace":                     {`"trace_id":"` + eventID + `",`, ``},
		"trace in W3C's form":          {eventID, strings.ReplaceAll(eventID, "-", "")},
		"trace without version":        {eventID, eventID[2:]},
		"dash elsewhere":               {eventID, "1-6743a1b201-23456789abcdef01234567"},
		"no name":                      {`"name":"claim",`, ``},
		"empty name":                   {`claim`, ``},
		"name with other characters":   {`claim`, `cl<i>m`},
		"name too long":                {`claim`, strings.Repeat("x", 201)},
		"subsegment without parent":    {`"parent_id":"000000000000000a",`, ``},
		"parent no id":                 {`000000000000000a`, `a`},
		"its own parent":               {`000000000000000a`, `000000000000000b`},
		"another type":                 {`"subsegment"`, `"span"`},
		"another namespace":            {`{`, `{"namespace":"local",`},
		"no start":                     {`"start_time":1700000000.25,`, ``},
		"start is text":                {`1700000000.25`, `"1700000000.25"`},
		"start in milliseconds":        {`1700000000.25`, `1700000000250`},
		"start before time":            {`1700000000.25`, `-1`},
		"neither end nor in progress":  {`"end_time":1700000000.5,`, ``},
		"both":                         {`"end_time":`, `"in_progress":true,"end_time":`},
		"not in progress, but no end":  {`"end_time":1700000000.5`, `"in_progress":false`},
		"end before start":             {`"end_time":1700000000.5`, `"end_time":1700000000`},
		"end in milliseconds":          {`"end_time":1700000000.5`, `"end_time":1700000000500`},
		"fault is a number":            {`{`, `{"fault":1,`},
		"key with a dot":               {`"replay"`, `"re.play"`},
		"key with a letter of another": {`"replay"`, `"réplay"`},
		"empty key":                    {`"replay"`, `""`},
		"key too long":                 {`"replay"`, `"` + strings.Repeat("x", 501) + `"`},
		"annotation is a list":         {`false}`, `[]}`},
		"annotation is null":           {`false}`, `null}`},
		"annotation too long":          {`3v0`, strings.Repeat("é", 1001)},
		"status is text":               {`{`, `{"http":{"response":{"status":"200"}},`},
		"length is broken":             {`{`, `{"http":{"response":{"content_length":0.5}},`},
		"metadata is a list":           {`{`, `{"metadata":[],`},
		"cause is a number":            {`{`, `{"cause":1,`},
		"cause is a word":              {`{`, `{"cause":"timeout",`},
		"exception without id":         {`{`, `{"cause":{"exceptions":[{"message":"x"}]},`},
		"too many links":               {`{`, `{"links":[` + strings.Repeat(`{"trace_id":"`+eventID+`"},`, 20) + `{"trace_id":"` + eventID + `"}],`},
		"link to nothing":              {`{`, `{"links":[{"id":"000000000000000c"}],`},
		"link with a broken id":        {`{`, `{"links":[{"trace_id":"` + eventID + `","id":"c"}],`},
		"subsegment inside is broken":  {`{`, `{"subsegments":[{"name":"in","id":"e","start_time":1,"end_time":2}],`},
		"subsegment of another parent": {`{`, `{"subsegments":[{"name":"in","id":"000000000000000e","parent_id":"000000000000000f","start_time":1,"end_time":2}],`},
		"subsegment of another trace":  {`{`, `{"subsegments":[{"name":"in","id":"000000000000000e","trace_id":"` + routerID + `","start_time":1,"end_time":2}],`},
		"subsegment is its parent":     {`{`, `{"subsegments":[{"name":"in","id":"000000000000000b","start_time":1,"end_time":2}],`},
	} {
		packets[name] = header + valid(c[0], c[1])
	}
	for name, packet := range packets {
		if err := d.Receive([]byte(packet)); !errors.Is(err, xray.ErrRefused) || len(err.Error()) > 2000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := d.Stats(); s.Refused != int64(len(packets)) || s.Packets != s.Refused || s.Segments != 0 || s.Refusal == "" {
		t.Errorf("%+v", s)
	}
}

// span writes a packet. Times are milliseconds after a moment.
func span(trace string, n, parent int, name string, from, to int, more string) string {
	const moment = 1700000000
	kin := ""
	if parent != 0 {
		kin = `,"type":"subsegment","parent_id":"` + id(parent) + `"`
	}
	end := fmt.Sprintf(`"end_time":%d.%03d`, moment+to/1000, to%1000)
	if to < 0 {
		end = `"in_progress":true`
	}
	return fmt.Sprintf(`%s{"name":%q,"id":%q,"trace_id":%q,"start_time":%d.%03d,%s%s%s}`, header, name, id(n), trace, moment+from/1000, from%1000, end, kin, more)
}

// story is one delivery that failed once, among others, as packets.
func story() []string {
	annotated := func(text string) string { return `,"annotations":{` + text + `}` }
	ours := `"delivery":"3v0","event_trace":"` + eventID + `","destination":"flaky",`
	return []string{
		span(eventID, 1, 0, "shop", 0, 20, ""),
		span(eventID, 2, 1, "SendMessage", 5, 15, ""),
		span(routerID, 10, 0, "router", 30, 42, ""),
		span(routerID, 11, 10, "route", 31, 34, annotated(`"event_trace":"`+eventID+`","event":"e-1"`)),
		span(routerID, 12, 10, "route", 34, 36, annotated(`"event_trace":"1-6743a1b9-0123456789abcdef01234567","event":"e-2"`)),
		span(routerID, 13, 12, "match", 34, 36, ""), // inside another event's
		span(firstID, 20, 0, "deliverer", 100, 1120, ""),
		span(firstID, 21, 20, "claim", 101, 104, ""),
		span(firstID, 22, 20, "attempt", 104, 804, annotated(ours+`"attempt":1,"verdict":"retry"`)+`,"fault":true,"http":{"response":{"status":500}},`+
			`"cause":{"exceptions":[{"id":"000000000000000d","message":"no \"luck\"\u001b[2J"}]}`),
		span(firstID, 23, 20, "attempt", 104, 1100, annotated(`"delivery":"other","event_trace":"`+eventID+`","attempt":1`)),
		span(firstID, 24, 22, "dial", 104, 204, ""),
		span(firstID, 25, 20, "settle", 804, 806, ""),
		span(secondID, 30, 0, "deliverer", 5100, -1, ""),
		span(secondID, 31, 30, "attempt", 5104, 5114, annotated(ours+`"attempt":2,"verdict":"a b"`)+`,"error":true,"throttle":true`),
		span("1-6743a1b6-0123456789abcdef01234567", 40, 0, "deliverer", 100, 200, ""),
		span("1-6743a1b6-0123456789abcdef01234567", 41, 40, "attempt", 100, 200, annotated(`"delivery":"third","event_trace":"`+eventID+`"`)),
	}
}

const told = `delivery 3v0  (event trace ` + eventID + `)
shop  22:13:20.000  20 ms  ` + eventID + `
└─ SendMessage  +5 ms  10 ms
router  22:13:20.030  12 ms  ` + routerID + `
└─ route  +1 ms  3 ms  event=e-1
   (2 of other events and deliveries not shown)
deliverer  22:13:20.100  1.02 s  ` + firstID + `
├─ claim  +1 ms  3 ms
├─ attempt 1  +4 ms  700 ms  destination=flaky  verdict=retry  http=500  fault  "no \"luck\"\x1b[2J"
│  └─ dial  +4 ms  100 ms
└─ settle  +704 ms  2 ms
   (1 of other events and deliveries not shown)
deliverer  22:13:25.100  in progress  ` + secondID + `
└─ attempt 2  +4 ms  10 ms  destination=flaky  verdict="a b"  throttled
`

func tell(t *testing.T, packets []string) string {
	t.Helper()
	d := xray.New(xray.Options{})
	for _, p := range packets {
		if err := d.Receive([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	return print(t, d, "3v0")
}

func print(t *testing.T, d *xray.Daemon, delivery string) string {
	t.Helper()
	var out bytes.Buffer
	if err := d.Tree(&out, delivery); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTreeOfADelivery(t *testing.T) {
	if got := tell(t, story()); got != told {
		t.Errorf("got:\n%s\nwant:\n%s", got, told)
	}
}

// The order of arrival makes no difference, nor does what arrives twice, nor what is in progress after it has ended.
func TestAnyOrderOfArrival(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	packets := append(story(), story()...)
	packets = append(packets, span(firstID, 22, 20, "attempt", 104, -1, ""), span(eventID, 1, 0, "shop", 0, -1, ""))
	for range 50 {
		random.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
		if got := tell(t, packets); got != told {
			t.Fatalf("got:\n%s\nwant:\n%s", got, told)
		}
	}
}

// Where the producer sends no trace, the router's own becomes the trace of several events.
func TestEventsThatShareATrace(t *testing.T) {
	event := func(n string) string {
		return `,"annotations":{"event_trace":"` + routerID + `","event":"e-` + n + `"`
	}
	got := tell(t, []string{
		span(routerID, 1, 0, "router", 0, 10, ""),
		span(routerID, 2, 1, "route", 1, 2, event("1")+`}`),
		span(routerID, 3, 1, "route", 2, 3, event("2")+`}`),
		span(firstID, 4, 0, "deliverer", 20, 30, ""),
		span(firstID, 5, 4, "attempt", 21, 22, event("1")+`,"delivery":"3v0"}`),
		span(firstID, 6, 4, "attempt", 21, 23, event("2")+`,"delivery":"other"}`),
		span(secondID, 7, 0, "deliverer", 40, 50, ""),
		span(secondID, 8, 7, "attempt", 41, 42, event("2")+`,"delivery":"other"}`),
	})
	want := `delivery 3v0  (event trace ` + routerID + `)
router  22:13:20.000  10 ms  ` + routerID + `
└─ route  +1 ms  1 ms  event=e-1
   (1 of other events and deliveries not shown)
deliverer  22:13:20.020  10 ms  ` + firstID + `
└─ attempt  +1 ms  1 ms  event=e-1
   (1 of other events and deliveries not shown)
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSpansWhoseParentsAreMissingOrInACircle(t *testing.T) {
	ours := `,"annotations":{"delivery":"3v0"}`
	got := tell(t, []string{
		span(firstID, 2, 99, "attempt", 0, 10, ours),
		span(firstID, 3, 2, "dial", 1, 2, ""),
		span(firstID, 4, 99, "settle", 10, 11, ""),
		span(secondID, 5, 6, "egg", 20, 21, ours),
		span(secondID, 6, 5, "hen", 20, 22, ours),
	})
	want := `delivery 3v0
(segment 0000000000000063 has not arrived)  22:13:20.000  ` + firstID + `
├─ attempt  +0 µs  10 ms
│  └─ dial  +1 ms  1 ms
└─ settle  +10 ms  1 ms
hen  22:13:20.020  2 ms  ` + secondID + `
└─ egg  +0 µs  1 ms
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSubsegmentsInsideADocument(t *testing.T) {
	got := tell(t, []string{span(firstID, 1, 0, "deliverer", 0, 10, `,"subsegments":[{"name":"attempt","id":"`+id(2)+`","start_time":1700000000.001,`+
		`"end_time":1700000000.002,"annotations":{"delivery":"3v0"},"subsegments":[{"name":"dial","id":"`+id(3)+`","start_time":1700000000.001,"in_progress":true}]}]`)})
	want := `delivery 3v0
deliverer  22:13:20.000  10 ms  ` + firstID + `
└─ attempt  +1 ms  1 ms
   └─ dial  +1 ms  in progress
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestUnknownDelivery(t *testing.T) {
	d := xray.New(xray.Options{})
	var out bytes.Buffer
	err := d.Tree(&out, "3v0\x1b[2J"+strings.Repeat("x", 1000))
	if !errors.Is(err, xray.ErrNoTrace) || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 300 || out.Len() != 0 || d.Journey("3v0") != nil {
		t.Errorf("%v: %q", err, out.String())
	}
}

// What is printed has bounds in every direction, and no character that a terminal obeys.
func TestTreeIsBounded(t *testing.T) {
	const evil = `\u001b[31m\u0007\u202e\r\n`
	d := xray.New(xray.Options{})
	receive := func(packet string) {
		if err := d.Receive([]byte(packet)); err != nil {
			t.Fatal(err)
		}
	}
	annotations := `,"annotations":{"delivery":"3v0","note":"` + evil + strings.Repeat("é", 900) + `","empty":"","event_trace":"` + evil + `"}`
	receive(span(firstID, 1, 0, "deliverer", 0, 10, annotations))
	for n := 2; n < 3000; n++ { // a chain
		receive(span(firstID, n, n-1, "deep\u2003", 1, 2, ""))
	}
	out := print(t, d, "3v0")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 1001 || lines[1000] != "… and 2000 more" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	for _, l := range lines {
		if len([]rune(l)) > 600 || strings.ContainsAny(l, "\x1b\a\r\u202e\u2003") {
			t.Fatalf("%q", l)
		}
	}
	if !strings.Contains(lines[1], `note="\x1b[31m\a\u202e\r\néé`) || !strings.Contains(lines[1], `empty=""`) || !strings.HasPrefix(lines[2], `└─ "deep\u2003"`) {
		t.Errorf("%s\n%s", lines[1], lines[2])
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestTreeReportsTheWritersError(t *testing.T) {
	d := xray.New(xray.Options{})
	for _, p := range story() {
		_ = d.Receive([]byte(p))
	}
	if err := d.Tree(fullDisk{}, "3v0"); err == nil || err.Error() != "disk full" {
		t.Error(err)
	}
}

func TestOldestTracesAreForgotten(t *testing.T) {
	d := xray.New(xray.Options{MaxBytes: 100 << 10})
	trace := func(n int) string { return fmt.Sprintf("1-%08x-0123456789abcdef01234567", n) }
	for n := 1; n <= 100; n++ {
		_ = d.Receive([]byte(span(trace(n), 1, 0, "deliverer", 0, -1, "")))
		more := fmt.Sprintf(`,"annotations":{"delivery":"d%d"},"metadata":{"a":%q}`, n, strings.Repeat("x", 9<<10))
		for range 2 { // replaced, and counted once, at its size
			_ = d.Receive([]byte(span(trace(n), 1, 0, "deliverer", 0, 10, more)))
		}
	}
	if s := d.Stats(); s.Traces != 10 || s.Segments != 10 || s.Forgotten != 90 || s.Packets != 300 || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
	if len(d.Journey("d100")) != 1 || len(d.Journey("d91")) != 1 || d.Journey("d90") != nil {
		t.Error("not the oldest were forgotten")
	}
	one := xray.New(xray.Options{MaxBytes: 1})
	if err := one.Receive([]byte(story()[0])); err != nil || one.Stats().Segments != 0 {
		t.Errorf("%v, %+v", err, one.Stats())
	}
}

var headerForm = regexp.MustCompile(`^Root=(1-[0-9a-f]{8}-[0-9a-f]{24});Parent=([0-9a-f]{16});Sampled=1$`)

func TestInvocationDoesLambdasPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := xray.New(xray.Options{})
		time.Sleep(1234567 * time.Nanosecond)
		traceHeader, end := d.Invocation("deliverer")
		m := headerForm.FindStringSubmatch(traceHeader)
		if m == nil {
			t.Fatalf("%q", traceHeader)
		}
		second := fmt.Sprintf("%d.5", time.Now().Unix())
		packet := header + strings.NewReplacer(eventID, m[1], id(10), m[2], "1700000000.25", second, "1700000000.5", second).Replace(valid("", ""))
		if err := d.Receive([]byte(packet)); err != nil {
			t.Fatal(err)
		}
		journey := d.Journey("3v0")
		if len(journey) != 1 || len(journey[0].Segments) != 2 || !journey[0].Segments[0].End.IsZero() {
			t.Fatalf("%+v", journey)
		}
		time.Sleep(time.Second)
		end(true)
		time.Sleep(time.Second)
		end(false)
		s := d.Journey("3v0")[0].Segments[0]
		if s.Name != "deliverer" || !s.Fault || s.End.Sub(s.Start) != time.Second || s.ParentID != "" || s.ID != m[2] || s.TraceID != m[1] {
			t.Errorf("%+v", s)
		}
		if other, end := d.Invocation("deliverer"); other == traceHeader {
			t.Error("two invocations have one trace")
		} else {
			end(false)
		}
	})
}

func TestServeTakesDatagrams(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := xray.New(xray.Options{})
	served := make(chan error, 1)
	go func() { served <- d.Serve(conn) }()
	client, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	packets := append(story(), "nonsense", header+valid(`{`, `{"metadata":{"a":"`+strings.Repeat("x", 60<<10)+`"},`))
	deadline := time.Now().Add(10 * time.Second)
	for i, p := range packets {
		if _, err := client.Write([]byte(p)); err != nil {
			t.Fatal(err)
		}
		for d.Stats().Packets <= int64(i) { // datagrams get lost; here they must not
			if time.Now().After(deadline) {
				t.Fatal("a packet did not arrive")
			}
			time.Sleep(time.Millisecond)
		}
	}
	if s := d.Stats(); s.Refused != 1 || s.Segments != len(packets)-1 {
		t.Errorf("%+v", s)
	}
	if got := print(t, d, "3v0"); !strings.Contains(got, "attempt 2") {
		t.Error(got)
	}
	_ = conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	d := xray.New(xray.Options{MaxBytes: 20 << 10})
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 10 {
				for _, p := range story() {
					_ = d.Receive([]byte(p))
				}
				_ = d.Tree(&bytes.Buffer{}, "3v0")
				_, end := d.Invocation("deliverer")
				end(false)
				d.Stats()
			}
		})
	}
	running.Wait()
	if s := d.Stats(); s.Packets != int64(8*10*len(story())) || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
}

// Whatever comes in is refused, or kept and printable.
func FuzzReceive(f *testing.F) {
	for _, p := range story() {
		f.Add([]byte(p))
	}
	f.Add([]byte(header + valid(`{`, `{"subsegments":[{"name":"in","id":"000000000000000e","start_time":1,"end_time":2}],`)))
	f.Add([]byte(header + `{"subsegments":[{"subsegments":[{}]}]}`))
	f.Fuzz(func(t *testing.T, packet []byte) {
		d := xray.New(xray.Options{MaxBytes: 1 << 20})
		err := d.Receive(packet)
		if s := d.Stats(); (err == nil) != (s.Segments > 0) || (err != nil) != (s.Refused == 1) || err != nil && !errors.Is(err, xray.ErrRefused) {
			t.Errorf("%v: %+v", err, s)
		}
		for _, p := range story() {
			if err := d.Receive([]byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		out := print(t, d, "3v0")
		for _, r := range out {
			if r < ' ' && r != '\n' || r == 0x7f || r == 0x202e {
				t.Errorf("%q", out)
			}
		}
	})
}
