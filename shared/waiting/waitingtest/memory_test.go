package waitingtest_test

import (
	"testing"

	"github.com/waybillhq/waybill/shared/waiting/waitingtest"
)

func TestMemory(t *testing.T) {
	waitingtest.Run(t, func(*testing.T) waitingtest.Harness { return waitingtest.NewMemory().Harness() })
}

func TestMemoryInSmallPages(t *testing.T) {
	waitingtest.Run(t, func(*testing.T) waitingtest.Harness {
		m := waitingtest.NewMemory()
		m.PageRows = 7
		return m.Harness()
	})
}
