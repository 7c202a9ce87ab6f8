package redrive_test

import (
	"strings"
	"testing"
	"time"

	"github.com/waybillhq/waybill/shared/redrive"
	"github.com/waybillhq/waybill/shared/topology"
)

func TestConfigIsCheckedAsAWhole(t *testing.T) {
	valid := redrive.Config{SQS: &backward{}, From: topology.DeliveriesDeadLetter, FromURL: "http://x/a", ToURL: "http://x/b"}
	if _, err := redrive.New(valid); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*redrive.Config)
		want   []string // parts of the error, one a line
	}{
		"nothing":         {func(c *redrive.Config) { *c = redrive.Config{} }, []string{"client", "knows deliveries-dlq and ingress-dlq", "URL of the dead-letter", "URL of the queue to move to"}},
		"wrong queue":     {func(c *redrive.Config) { c.From = topology.Deliveries }, []string{`"deliveries"`}},
		"same queue":      {func(c *redrive.Config) { c.ToURL = c.FromURL }, []string{"same queue"}},
		"FIFO":            {func(c *redrive.Config) { c.FromURL = "http://x/a.fifo" }, []string{"FIFO"}},
		"numbers":         {func(c *redrive.Config) { c.Rate, c.Limit, c.Window = 501, -1, 120_000 }, []string{"rate 501", "limit -1", "window 120000"}},
		"negative":        {func(c *redrive.Config) { c.Rate, c.Window, c.Hidden = -1, 99, time.Second }, []string{"rate -1", "window 99", "hidden for 1s"}},
		"new id alone":    {func(c *redrive.Config) { c.NewID = true }, []string{"new id"}},
		"replay unread":   {func(c *redrive.Config) { c.Replay, c.Filter.Unreadable = true, true }, []string{"cannot be marked"}},
		"rotate nothing":  {func(c *redrive.Config) { c.Rotate, c.DryRun = true, true }, []string{"dry run"}},
		"upside down":     {func(c *redrive.Config) { c.Filter.Since, c.Filter.Until = time.Unix(2, 0), time.Unix(1, 0) }, []string{"exchange"}},
		"replay of what?": {func(c *redrive.Config) { c.From, c.Replay = topology.IngressDeadLetter, true }, []string{"not been delivered"}},
		"no destination": {func(c *redrive.Config) {
			c.From, c.Filter.Destinations, c.Filter.Codes = topology.IngressDeadLetter, []string{"x"}, []redrive.Codes{{}}
		}, []string{"no destination", "no status code"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := valid
			tt.change(&cfg)
			_, err := redrive.New(cfg)
			if err == nil {
				t.Fatal("accepted")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%v", len(lines), len(tt.want), err)
			}
			for i, part := range tt.want {
				if !strings.Contains(lines[i], part) {
					t.Errorf("%q does not tell of %q", lines[i], part)
				}
			}
		})
	}
}

func TestParseCodes(t *testing.T) {
	for text, want := range map[string]redrive.Codes{"503": {503, 503}, "0": {0, 0}, "5xx": {500, 599}, "4XX": {400, 499}, "500-503": {500, 503}} {
		if got, err := redrive.ParseCodes(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "xx", "0xx", "10xx", "-1", "503-500", "1000", "5xx-6xx", "500-", "-500", "500-503-504"} {
		if got, err := redrive.ParseCodes(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
