package registry

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// MaxURL bounds a URL in bytes.
const MaxURL = 2048

const urlExample = `write it as in "https://example.com/hooks"`

// url checks an endpoint. Addresses in forbidden ranges are left to the guard that sees the address really connected to.
// Messages never repeat the URL: it may hold a credential.
func (r *reader) url(path string, n *jsontree.Node) string {
	text, ok := r.text(path, n)
	if !ok {
		return ""
	}
	fail := func(message, fix string) { r.fail(n.Offset, path, message, fix) }
	switch {
	case text == "":
		fail("is empty", urlExample)
		return ""
	case len(text) > MaxURL:
		fail(fmt.Sprintf("has %d bytes", len(text)), fmt.Sprintf("use at most %d", MaxURL))
		return ""
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' }):
		fail("holds a blank, a backslash, a control character or one outside ASCII",
			"percent-encode it, and write international host names as xn--…")
		return ""
	}
	u, err := url.Parse(text)
	if err != nil {
		fail("is not a URL", urlExample)
		return ""
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		fail("is not an absolute http or https URL", urlExample)
		return ""
	}
	r.checkURL(u, text, fail)
	return text
}

func (r *reader) checkURL(u *url.URL, text string, fail func(message, fix string)) {
	if u.User != nil {
		fail("holds a user name or password", "send an authorization header instead")
	}
	if strings.Contains(text, "#") {
		fail("holds a fragment, which is never sent", "remove everything from the # on")
	}
	if !validPort(u) {
		fail("the port is not a number from 1 to 65535", "correct the port, or leave it out with its colon")
	}
	host := u.Hostname()
	if host == "" {
		fail("names no host", urlExample)
		return
	}
	if message, fix := checkHost(host); message != "" {
		fail(message, fix)
		return
	}
	if u.Scheme == "http" && !isLoopback(host) && !r.options.PlainHTTP {
		fail("is not encrypted", "use https; http is for loopback hosts only")
	}
}

func validPort(u *url.URL) bool {
	if strings.HasSuffix(u.Host, ":") {
		return false
	}
	if u.Port() == "" {
		return true
	}
	port, err := strconv.Atoi(u.Port())
	return err == nil && port >= 1 && port <= 65535
}

func checkHost(host string) (message, fix string) {
	if address, err := netip.ParseAddr(host); err == nil {
		if address.Zone() != "" {
			return "the address has a zone", "remove the % and what follows"
		}
		return "", ""
	}
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !validLabel(label) {
			return "the host is not a host name", "use labels of letters, digits and hyphens, separated by dots"
		}
	}
	if len(name) > 253 {
		return "the host name has more than 253 characters", "use a shorter name"
	}
	if last := labels[len(labels)-1]; numeric(last) {
		return "the host is an address in a form that resolvers read differently", "write all four decimal parts, as in 192.0.2.1"
	}
	return "", ""
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(label, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
}

// numeric reports whether resolvers may take the last label, and so the whole host, for an IPv4 address.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func isLoopback(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().IsLoopback()
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
