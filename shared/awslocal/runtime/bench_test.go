//go:build unix

package runtimeapi_test

import (
	"context"
	"testing"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
	runtimeapi "github.com/waybillhq/waybill/shared/awslocal/runtime"
)

// BenchmarkColdStart is from the start of a process to its first question for an invocation, and its end.
func BenchmarkColdStart(b *testing.B) {
	p := program(b, runtimeapi.Options{})
	for b.Loop() {
		if err := p.Probe(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInvoke compares the ways to run a function: in a process that is frozen in between, in one that is not, and in this program.
func BenchmarkInvoke(b *testing.B) {
	run := func(b *testing.B, f *mapping.Function) {
		payload := event{Do: "echo", Text: "hi"}.payload()
		if _, err := f.Invoke(b.Context(), payload); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := f.Invoke(b.Context(), payload); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("frozen", func(b *testing.B) { run(b, function(b, program(b, runtimeapi.Options{}), mapping.FunctionConfig{})) })
	b.Run("thawed", func(b *testing.B) {
		run(b, function(b, program(b, runtimeapi.Options{Thawed: true}), mapping.FunctionConfig{}))
	})
	b.Run("in process", func(b *testing.B) {
		f, err := mapping.NewFunction(mapping.FunctionConfig{Name: "tester", Handler: echo{}})
		if err != nil {
			b.Fatal(err)
		}
		run(b, f)
	})
}

type echo struct{}

func (echo) Invoke(_ context.Context, payload []byte) ([]byte, error) { return payload, nil }
