package whereabouts

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
)

// A search is tested through its program, in scripts/deliveries, against the whole system. Here is what that cannot show.

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := New(Config{})
	if err == nil {
		t.Fatal("an empty configuration is accepted")
	}
	for _, want := range []string{"Config.Tables", "the table ledger", "the table waiting", "the table registry", "Config.Limits"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in %v", want, err)
		}
	}
}

// TestDeadLettersNeedTheirQueue: a question that cannot be answered is refused before anything is read.
func TestDeadLettersNeedTheirQueue(t *testing.T) {
	s, err := New(Config{
		Tables: struct{ Tables }{}, Limits: topology.New(topology.LowLatency).Limits,
		Names: map[topology.TableName]string{topology.Ledger: "l", topology.Waiting: "w", topology.Registry: "r"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ask(t.Context(), Question{Event: "1", DeadLetters: true}, func(Answer) {}); err == nil || !strings.Contains(err.Error(), "deliveries-dlq") {
		t.Error(err)
	}
}

// TestNothingIsWritten: not even a driver that wanted to could write.
func TestNothingIsWritten(t *testing.T) {
	m := &meter{}
	ctx := context.Background()
	for name, write := range map[string]func() error{
		"PutItem":        func() error { _, err := m.PutItem(ctx, &dynamodb.PutItemInput{}); return err },
		"GetItem":        func() error { _, err := m.GetItem(ctx, &dynamodb.GetItemInput{}); return err },
		"UpdateItem":     func() error { _, err := m.UpdateItem(ctx, &dynamodb.UpdateItemInput{}); return err },
		"DeleteItem":     func() error { _, err := m.DeleteItem(ctx, &dynamodb.DeleteItemInput{}); return err },
		"BatchWriteItem": func() error { _, err := m.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{}); return err },
		"BatchExecuteStatement": func() error {
			_, err := m.BatchExecuteStatement(ctx, &dynamodb.BatchExecuteStatementInput{})
			return err
		},
	} {
		if err := write(); !errors.Is(err, errReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPlace(f *testing.F) {
	for _, p := range []place{
		{phase: inLedger}, {phase: inLedger, delivery: "8gvr7pgbim92f7cnb141u3svsj8rd210"}, {phase: inParked},
		{phase: inRoom, room: waiting.Cursor{Bucket: "2026-11-03T04#3", Key: "00946684860000#8gvr7pgbim92f7cnb141u3svsj8rd210#0#1"}},
		{phase: inParked, room: waiting.Cursor{Bucket: "parked#crm#3"}},
	} {
		f.Add(p.String())
		if back, err := parsePlace(p.String()); err != nil || !reflect.DeepEqual(back, p) {
			f.Errorf("%+v comes back as %+v, %v", p, back, err)
		}
	}
	f.Add("")
	f.Add("ledger.%")
	f.Add("elsewhere.eA")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePlace(text)
		if err != nil || text == "" {
			return
		}
		if back, err := parsePlace(p.String()); err != nil || !reflect.DeepEqual(back, p) {
			t.Errorf("%q is %+v, and comes back as %+v, %v", text, p, back, err)
		}
	})
}
