package topology_test

import (
	"testing"

	"github.com/waybillhq/waybill/shared/topology"
)

func TestOutput(t *testing.T) {
	for variable, want := range map[string]string{
		topology.IngressDeadLetter.URLVariable(): "QueueIngressDlqUrl",
		topology.Ledger.NameVariable():           "TableLedger",
		topology.Router.AliasVariable():          "FunctionRouter",
		topology.StageVariable:                   "Stage",
	} {
		if got := topology.Output(variable); got != want {
			t.Errorf("%s: %s, want %s", variable, got, want)
		}
	}
}
