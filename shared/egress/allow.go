package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Loopback returns the ranges that local mode allows: 127.0.0.0/8 and ::1.
func Loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// ParseAllow reads the value of an allow-list setting: CIDR ranges, single
// addresses, or the word "loopback", separated by commas; space around them is
// ignored, an empty text allows nothing. The error names every entry that is
// wrong and what it should be; with an error there is no list.
func ParseAllow(text string) ([]netip.Prefix, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var allow []netip.Prefix
	var problems []error
	for entry := range strings.SplitSeq(text, ",") {
		prefixes, err := parseEntry(strings.TrimSpace(entry))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, prefix := range prefixes {
			if !slices.Contains(allow, prefix) {
				allow = append(allow, prefix)
			}
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return allow, nil
}

func parseEntry(entry string) ([]netip.Prefix, error) {
	if entry == "" {
		return nil, errors.New("egress allow-list: an entry is empty; remove the extra comma")
	}
	if entry == "loopback" {
		return Loopback(), nil
	}
	prefix, err := netip.ParsePrefix(entry)
	if err != nil {
		addr, addrErr := netip.ParseAddr(entry)
		if addrErr != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("egress allow-list: %q is neither a range such as 10.1.0.0/16, nor an address, nor the word loopback", entry)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("egress allow-list: %q is an IPv4-mapped form; write the IPv4 range", entry)
	}
	if prefix != prefix.Masked() {
		return nil, fmt.Errorf("egress allow-list: %q has bits set after its length; write %s or %s/%d",
			entry, prefix.Masked(), prefix.Addr(), prefix.Addr().BitLen())
	}
	return []netip.Prefix{prefix}, nil
}
