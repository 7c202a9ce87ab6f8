package tracing

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// connectTime bounds looking up the daemon's name. Lambda gives an address, which needs no look-up.
const connectTime = time.Second

// writeTime bounds one try to hand a packet to the system, which takes microseconds unless its buffers are full. It is long enough for a goroutine
// that has to wait for a processor in between.
const writeTime = 50 * time.Millisecond

// dial connects to a daemon at "host:port" or, as the SDKs also take it, "tcp:host:port udp:host:port". Nothing is sent.
func dial(address string) (net.Conn, error) {
	host := address
	if fields := strings.Fields(address); len(fields) == 2 {
		host = ""
		for _, f := range fields {
			if after, ok := strings.CutPrefix(f, "udp:"); ok {
				host = after
			}
		}
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return nil, fmt.Errorf(`tracing: daemon address %q: want "host:port" or "tcp:host:port udp:host:port"`, address)
	}
	conn, err := (&net.Dialer{Timeout: connectTime}).Dial("udp", host)
	if err != nil {
		return nil, fmt.Errorf("tracing: X-Ray daemon: %w", err)
	}
	return conn, nil
}

// write sends one datagram. An error may be the answer to an earlier one, a daemon that was away: a second try then gets through.
func write(conn net.Conn, packet []byte) error {
	err := try(conn, packet)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		err = try(conn, packet)
	}
	return err
}

func try(conn net.Conn, packet []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := conn.Write(packet)
	return err
}
