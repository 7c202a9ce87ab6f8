package mapping_test

import (
	"context"
	"testing"

	"github.com/waybillhq/waybill/shared/awslocal/mapping"
)

// reusing answers every invocation from the same buffer, as aws-lambda-go's handlers do.
type reusing struct{ buffer []byte }

func (r *reusing) Invoke(_ context.Context, payload []byte) ([]byte, error) {
	r.buffer = append(r.buffer[:0], payload...)
	return r.buffer, nil
}

func TestAnswersOutliveTheHandlersBuffer(t *testing.T) {
	f, err := mapping.NewFunction(mapping.FunctionConfig{Name: "f", Handler: &reusing{}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := f.Invoke(t.Context(), []byte(`"first"`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Invoke(t.Context(), []byte(`"other"`)); err != nil {
		t.Fatal(err)
	}
	if string(first) != `"first"` {
		t.Errorf("the first answer has become %s", first)
	}
}
