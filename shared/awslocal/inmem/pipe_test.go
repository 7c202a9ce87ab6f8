package inmem

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := newPipe("test")
		long := strings.Repeat("x", 3*pipeBytes)
		go func() {
			if n, err := client.Write([]byte(long)); n != len(long) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
		}()
		got, err := io.ReadAll(server)
		if err != nil || string(got) != long {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if _, err := server.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("write to a closed end: %v", err)
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := newPipe("test")
		start := time.Now()
		_ = client.SetDeadline(start.Add(5 * time.Second))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		_ = client.SetDeadline(start.Add(8 * time.Second))
		if n, err := client.Write(make([]byte, 2*pipeBytes)); n != pipeBytes || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 8*time.Second {
			t.Errorf("write: %d, %v after %v", n, err, time.Since(start))
		}
		go func() {
			time.Sleep(time.Second)
			_ = client.SetReadDeadline(time.Unix(1, 0)) // net/http does so to end a read
		}()
		_ = client.SetDeadline(time.Time{})
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 9*time.Second {
			t.Errorf("read cut short: %v after %v", err, time.Since(start))
		}
	})
}
