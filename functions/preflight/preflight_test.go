package preflight_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waybillhq/waybill/functions/preflight"
	"github.com/waybillhq/waybill/shared/topology"
)

// These tests need no function to try; those that play a whole rehearsal are in functions/wiring/hook.

// release is a Lambda and a CodeDeploy in the middle of a release.
type release struct {
	invoke  func(ctx context.Context) (preflight.Answer, error)
	deaf    error // of CodeDeploy
	invoked int
	told    []bool
	at      time.Time // when it was told
	log     bytes.Buffer
}

func (r *release) Invoke(ctx context.Context, _ string, _ []byte) (preflight.Answer, error) {
	r.invoked++
	return r.invoke(ctx)
}

func (r *release) Report(ctx context.Context, _ preflight.Event, succeeded bool) error {
	if err := errors.Join(ctx.Err(), r.deaf); err != nil {
		return err
	}
	r.told, r.at = append(r.told, succeeded), time.Now()
	return nil
}

func (r *release) open(t *testing.T) *preflight.Preflight {
	t.Helper()
	p, err := preflight.New(preflight.Config{
		Function: topology.New(topology.LowLatency).Functions[0], Version: "v7", Lambda: r, CodeDeploy: r, Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var event = preflight.Event{DeploymentID: "d-1", ExecutionID: "e-1"}

func TestMissingConfigListsEveryProblem(t *testing.T) {
	_, err := preflight.New(preflight.Config{})
	for _, name := range []string{"Function", "Version", "Lambda", "CodeDeploy"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+name) {
			t.Errorf("%v does not name Config.%s", err, name)
		}
	}
	for _, f := range []topology.Function{{Name: "router"}, {Timeout: time.Second}} {
		r := &release{}
		if _, err := preflight.New(preflight.Config{Function: f, Version: "v7", Lambda: r, CodeDeploy: r}); err == nil {
			t.Errorf("%q with a timeout of %v is taken for a function", f.Name, f.Timeout)
		}
	}
}

// Whatever goes wrong is told as failed, in time.
func TestEveryFailureIsTold(t *testing.T) {
	for name, invoke := range map[string]func(context.Context) (preflight.Answer, error){
		"a panic": func(context.Context) (preflight.Answer, error) { panic("bug") },
		"a crash": func(context.Context) (preflight.Answer, error) { return preflight.Answer{Failure: "Unhandled"}, nil },
		"no answer": func(ctx context.Context) (preflight.Answer, error) {
			<-ctx.Done()
			return preflight.Answer{}, ctx.Err()
		},
		"another answer":  func(context.Context) (preflight.Answer, error) { return preflight.Answer{Payload: []byte("null")}, nil },
		"nothing but no":  func(context.Context) (preflight.Answer, error) { return preflight.Answer{}, errors.New("throttled") },
		"an answer of no": func(context.Context) (preflight.Answer, error) { return preflight.Answer{Payload: []byte("no")}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &release{invoke: invoke}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				deadline, _ := ctx.Deadline()
				if err := r.open(t).Handle(ctx, event); err != nil {
					t.Error(err)
				}
				if len(r.told) != 1 || r.told[0] {
					t.Fatalf("told %v", r.told)
				}
				if left := deadline.Sub(r.at); left < topology.PreflightReserve {
					t.Errorf("told %v before the end, %v are kept for it", left, topology.PreflightReserve)
				}
				if !strings.Contains(r.log.String(), "level=ERROR") || !strings.Contains(r.log.String(), "v7") {
					t.Errorf("log: %s", r.log.String())
				}
			})
		})
	}
}

// Only CodeDeploy is answered, and that it could not be told is an error.
func TestWhoIsTold(t *testing.T) {
	r := &release{invoke: func(context.Context) (preflight.Answer, error) { return preflight.Answer{Failure: "Unhandled"}, nil }}
	for _, e := range []preflight.Event{{}, {DeploymentID: "d-1"}, {ExecutionID: "e-1"}} {
		if err := r.open(t).Handle(t.Context(), e); err == nil || r.invoked+len(r.told) != 0 {
			t.Errorf("%+v: %v after %d calls", e, err, r.invoked)
		}
	}
	r.deaf = errors.New("deaf")
	if err := r.open(t).Handle(t.Context(), event); !errors.Is(err, r.deaf) {
		t.Errorf("%v", err)
	}
}
