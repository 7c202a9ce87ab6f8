package batch

import (
	"context"
	"log/slog"
	"strings"

	"github.com/waybillhq/waybill/shared/outcome"
	"github.com/waybillhq/waybill/shared/telemetry"
)

// Bounds of what a log line takes from outside.
const (
	maxTextBytes  = 512
	maxStackBytes = 4096
)

// log writes one line for each record that was not simply acknowledged.
func (h *Handler) log(ctx context.Context, items []*item) {
	for _, it := range items {
		if it.fate == acknowledged {
			continue
		}
		attrs := []slog.Attr{
			telemetry.Text(telemetry.KeyMessageID, it.record.MessageID),
			slog.Int(telemetry.KeyReceiveCount, it.record.ReceiveCount),
			slog.String(telemetry.KeyOutcome, it.verdict.Kind.String()),
		}
		if id := it.record.Note.EventID; id != "" {
			attrs = append(attrs, telemetry.Text(telemetry.KeyOriginalID, id))
		}
		if it.verdict.Reason != "" {
			attrs = append(attrs, telemetry.Text(telemetry.KeyReason, it.verdict.Reason))
		}
		if it.fate == again || it.fate == back {
			attrs = append(attrs, telemetry.Wait(it.after))
		}
		if it.err != nil {
			attrs = append(attrs, slog.String(telemetry.KeyError, text(it.err)))
		}
		if it.behind != "" {
			attrs = append(attrs, telemetry.Text(telemetry.KeyBehind, it.behind))
		}
		if it.mishap != nil {
			attrs = append(attrs, slog.String(telemetry.KeyMishap, text(it.mishap)))
		}
		if p, ok := asPanic(it.err); ok {
			attrs = append(attrs, slog.String(telemetry.KeyStack, p.stack[:min(len(p.stack), maxStackBytes)]))
		}
		h.cfg.Logger.LogAttrs(ctx, level(it), "record "+it.fate.String(), attrs...)
	}
}

// count adds what became of a batch to its metrics.
func count(b *telemetry.Batch, items []*item) {
	b.Count(telemetry.Records, len(items))
	for _, it := range items {
		switch it.fate {
		case again:
			b.Count(telemetry.SentAgain, 1)
		case dead:
			b.Count(telemetry.Rejected, 1)
		case back:
			b.Count(telemetry.Returned, 1)
		}
		if it.verdict.Kind == outcome.Deferred {
			b.Count(telemetry.Deferred, 1)
		}
		if _, panicked := asPanic(it.err); panicked {
			b.Count(telemetry.Panics, 1)
		}
		if it.mishap != nil {
			b.Count(telemetry.SendFailures, 1)
		}
	}
}

func level(it *item) slog.Level {
	switch _, panicked := asPanic(it.err); {
	case it.verdict.Kind == outcome.Rejected, it.mishap != nil, panicked:
		return slog.LevelError
	case it.verdict.Kind == outcome.Deferred:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// text is a bounded rendering of an error, even of one that panics when asked.
func text(err error) string {
	if err == nil {
		return ""
	}
	return bounded(err.Error)
}

func bounded(render func() string) (s string) {
	defer func() {
		if recover() != nil {
			s = "(an error that cannot be rendered)"
		}
	}()
	return cut(render())
}

func cut(s string) string {
	if len(s) > maxTextBytes {
		s = s[:maxTextBytes] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
