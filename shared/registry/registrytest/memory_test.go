package registrytest_test

import (
	"testing"

	"github.com/waybillhq/waybill/shared/registry/registrytest"
)

func TestMemory(t *testing.T) {
	registrytest.Run(t, func(*testing.T) registrytest.Harness { return registrytest.NewMemory().Harness() })
}
