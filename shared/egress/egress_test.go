package egress_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"code.dny.dev/ssrf"

	"github.com/waybillhq/waybill/shared/egress"
)

// answers is a resolver that gives the next answer at each question and the last one for ever.
type answers struct {
	mu    sync.Mutex
	list  [][]string
	asked []string
}

func (a *answers) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, network+" "+host)
	var addrs []netip.Addr
	for _, text := range a.list[0] {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	if len(a.list) > 1 {
		a.list = a.list[1:]
	}
	return addrs, nil
}

// dialled records what a guard connects to; each gives the behaviour of an address.
type dialled struct {
	mu        sync.Mutex
	addresses []string
	each      map[string]func(ctx context.Context) (net.Conn, error)
}

func (d *dialled) dial(ctx context.Context, _, address string) (net.Conn, error) {
	d.mu.Lock()
	d.addresses = append(d.addresses, address)
	behave := d.each[address]
	d.mu.Unlock()
	if behave != nil {
		return behave(ctx)
	}
	return &conn{address: address}, nil
}

func (d *dialled) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.addresses)
}

type conn struct {
	net.Conn
	address string
	mu      sync.Mutex
	closed  bool
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func guard(allow []netip.Prefix, list ...[]string) (*egress.Guard, *answers, *dialled) {
	resolver, dialler := &answers{list: list}, &dialled{each: map[string]func(context.Context) (net.Conn, error){}}
	g := egress.NewGuard(allow)
	g.Resolver, g.Dial = resolver, dialler.dial
	return g, resolver, dialler
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// Each range with its first and last address, and the neighbours outside it
// that must stay reachable.
var ranges = []struct {
	name          string
	first, last   string
	before, after string // empty: the neighbour is forbidden too
}{
	{"this network", "0.0.0.0", "0.255.255.255", "", "1.0.0.0"},
	{"RFC 1918 10/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"},
	{"carrier-grade NAT", "100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"},
	{"loopback", "127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"},
	{"link-local", "169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"},
	{"instance metadata", "169.254.169.254", "169.254.169.254", "", ""},
	{"container credentials", "169.254.170.2", "169.254.170.2", "", ""},
	{"RFC 1918 172.16/12", "172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"},
	{"IETF assignments", "192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"},
	{"documentation 1", "192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"},
	{"6to4 relays", "192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"},
	{"RFC 1918 192.168/16", "192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"},
	{"benchmarking", "198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"},
	{"documentation 2", "198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"},
	{"documentation 3", "203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"},
	{"multicast", "224.0.0.0", "239.255.255.255", "223.255.255.255", ""},
	{"reserved", "240.0.0.0", "255.255.255.254", "", ""},
	{"broadcast", "255.255.255.255", "255.255.255.255", "", ""},

	{"unspecified", "::", "::", "", ""},
	{"IPv6 loopback", "::1", "::1", "", ""},
	{"IPv4-compatible", "::0.0.0.2", "::255.255.255.255", "", ""},
	{"IPv4-mapped private", "::ffff:10.0.0.1", "::ffff:10.0.0.1", "", ""},
	{"IPv4-mapped public", "::ffff:0.0.0.0", "::ffff:255.255.255.255", "", ""},
	{"IPv4-translated", "::ffff:0:1.1.1.1", "::ffff:0:1.1.1.1", "", ""},
	{"NAT64", "64:ff9b::", "64:ff9b::ffff:ffff", "", ""},
	{"local NAT64", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "", ""},
	{"discard", "100::", "100::ffff:ffff:ffff:ffff", "", ""},
	{"below global unicast", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "2000::"},
	{"Teredo", "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
	{"IPv6 benchmarking", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "", ""},
	{"ORCHIDv2", "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	{"IETF IPv6 assignments", "2001:1ff::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "", "2001:200::"},
	{"IPv6 documentation", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"},
	{"6to4", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"},
	{"newer IPv6 documentation", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"},
	{"above global unicast", "4000::", "4000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
	{"segment routing", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	{"unique local", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	{"AWS metadata over IPv6", "fd00:ec2::254", "fd00:ec2::254", "", ""},
	{"IPv6 link-local", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	{"site-local", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
	{"IPv6 multicast", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", ""},
}

func TestEveryForbiddenRangeToItsEdges(t *testing.T) {
	g := egress.NewGuard(nil)
	for _, r := range ranges {
		for _, text := range []string{r.first, r.last} {
			addr := netip.MustParseAddr(text)
			var blocked *egress.BlockedError
			if err := g.Check(addr); !errors.Is(err, egress.ErrBlocked) || !errors.As(err, &blocked) || blocked.Addr != addr || blocked.Rule == "" {
				t.Errorf("%s: Check(%s) = %v", r.name, text, err)
			}
		}
		for _, text := range []string{r.before, r.after} {
			if text == "" {
				continue
			}
			if err := g.Check(netip.MustParseAddr(text)); err != nil {
				t.Errorf("neighbour of %s: %v", r.name, err)
			}
		}
	}
}

func TestForbiddenAddressIsRefusedAsLiteralAndAsAnswerBeforeAnyDial(t *testing.T) {
	for _, r := range ranges {
		literal, _, dialler := guard(nil, nil)
		if _, err := literal.DialContext(t.Context(), "tcp", net.JoinHostPort(r.first, "443")); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s as literal: %v", r.name, err)
		}
		if netip.MustParseAddr(r.first).Is4In6() && r.name == "IPv4-mapped public" {
			continue
		}
		answer, _, answerDialler := guard(nil, []string{r.first})
		_, err := answer.DialContext(t.Context(), "tcp", "hooks.example:443")
		var blocked *egress.BlockedError
		if !errors.As(err, &blocked) || blocked.Host != "hooks.example" {
			t.Errorf("%s as answer: %v", r.name, err)
		}
		if n := len(dialler.list()) + len(answerDialler.list()); n != 0 {
			t.Errorf("%s: %d dials", r.name, n)
		}
	}
}

func TestAnswerWithOneForbiddenAddressIsRefusedWhole(t *testing.T) {
	for _, list := range [][]string{
		{"93.184.215.14", "10.0.0.1"},
		{"10.0.0.1", "93.184.215.14"},
		{"93.184.215.14", "2606:2800:21f::1", "::ffff:127.0.0.1"},
		{"1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4", "1.0.0.5", "1.0.0.6", "1.0.0.7", "1.0.0.8", "169.254.169.254"},
	} {
		g, _, dialler := guard(nil, list)
		if _, err := g.DialContext(t.Context(), "tcp", "mixed.example:443"); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%v: %v", list, err)
		}
		if got := dialler.list(); len(got) != 0 {
			t.Errorf("%v: dialled %v", list, got)
		}
	}
}

// A rebinding zone answers with a public address while it is checked and with
// a private one when it is connected to.
func TestRebindingCannotChangeTheAddressBetweenCheckAndDial(t *testing.T) {
	g, resolver, dialler := guard(nil, []string{"93.184.215.14"}, []string{"169.254.169.254"})
	c, err := g.DialContext(t.Context(), "tcp", "rebind.example:443")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.(*conn).address; got != "93.184.215.14:443" {
		t.Errorf("connected to %s", got)
	}
	if len(resolver.asked) != 1 {
		t.Errorf("resolved %d times: %v", len(resolver.asked), resolver.asked)
	}
	if _, err := g.DialContext(t.Context(), "tcp", "rebind.example:443"); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("second answer: %v", err)
	}
	if got := dialler.list(); len(got) != 1 {
		t.Errorf("dialled %v", got)
	}
}

func TestMappedAnswerIsDialledAsTheIPv4AddressThatWasChecked(t *testing.T) {
	g, _, _ := guard(nil, []string{"::ffff:93.184.215.14"})
	c, err := g.DialContext(t.Context(), "tcp", "a.example:80")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.(*conn).address; got != "93.184.215.14:80" {
		t.Errorf("connected to %s", got)
	}
}

func TestNetworkChoosesTheQuestion(t *testing.T) {
	for network, want := range map[string]string{"tcp": "ip a.example", "tcp4": "ip4 a.example", "tcp6": "ip6 a.example"} {
		g, resolver, _ := guard(nil, []string{"1.1.1.1"})
		if _, err := g.DialContext(t.Context(), network, "a.example:80"); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(resolver.asked, []string{want}) {
			t.Errorf("%s asks %v", network, resolver.asked)
		}
	}
}

func TestHostsThatAreNoHostsAreRefused(t *testing.T) {
	for _, address := range []string{"", ":80", "a.example", "a.example:", "a.example:http", "a.example:0", "a.example:65536", "a.example:-1", "::1:80", "[fe80::1%lo]:80", "[2606::1%eth0]:80", "[::ffff:1.1.1.1]:80"} {
		g, _, dialler := guard(prefixes("::/0", "0.0.0.0/0"), []string{"1.1.1.1"})
		if _, err := g.DialContext(t.Context(), "tcp", address); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%q: %v", address, err)
		}
		if got := dialler.list(); len(got) != 0 {
			t.Errorf("%q: dialled %v", address, got)
		}
	}
	g, _, _ := guard(nil, []string{"1.1.1.1"})
	for _, network := range []string{"udp", "unix", "ip", ""} {
		if _, err := g.DialContext(t.Context(), network, "a.example:80"); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("network %q: %v", network, err)
		}
	}
}

// Other spellings of 127.0.0.1 are names to this guard; whatever a resolver
// makes of them is checked.
func TestNumericTricksGoThroughTheCheck(t *testing.T) {
	for _, host := range []string{"2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost", "LOCALHOST."} {
		g, _, dialler := guard(nil, []string{"127.0.0.1"})
		if _, err := g.DialContext(t.Context(), "tcp", host+":80"); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s: %v", host, err)
		}
		if got := dialler.list(); len(got) != 0 {
			t.Errorf("%s: dialled %v", host, got)
		}
	}
}

func TestZonesAreNamedAsTheReason(t *testing.T) {
	for _, text := range []string{"fe80::1%eth0", "2606:4700::1111%eth0"} {
		if err := egress.NewGuard(prefixes("::/0")).Check(netip.MustParseAddr(text)); !errors.Is(err, egress.ErrBlocked) || !strings.Contains(err.Error(), "zone") {
			t.Errorf("Check(%s) = %v", text, err)
		}
	}
}

func TestAllowList(t *testing.T) {
	g, _, _ := guard(slices.Concat(egress.Loopback(), prefixes("10.1.2.3/16", "fd12::/16")), []string{"127.0.0.1", "::1"})
	for text, allowed := range map[string]bool{
		"127.0.0.1": true, "127.255.255.255": true, "::1": true, "10.1.0.0": true, "10.1.255.255": true, "fd12::1": true,
		"8.8.8.8": true, "10.0.255.255": false, "10.2.0.0": false, "fd13::1": false, "169.254.169.254": false, "::ffff:127.0.0.1": false,
	} {
		if err := g.Check(netip.MustParseAddr(text)); (err == nil) != allowed {
			t.Errorf("Check(%s) = %v", text, err)
		}
	}
	if _, err := g.DialContext(t.Context(), "tcp", "localhost:80"); err != nil {
		t.Errorf("localhost: %v", err)
	}
	if err := g.Check(netip.Addr{}); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("no address: %v", err)
	}
}

// The dialer that NewGuard installs refuses by itself, whoever calls it.
func TestSocketIsCheckedAgainWhenItConnects(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if c, err := egress.NewGuard(nil).Dial(t.Context(), "tcp", listener.Addr().String()); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("dial of loopback: %v, %v", c, err)
	}
	c, err := egress.NewGuard(egress.Loopback()).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if c.RemoteAddr().String() != listener.Addr().String() {
		t.Errorf("connected to %s", c.RemoteAddr())
	}
	c.Close()
}

func TestErrorsOfResolversStayWhatTheyAre(t *testing.T) {
	g := egress.NewGuard(nil)
	g.Resolver = failing{}
	var dns *net.DNSError
	if _, err := g.DialContext(t.Context(), "tcp", "a.example:80"); !errors.As(err, &dns) || errors.Is(err, egress.ErrBlocked) {
		t.Errorf("failing resolver: %v", err)
	}
	empty, _, _ := guard(nil, nil)
	if _, err := empty.DialContext(t.Context(), "tcp", "a.example:80"); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("empty answer: %v", err)
	}
}

type failing struct{}

func (failing) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
}

func hang(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func refuse(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }

func TestAddressesAreTriedInOrder(t *testing.T) {
	four := []string{"1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"}
	tests := []struct {
		name  string
		each  map[string]func(context.Context) (net.Conn, error)
		want  string        // address that wins
		after time.Duration // virtual time until it does
		dials int
	}{
		{"first answers", nil, "1.0.0.1:80", 0, 1},
		{"first refuses", map[string]func(context.Context) (net.Conn, error){"1.0.0.1:80": refuse}, "1.0.0.2:80", 0, 2},
		{"first hangs", map[string]func(context.Context) (net.Conn, error){"1.0.0.1:80": hang}, "1.0.0.2:80", 250 * time.Millisecond, 2},
		{"two hang", map[string]func(context.Context) (net.Conn, error){"1.0.0.1:80": hang, "1.0.0.2:80": hang}, "1.0.0.3:80", 500 * time.Millisecond, 3},
		{"hang then refuse", map[string]func(context.Context) (net.Conn, error){"1.0.0.1:80": hang, "1.0.0.2:80": refuse}, "1.0.0.3:80", 250 * time.Millisecond, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _, dialler := guard(nil, four)
				dialler.each = tt.each
				began := time.Now()
				c, err := g.DialContext(t.Context(), "tcp", "a.example:80")
				if err != nil {
					t.Fatal(err)
				}
				if got := c.(*conn).address; got != tt.want || time.Since(began) != tt.after {
					t.Errorf("%s after %s, want %s after %s", got, time.Since(began), tt.want, tt.after)
				}
				synctest.Wait()
				if got := dialler.list(); len(got) != tt.dials {
					t.Errorf("dialled %v", got)
				}
			})
		})
	}
}

func TestLateConnectionOfALostRaceIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &conn{}
		g, _, dialler := guard(nil, []string{"1.0.0.1", "1.0.0.2"})
		dialler.each["1.0.0.1:80"] = func(context.Context) (net.Conn, error) {
			time.Sleep(time.Second)
			return late, nil
		}
		if _, err := g.DialContext(t.Context(), "tcp", "a.example:80"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !late.isClosed() {
			t.Error("the connection that lost the race is still open")
		}
	})
}

func TestAllAddressesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, dialler := guard(nil, []string{"1.0.0.1", "1.0.0.2"})
		dialler.each["1.0.0.1:80"], dialler.each["1.0.0.2:80"] = refuse, refuse
		_, err := g.DialContext(t.Context(), "tcp", "a.example:80")
		if !errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, egress.ErrBlocked) {
			t.Errorf("error %v", err)
		}
	})
}

func TestContextEndsTheDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, dialler := guard(nil, []string{"1.0.0.1", "1.0.0.2"})
		// A dialer that ignores its context must not hold the caller up.
		stuck := func(context.Context) (net.Conn, error) {
			time.Sleep(time.Hour)
			return nil, errors.New("late")
		}
		dialler.each["1.0.0.1:80"], dialler.each["1.0.0.2:80"] = stuck, stuck
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_, err := g.DialContext(ctx, "tcp", "a.example:80")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		time.Sleep(2 * time.Hour) // until the stuck dials have ended
	})
}

func TestHugeAnswerIsTriedInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var many []string
		g, resolver, dialler := guard(nil, nil)
		for i := range 200 {
			address := fmt.Sprintf("1.0.0.%d", i+1)
			many = append(many, address)
			dialler.each[address+":80"] = refuse
		}
		resolver.list = [][]string{many}
		if _, err := g.DialContext(t.Context(), "tcp", "a.example:80"); err == nil {
			t.Fatal("connected")
		}
		if got := dialler.list(); len(got) != 8 {
			t.Errorf("dialled %d addresses", len(got))
		}
	})
}

func TestBlockedErrorNamesHostAddressAndRule(t *testing.T) {
	g, _, _ := guard(nil, []string{"10.0.0.5"})
	_, err := g.DialContext(t.Context(), "tcp", "intranet.example:443")
	for _, word := range []string{"intranet.example", "10.0.0.5", "10.0.0.0/8", "CIDR"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in %q", word, err)
		}
	}
}

func TestParseAllow(t *testing.T) {
	tests := []struct {
		text     string
		want     []netip.Prefix
		problems []string
	}{
		{text: ""},
		{text: "  "},
		{text: "127.0.0.0/8", want: prefixes("127.0.0.0/8")},
		{text: "loopback", want: egress.Loopback()},
		{text: " 10.1.0.0/16 , fd12::/16,192.168.1.7,::1", want: prefixes("10.1.0.0/16", "fd12::/16", "192.168.1.7/32", "::1/128")},
		{text: "loopback,127.0.0.0/8,::1", want: egress.Loopback()},
		{text: "10.0.0.1/8", problems: []string{`"10.0.0.1/8" has bits set after its length; write 10.0.0.0/8 or 10.0.0.1/32`}},
		{text: "10.0.0.0/33,host.example,,fe80::1%eth0,::ffff:10.0.0.0/104,1.1.1.1", problems: []string{`"10.0.0.0/33"`, `"host.example"`, "extra comma", `"fe80::1%eth0"`, "IPv4-mapped"}},
	}
	for _, tt := range tests {
		got, err := egress.ParseAllow(tt.text)
		if (err != nil) != (len(tt.problems) > 0) || !slices.Equal(got, tt.want) {
			t.Errorf("ParseAllow(%q) = %v, %v", tt.text, got, err)
			continue
		}
		for _, problem := range tt.problems {
			if !strings.Contains(err.Error(), problem) {
				t.Errorf("ParseAllow(%q): %q is not in %q", tt.text, problem, err)
			}
		}
	}
}

