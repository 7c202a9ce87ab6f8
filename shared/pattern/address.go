package pattern

import (
	"net/netip"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

func compileCIDR(c *compiler, at place, argument *jsontree.Node, to *leaf) {
	if !c.string(at, argument) {
		return
	}
	block, err := netip.ParsePrefix(argument.Text)
	switch {
	case err != nil:
		c.fail(at.path, argument.Offset, "is not a block of addresses", `write it as "10.0.0.0/24" or "2001:db8::/32"`)
		return
	case block != block.Masked():
		c.fail(at.path, argument.Offset, "has bits set after its prefix", `write "`+block.Masked().String()+`"`)
		return
	}
	to.test(func(s scalar) bool {
		if s.kind != jsontree.String {
			return false
		}
		for _, address := range addresses(s.text) {
			if block.Contains(address) {
				return true
			}
		}
		return false
	}, key{kind: inBlock, block: block})
}

// addresses gives what a string stands for: no address, one, or an IPv4 address in both of its forms if it is written
// in the longer one.
func addresses(s string) []netip.Addr {
	address, err := netip.ParseAddr(s)
	switch {
	case err != nil || address.Zone() != "":
		return nil
	case address.Is4In6():
		return []netip.Addr{address, address.Unmap()}
	}
	return []netip.Addr{address}
}
