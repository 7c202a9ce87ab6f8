package limitertest_test

import (
	"testing"

	"github.com/waybillhq/waybill/shared/limiter"
	"github.com/waybillhq/waybill/shared/limiter/limitertest"
)

func TestMemory(t *testing.T) {
	limitertest.Run(t, func(*testing.T) limiter.Store { return &limitertest.Memory{} })
}
