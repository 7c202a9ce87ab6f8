package breakertest_test

import (
	"testing"

	"github.com/waybillhq/waybill/shared/breaker/breakertest"
)

func TestMemory(t *testing.T) {
	breakertest.Run(t, func(*testing.T) breakertest.Harness { return breakertest.NewMemory().Harness() })
}
