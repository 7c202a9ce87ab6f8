package chaos

import "github.com/waybillhq/waybill/functions/wiring"

// bug is a deliberate one.
type bug struct {
	name  string
	plant func(e *environment, p *wiring.Parts)
}
