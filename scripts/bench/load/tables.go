package load

import (
	"bytes"
	"maps"
	"sync"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/topology"
)

// TableUse is what calls to one table have used.
type TableUse struct {
	Calls       int
	Write, Read float64 // capacity units
}

// tables counts calls by the table that they name, which the endpoint does not. It is safe for concurrent use.
type tables struct {
	mu   sync.Mutex
	used map[topology.TableName]TableUse
}

func (t *tables) observe(c awslocal.Call) {
	if c.Service != "dynamodb" {
		return
	}
	for _, name := range [...]topology.TableName{topology.Ledger, topology.Waiting, topology.Registry} {
		// A member's value or name in a request, or quoted within a statement.
		if !bytes.Contains(c.Request, []byte(`"`+string(name)+`"`)) && !bytes.Contains(c.Request, []byte(`\"`+string(name)+`\"`)) {
			continue
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.used == nil {
			t.used = map[topology.TableName]TableUse{}
		}
		u := t.used[name]
		t.used[name] = TableUse{u.Calls + 1, u.Write + c.Units.Write, u.Read + c.Units.Read}
		return
	}
}

// Tables tells what each table's calls have used so far.
func (r *Rig) Tables() map[topology.TableName]TableUse {
	r.tables.mu.Lock()
	defer r.tables.mu.Unlock()
	return maps.Clone(r.tables.used)
}
