package program_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	fileShown    = regexp.MustCompile("(?s)```json\n(.*?)```")
	sessionShown = regexp.MustCompile("(?s)```console\n(.*?)```")
	word         = regexp.MustCompile(`"[^"]*"|\S+`)
)

// TestReadmeIsTrue plays what the README shows, a command a minute, and compares every line.
func TestReadmeIsTrue(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	files := map[string]string{"destinations.json": string(fileShown.FindSubmatch(text)[1]), "none.json": document()}
	for name, content := range files {
		if err := os.WriteFile(filepath.Clean(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var shown strings.Builder
	for _, block := range sessionShown.FindAllSubmatch(text, -1) {
		shown.Write(block[1])
	}
	inAccount(t, func(a *account) {
		a.arn("/waybill/orders-crm", secret)
		dial, trusted, closeIt := secureReceiver(a.t, "crm.example.com", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer closeIt()
		a.env.Dial, a.env.TLS = told(dial), trusted
		var played strings.Builder
		commands := 0
		for line := range strings.Lines(shown.String()) {
			command, ok := strings.CutPrefix(line, "$ destinations ")
			if !ok {
				continue
			}
			commands++
			played.WriteString(line)
			a.play(command, &played)
			time.Sleep(time.Minute)
		}
		mask := func(s string) string { return pingID.ReplaceAllString(s, "ping-…") }
		if commands < 9 || mask(played.String()) != mask(shown.String()) {
			t.Errorf("%d commands give\n%s", commands, played.String())
		}
	})
}

// play runs a command as a shell does whose user says yes.
func (a *account) play(command string, screen *strings.Builder) {
	a.t.Helper()
	command, status := strings.CutSuffix(strings.TrimSpace(command), "; echo $?")
	command, file, redirected := strings.Cut(command, " > ")
	args := word.FindAllString(command, -1)
	for i := range args {
		args[i] = strings.Trim(args[i], `"`)
	}
	a.stdin = strings.NewReader("yes\n")
	r := a.do(args...)
	if redirected {
		if err := os.WriteFile(filepath.Clean(file), []byte(r.stdout), 0o600); err != nil {
			a.t.Fatal(err)
		}
		r.stdout = ""
	}
	screen.WriteString(strings.Replace(r.stdout, "Only yes will do: ", "Only yes will do: yes\n", 1) + r.stderr)
	if status {
		screen.WriteString(strconv.Itoa(r.status) + "\n")
	}
}

// told makes of a way to connect one that is as slow as the internet, and tells of it as package net does.
func told(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		trace, _, connected := httptrace.ContextClientTrace(ctx), address, "203.0.113.10:443"
		trace.DNSStart(httptrace.DNSStartInfo{Host: "crm.example.com"})
		time.Sleep(12 * time.Millisecond)
		trace.DNSDone(httptrace.DNSDoneInfo{Addrs: []net.IPAddr{{IP: net.IPv4(203, 0, 113, 10)}}})
		trace.ConnectStart(network, connected)
		time.Sleep(20 * time.Millisecond)
		trace.ConnectDone(network, connected, nil)
		return dial(ctx, network, address)
	}
}
