package program

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/waybillhq/waybill/shared/terminal"
)

// probe watches how a ping gets to its receiver. Its hooks are called by different goroutines, and some after the ping is over.
type probe struct {
	mu    sync.Mutex
	begun map[string]time.Time
	steps []string
}

func newProbe() *probe { return &probe{begun: map[string]time.Time{}} }

// watch gives a context under which a request tells the probe of its steps.
func (p *probe) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { p.begin("dns") },
		DNSDone: func(info httptrace.DNSDoneInfo) {
			if info.Err != nil {
				return // the answer says it
			}
			p.end("dns", "dns", addresses(info.Addrs))
		},
		ConnectStart: func(_, address string) { p.begin("connect " + address) },
		ConnectDone: func(_, address string, err error) {
			if err == nil {
				p.end("connect "+address, "connect", address)
			}
		},
		TLSHandshakeStart: func() { p.begin("tls") },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				p.end("tls", "tls", tlsText(state))
			}
		},
	})
}

func (p *probe) begin(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun[key] = time.Now()
}

func (p *probe) end(key, step, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, fmt.Sprintf("%-8s %s, %s", step, terminal.Escaped(text, mostLine), took(time.Since(p.begun[key]))))
}

// show prints the steps that succeeded, in their order.
func (p *probe) show(c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, step := range p.steps {
		c.say("%s", step)
	}
}

func addresses(all []net.IPAddr) string {
	const most = 8
	var texts []string
	for _, a := range all[:min(len(all), most)] {
		texts = append(texts, a.String())
	}
	if len(all) > most {
		texts = append(texts, fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(texts, ", ")
}

// tlsText says how a connection is secured, and until when the receiver's certificate is good.
func tlsText(state tls.ConnectionState) string {
	protocol := "HTTP/1.1"
	if state.NegotiatedProtocol == "h2" {
		protocol = "HTTP/2"
	}
	text := tls.VersionName(state.Version) + ", " + protocol
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		text += fmt.Sprintf(", certificate by %s until %s", terminal.Escaped(leaf.Issuer.String(), mostName), instant(leaf.NotAfter))
	}
	return text
}
