package webhook_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/waybillhq/waybill/shared/downstream"
	"github.com/waybillhq/waybill/shared/downstream/webhook"
)

// The frame types and error codes of RFC 9113 that the tests need.
const (
	frameHeaders   = 0x1
	frameRSTStream = 0x3
	frameSettings  = 0x4
	frameGoAway    = 0x7

	codeProtocolError = 0x1
	codeInternalError = 0x2
	codeRefusedStream = 0x7
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	f := make([]byte, 9, 9+len(payload))
	binary.BigEndian.PutUint32(f, uint32(len(payload))<<8|uint32(kind))
	f[4] = flags
	binary.BigEndian.PutUint32(f[5:], stream)
	return append(f, payload...)
}

func words(values ...uint32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// refuse speaks just enough HTTP/2 to answer every request with one frame. It counts the requests.
func refuse(requests *atomic.Int64, answer func(stream uint32) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		if _, err := io.ReadFull(conn, preface); err != nil {
			return
		}
		_, _ = conn.Write(frame(frameSettings, 0, 0, nil))
		head := make([]byte, 9)
		for {
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head)>>8)); err != nil {
				return
			}
			switch head[3] {
			case frameSettings:
				if head[4]&1 == 0 {
					_, _ = conn.Write(frame(frameSettings, 1, 0, nil))
				}
			case frameHeaders:
				requests.Add(1)
				_, _ = conn.Write(answer(binary.BigEndian.Uint32(head[5:])))
			}
		}
	}
}

// The protocol would allow to repeat what was refused, and net/http does so up
// to seven times. One attempt stays one request.
func TestRefusedHTTP2StreamIsNotRepeated(t *testing.T) {
	reset := func(code uint32) func(uint32) []byte {
		return func(stream uint32) []byte { return frame(frameRSTStream, 0, stream, words(code)) }
	}
	certificate := newReceiver(t, func(s *httptest.Server) { s.StartTLS() }, nil).TLS.Certificates[0]
	for name, answer := range map[string]func(uint32) []byte{
		"refused stream": reset(codeRefusedStream),
		"protocol error": reset(codeProtocolError),
		"internal error": reset(codeInternalError),
		"goes away":      func(uint32) []byte { return frame(frameGoAway, 0, 0, words(0, 0)) },
	} {
		for _, data := range []string{"{}", ""} {
			t.Run(name+" "+data, func(t *testing.T) {
				var requests atomic.Int64
				serve := refuse(&requests, answer)
				address := rawServer(t, func(conn net.Conn) {
					secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
					serve(secure)
				})
				attempt := attemptTo(t, "https://"+address)
				attempt.Event.Data = []byte(data)
				a := webhook.New(webhook.Config{Dial: (&net.Dialer{}).DialContext, TLS: &tls.Config{InsecureSkipVerify: true}})
				result := deliver(t, a, attempt)
				a.CloseIdleConnections()
				if result.Verdict != downstream.Retry || result.Reason != downstream.ReasonReset || result.Detail == "" {
					t.Errorf("%+v", result)
				}
				if n := requests.Load(); n != 1 {
					t.Errorf("%d requests for one attempt", n)
				}
			})
		}
	}
}

func TestAbortedHTTP2HandlerIsAReset(t *testing.T) {
	r := newReceiver(t, http2, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	result := deliver(t, local(t, webhook.Config{TLS: r.trusting()}), attemptTo(t, r.URL))
	if result.Verdict != downstream.Retry || result.Reason != "connection-reset" || len(r.all()) != 1 {
		t.Errorf("%+v after %d requests", result, len(r.all()))
	}
}
