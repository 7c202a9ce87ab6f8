package batch

import (
	"context"
	"log/slog"
	"strings"

	"github.com/waybillhq/waybill/shared/outcome"
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
			slog.String("message_id", cut(it.record.MessageID)),
			slog.Int("receive_count", it.record.ReceiveCount),
			slog.String("outcome", it.verdict.Kind.String()),
		}
		if it.verdict.Reason != "" {
			attrs = append(attrs, slog.String("reason", cut(it.verdict.Reason)))
		}
		if it.fate == again || it.fate == back {
			attrs = append(attrs, slog.Duration("visible_after", it.after))
		}
		if it.err != nil {
			attrs = append(attrs, slog.String("error", text(it.err)))
		}
		if it.behind != "" {
			attrs = append(attrs, slog.String("behind", cut(it.behind)))
		}
		if it.mishap != nil {
			attrs = append(attrs, slog.String("mishap", text(it.mishap)))
		}
		if p, ok := asPanic(it.err); ok {
			attrs = append(attrs, slog.String("stack", p.stack[:min(len(p.stack), maxStackBytes)]))
		}
		h.cfg.Logger.LogAttrs(ctx, level(it), "record "+it.fate.String(), attrs...)
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
