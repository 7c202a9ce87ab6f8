package runtimeapi

import "bytes"

// MaxLineBytes is the length of a log line, as CloudWatch Logs has it. A longer one comes in pieces.
const MaxLineBytes = 256 << 10

// Line is a line that a process wrote, without its end.
type Line struct {
	Function      string
	EnvironmentID string
	RequestID     string // of the invocation at that time; empty: between two, or during init
	PID           int
	Stderr        bool
	Text          string
}

// lines cuts one output of a process into lines. It is used by one goroutine at a time.
type lines struct {
	program *Program
	process *process
	stderr  bool
	rest    []byte
}

// Write takes all of b.
func (l *lines) Write(b []byte) (int, error) {
	taken := len(b)
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		piece := b
		if end >= 0 {
			piece = b[:end]
		}
		piece = piece[:min(len(piece), MaxLineBytes-len(l.rest))]
		l.rest = append(l.rest, piece...)
		b = b[len(piece):]
		switch {
		case len(b) > 0 && b[0] == '\n':
			l.emit()
			b = b[1:]
		case len(l.rest) == MaxLineBytes:
			l.emit()
		}
	}
	return taken, nil
}

// flush gives out a last line that had no end. It is called when the process is gone.
func (l *lines) flush() {
	if len(l.rest) > 0 {
		l.emit()
	}
}

func (l *lines) emit() {
	text := string(l.rest)
	l.rest = l.rest[:0]
	p := l.process
	l.program.opts.Log(Line{
		Function: l.program.opts.Function, EnvironmentID: p.environmentID, RequestID: p.api.requestID(),
		PID: p.command.Process.Pid, Stderr: l.stderr, Text: text,
	})
}
