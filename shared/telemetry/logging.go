// Package telemetry sets up what a process says about itself: its log, its metric registry, its version and its status
// endpoints. The wiring of both planes calls it; packages below get a logger and a Registerer handed in and never import
// this one. It opens no listener.
package telemetry

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// LogOptions choose how much is logged and in which form.
type LogOptions struct {
	Level  slog.Level
	Format string // text or json
}

// Flags declares --log-level and --log-format.
func (o *LogOptions) Flags(fs *flag.FlagSet) {
	fs.TextVar(&o.Level, "log-level", slog.LevelInfo, "least severe `level` that is logged: debug, info, warn or error")
	o.Format = "text"
	fs.Func("log-format", "form of a log line: `text or json` (default text)", func(s string) error {
		if s != "text" && s != "json" {
			return fmt.Errorf("%q is neither text nor json", s)
		}
		o.Format = s
		return nil
	})
}

// NewLogger returns a logger that writes to w, which is stderr in a process. The component names the process in every
// record; so does, in the record's time, no zone but UTC.
func NewLogger(w io.Writer, o LogOptions, component string) *slog.Logger {
	options := &slog.HandlerOptions{Level: o.Level, ReplaceAttr: replaceAttr}
	var h slog.Handler = slog.NewTextHandler(w, options)
	if o.Format == "json" {
		h = slog.NewJSONHandler(w, options)
	}
	return slog.New(h).With("component", component)
}

func replaceAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch {
	case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	case a.Key == slog.LevelKey:
		a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
	}
	return a
}