// FuzzCheck holds the guard against the guard of the library that the tables
// come from, and against what package netip knows about addresses.
func FuzzCheck(f *testing.F) {
	for _, r := range ranges {
		f.Add(netip.MustParseAddr(r.first).AsSlice())
		if r.after != "" {
			f.Add(netip.MustParseAddr(r.after).AsSlice())
		}
	}
	g := egress.NewGuard(nil)
	oracle := ssrf.New(ssrf.WithAnyPort())
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		err := g.Check(addr)
		if want := oracle.SafeAddr(addr); (err == nil) != (want == nil) {
			t.Errorf("Check(%s) = %v, the library says %v", addr, err, want)
		}
		plain := addr.Unmap()
		if err == nil && (!plain.IsGlobalUnicast() || plain.IsPrivate() || plain.IsLoopback() || plain.IsLinkLocalUnicast() || plain.IsMulticast() || plain.IsUnspecified()) {
			t.Errorf("Check(%s) allows an address that is not public", addr)
		}
	})
}

func FuzzParseAllow(f *testing.F) {
	for _, text := range []string{"", "loopback", "10.0.0.0/8,::1", "10.0.0.1/8", "::ffff:1.1.1.1/120", ",", "fe80::1%a/64", "::/0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := egress.ParseAllow(text)
		if err != nil && list != nil {
			t.Error("a list beside an error")
		}
		g := egress.NewGuard(list)
		for _, prefix := range list {
			if prefix != prefix.Masked() || g.Check(prefix.Addr()) != nil {
				t.Errorf("%s does not allow its own first address", prefix)
			}
		}
	})
}

// FuzzDialContext proves that no spelling of an address reaches a forbidden one.
func FuzzDialContext(f *testing.F) {
	for _, address := range []string{"127.0.0.1:80", "[::ffff:127.0.0.1]:80", "[::1]:80", "a.example:80", ":80", "[fe80::1%lo]:80", "127.1:80", "1.1.1.1:443"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		g, _, dialler := guard(nil, []string{"1.1.1.1"})
		_, err := g.DialContext(t.Context(), "tcp", address)
		for _, reached := range dialler.list() {
			to, parseErr := netip.ParseAddrPort(reached)
			if parseErr != nil || to.Port() == 0 || g.Check(to.Addr()) != nil {
				t.Errorf("%q dialled %q", address, reached)
			}
		}
		if err != nil && !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%q: %v", address, err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	g := egress.NewGuard(egress.Loopback())
	addr := netip.MustParseAddr("93.184.215.14")
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Check(addr); err != nil {
			b.Fatal(err)
		}
	}
}
