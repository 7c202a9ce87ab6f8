package program_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/waybillhq/waybill/scripts/deliveries/program"
	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/topology"
)

// variables are an environment in which everything is known.
func variables() map[string]string {
	v := map[string]string{}
	for _, q := range topology.New(topology.LowLatency).Queues {
		v[q.Name.URLVariable()] = "http://127.0.0.1:4566/000000000000/" + string(q.Name)
	}
	for _, t := range topology.New(topology.LowLatency).Tables {
		v[t.Name.NameVariable()] = string(t.Name)
	}
	return v
}

func environment(v map[string]string, cfg aws.Config, err error) program.Environment {
	return program.Environment{
		Lookup: func(name string) (string, bool) { value, ok := v[name]; return value, ok },
		AWS:    func(context.Context, string, string) (aws.Config, error) { return cfg, err },
	}
}

func TestRefusals(t *testing.T) {
	without := func(names ...string) map[string]string {
		v := variables()
		maps.DeleteFunc(v, func(name, _ string) bool { return strings.Contains(strings.Join(names, " "), name) })
		return v
	}
	for name, tt := range map[string]struct {
		args string
		env  map[string]string
		want []string // one for each line
	}{
		"no question":         {"", variables(), []string{"no question"}},
		"queues alone":        {"-queues", variables(), []string{"no question"}},
		"two questions":       {"-event 1 -delivery x", variables(), []string{"ask for one of them"}},
		"event and state":     {"-event 1 -state dead", variables(), []string{"leave out states and times"}},
		"event and place":     {"-event 1 -after ledger.", variables(), []string{"nothing to go on with"}},
		"source without":      {"-source /x -state dead", variables(), []string{"need an event"}},
		"by destination":      {"-destination crm -state delivered", variables(), []string{"a row of the ledger does not say for whom"}},
		"dead by destination": {"-destination crm -state dead", variables(), []string{"a row of the ledger does not say for whom"}},
		"payload of many":     {"-state dead -payload", variables(), []string{"one delivery"}},
		"payload of some":     {"-event 1 -destination a,b -payload", variables(), []string{"name the event's destination"}},
		"no time between":     {"-since 1h -until 2h", variables(), []string{"nothing lies between"}},
		"no tables":           {"-event 1", without("WAYBILL_TABLE_LEDGER WAYBILL_TABLE_WAITING WAYBILL_TABLE_REGISTRY"), []string{"WAYBILL_TABLE_LEDGER", "WAYBILL_TABLE_WAITING", "WAYBILL_TABLE_REGISTRY"}},
		"no queues":           {"-event 1 -queues", without("WAYBILL_QUEUE_DELIVERIES_DLQ_URL WAYBILL_QUEUE_INGRESS_DLQ_URL"), []string{"WAYBILL_QUEUE_INGRESS_DLQ_URL", "WAYBILL_QUEUE_DELIVERIES_DLQ_URL"}},
		"everything": {
			"-state ill -max-units 0 -limit 0 -since soon -until later -endpoint-url x:y -after x rest", variables(),
			[]string{`["rest"]`, "-max-units 0", "-limit 0", `-since "soon"`, `-until "later"`, `no state "ill"`, "no place to go on", "no http"},
		},
		"too few":  {"-state dead -max-units 299 -limit -1", variables(), []string{"299 read units are too few", "a limit of -1"}},
		"too many": {"-state dead -limit 100001", variables(), []string{"a limit of 100001"}},
		"a place":  {"-state dead -after parked.eA", variables(), []string{"no place to go on"}},
		"empty":    {"-state ,", variables(), []string{"empty value"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			env := environment(tt.env, aws.Config{}, errors.New("AWS was called"))
			if status := program.Run(t.Context(), strings.Fields(tt.args), env, &out, &errs); status != 2 || out.Len() > 0 {
				t.Errorf("status %d, %s", status, &out)
			}
			lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
			if name == "empty" {
				lines = lines[:1] // the flag package shows the usage too
			}
			if len(lines) != len(tt.want) {
				t.Fatalf("%d problems, want %d:\n%s", len(lines), len(tt.want), &errs)
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %d is %q, want %q in it", i, lines[i], want)
				}
			}
		})
	}
}

func TestHelp(t *testing.T) {
	var out, errs bytes.Buffer
	if status := program.Run(t.Context(), []string{"-help"}, environment(nil, aws.Config{}, nil), &out, &errs); status != 0 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{"after the tenth", "Exit status", "-endpoint-url", "$WAYBILL_TABLE_LEDGER"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("the help lacks %q", want)
		}
	}
}

func TestAWSIsNotConfigured(t *testing.T) {
	var out, errs bytes.Buffer
	env := environment(variables(), aws.Config{}, errors.New("no region"))
	if status := program.Run(t.Context(), []string{"-event", "1"}, env, &out, &errs); status != 2 || !strings.Contains(errs.String(), "no region") {
		t.Errorf("status %d: %s", status, &errs)
	}
}

// TestEnvironmentNamesTablesAndQueues: without an endpoint, what the environment says is asked; and a queue that a function reads is not taken for a
// dead-letter queue, whatever the environment says.
func TestEnvironmentNamesTablesAndQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := system.Start(t.Context(), system.Config{Destinations: []byte(`{"destinations":[]}`), Stopped: true})
		if err != nil {
			t.Fatal(err)
		}
		v := map[string]string{}
		for _, q := range s.Queues.Queues() {
			v[topology.QueueName(q.Name()).URLVariable()] = q.URL()
		}
		for _, table := range topology.New(topology.LowLatency).Tables {
			v[table.Name.NameVariable()] = string(table.Name)
		}
		run := func(args ...string) (int, string) {
			var out, errs bytes.Buffer
			status := program.Run(t.Context(), args, environment(v, s.AWS(), nil), &out, &errs)
			return status, out.String() + errs.String()
		}
		if status, said := run("-event", "1", "-source", "/s", "-queues"); status != 1 || !strings.Contains(said, "NOT FOUND: event 1") {
			t.Errorf("%d: %s", status, said)
		}
		v[topology.DeliveriesDeadLetter.URLVariable()] = v[topology.Deliveries.URLVariable()]
		if status, said := run("-event", "1", "-source", "/s", "-queues"); status != 2 || !strings.Contains(said, "is no dead-letter queue: it has a redrive policy") {
			t.Errorf("%d: %s", status, said)
		}
		v[topology.Ledger.NameVariable()] = "elsewhere"
		if status, said := run("-delivery", "1"); status != 2 || !strings.Contains(said, "elsewhere") {
			t.Errorf("%d: %s", status, said)
		}
		if status, said := run("-delivery", "1", "-ledger", "ledger"); status != 1 {
			t.Errorf("%d: %s", status, said)
		}
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
