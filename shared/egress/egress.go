// Package egress keeps connections to destinations on the public internet.
//
// Whoever may name a destination may name any host, and DNS may answer with
// any address, a different one each time. So the guard stands where the
// connection is made: it resolves the name once, checks every address of the
// answer, and connects to an address it has checked, never to the name. An
// answer with one forbidden address is refused whole, because mixing a public
// and a private address is what rebinding attacks do and what honest zones do
// not.
//
// Forbidden is what the IANA special-purpose registries set aside: private,
// loopback (Lambda's runtime API listens there), link-local (instance and
// container credentials), carrier-grade NAT, unique local, multicast,
// documentation, benchmarking, reserved, and every form that embeds an IPv4
// address in an IPv6 one (mapped, compatible, NAT64, 6to4, Teredo). Of IPv6
// only global unicast, 2000::/3, is left, less its special ranges.
//
// A Guard is safe for concurrent use.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// maxAddresses bounds how many addresses of one answer are connected to.
const maxAddresses = 8

// nextAddressAfter is how long one address may keep the next one waiting. RFC
// 8305 recommends 250 ms: less doubles connections to slow hosts, more lets one
// dead address eat the time of an attempt.
const nextAddressAfter = 250 * time.Millisecond

// ErrBlocked is what errors.Is finds in every refusal of a Guard. A refusal is
// final for as long as DNS and the allow-list stay as they are. It is not in
// the errors of DNS or of the network, which may pass.
var ErrBlocked = errors.New("address not allowed")

// BlockedError says what a Guard refused and by which rule.
type BlockedError struct {
	Host string     // as the caller named it
	Addr netip.Addr // the forbidden address; not valid if the host itself is refused
	Rule string     // the range that contains Addr, or what is wrong with the host
}

func (e *BlockedError) Error() string {
	if !e.Addr.IsValid() {
		return fmt.Sprintf("egress: %q refused: %s", e.Host, e.Rule)
	}
	if e.Host == e.Addr.String() {
		return fmt.Sprintf("egress: %s refused: %s; if it is meant, allow it by CIDR", e.Addr, e.Rule)
	}
	return fmt.Sprintf("egress: %q refused: it resolves to %s, %s; if it is meant, allow it by CIDR", e.Host, e.Addr, e.Rule)
}

// Is makes errors.Is(err, ErrBlocked) true.
func (e *BlockedError) Is(target error) bool { return target == ErrBlocked }

// Resolver finds the addresses of a host. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Guard connects to public addresses and to those of its allow-list. Make one
// with NewGuard; its fields may be changed before the first use, not after.
type Guard struct {
	// Resolver answers for names; net.DefaultResolver from NewGuard.
	Resolver Resolver
	// Dial connects to an address that has been checked, always an IP literal
	// with a port. NewGuard gives a net.Dialer that checks the address once
	// more at the moment the socket connects.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	allow  []netip.Prefix
	deny   []netip.Prefix
	global netip.Prefix
}

// NewGuard returns a guard that allows, beyond the public internet, the given
// ranges; nil allows nothing more. Allowed ranges win over forbidden ones, except
// that IPv4-mapped literals and addresses with a zone are always refused.
// Prefixes are taken as ParseAllow returns them; one with host bits set counts
// as its network, one that is not valid matches nothing.
func NewGuard(allow []netip.Prefix) *Guard {
	g := &Guard{
		Resolver: net.DefaultResolver,
		deny:     slices.Concat(ssrf.IPv4DeniedPrefixes, ssrf.IPv6DeniedPrefixes),
		global:   ssrf.IPv6GlobalUnicast,
	}
	for _, prefix := range allow {
		g.allow = append(g.allow, prefix.Masked())
	}
	dialer := &net.Dialer{
		// One address at a time: the guard does the racing.
		FallbackDelay: -1,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			connected, err := netip.ParseAddrPort(address)
			if err != nil {
				return &BlockedError{Host: address, Rule: "not an IP address and port"}
			}
			return g.Check(connected.Addr())
		},
	}
	g.Dial = dialer.DialContext
	return g
}

// Check returns nil if addr may be connected to, else a *BlockedError. IPv6
// forms that embed IPv4 addresses are refused even if the embedded address is
// public, and so are addresses with a zone.
func (g *Guard) Check(addr netip.Addr) error {
	if rule := g.forbids(addr); rule != "" {
		return &BlockedError{Host: addr.String(), Addr: addr, Rule: rule}
	}
	return nil
}

// forbids returns the rule against addr, empty if there is none.
func (g *Guard) forbids(addr netip.Addr) string {
	if !addr.IsValid() {
		return "not an address"
	}
	if addr.Zone() != "" {
		return "an address with a zone"
	}
	// Before the allow-list: a wide IPv6 range there must not open all of IPv4.
	if addr.Is4In6() {
		return "an IPv4-mapped address"
	}
	contains := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(g.allow, contains) {
		return ""
	}
	if addr.Is6() && !g.global.Contains(addr) {
		return "outside the global unicast range " + g.global.String()
	}
	if i := slices.IndexFunc(g.deny, contains); i >= 0 {
		return "in the special-purpose range " + g.deny[i].String()
	}
	return ""
}

// DialContext connects to address, "host:port", over network "tcp", "tcp4" or
// "tcp6". It resolves the host once, refuses the whole answer if any address of
// it is forbidden, and then connects to the addresses in the order of the
// answer, at most eight, starting the next one when one fails or has kept it
// waiting for 250 ms. The first connection wins, the others are closed. It
// returns when ctx ends at the latest.
//
// A refusal is a *BlockedError, also ErrBlocked; everything else is an error of
// DNS (*net.DNSError) or of the network, those of several addresses joined.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	lookup, err := lookupNetwork(network)
	if err != nil {
		return nil, err
	}
	host, port, err := splitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := g.resolve(ctx, lookup, host)
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		if rule := g.forbids(addr); rule != "" {
			return nil, &BlockedError{Host: host, Addr: addr, Rule: rule}
		}
	}
	return g.dialFirst(ctx, network, addrs[:min(len(addrs), maxAddresses)], port)
}

// resolve returns at least one address, or an error.
func (g *Guard) resolve(ctx context.Context, lookup, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	addrs, err := g.Resolver.LookupNetIP(ctx, lookup, host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	// net.Resolver writes every A record as an IPv4-mapped address. Unmapped,
	// it is checked, and connected to, as the IPv4 address it is.
	plain := make([]netip.Addr, len(addrs))
	for i, addr := range addrs {
		plain[i] = addr.Unmap()
	}
	return plain, nil
}

// dialFirst races the addresses and returns the first connection.
func (g *Guard) dialFirst(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome, len(addrs))
	start := func(addr netip.Addr) {
		conn, err := g.Dial(ctx, network, netip.AddrPortFrom(addr, port).String())
		outcomes <- outcome{conn, err}
	}
	started, ended := 0, 0
	defer func() {
		// Whoever connects after the race must not leave a socket behind.
		go func(running int) {
			for range running {
				if late := <-outcomes; late.conn != nil {
					_ = late.conn.Close()
				}
			}
		}(started - ended)
	}()

	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for ended < len(addrs) {
		select {
		case <-next.C:
			if started < len(addrs) {
				go start(addrs[started])
				started++
				next.Reset(nextAddressAfter)
			}
		case o := <-outcomes:
			ended++
			if o.err == nil {
				return o.conn, nil
			}
			errs = append(errs, o.err)
			next.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(append(errs, context.Cause(ctx))...)
		}
	}
	return nil, errors.Join(errs...)
}

func lookupNetwork(network string) (string, error) {
	switch network {
	case "tcp":
		return "ip", nil
	case "tcp4":
		return "ip4", nil
	case "tcp6":
		return "ip6", nil
	default:
		return "", &BlockedError{Host: network, Rule: "not a TCP network; use tcp, tcp4 or tcp6"}
	}
}

func splitHostPort(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, &BlockedError{Host: address, Rule: "not host:port"}
	}
	// To package net an empty host means this machine.
	if host == "" {
		return "", 0, &BlockedError{Host: address, Rule: "no host"}
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return "", 0, &BlockedError{Host: address, Rule: "not a port number from 1 to 65535"}
	}
	return host, uint16(number), nil
}
