package raftwire

import (
	"log/slog"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/slogger"
)

// NewSlogLogger returns an hclog.Logger that writes to logger, for the Logger
// of a [NetworkTransportConfig], a layers.MuxConfig or a layers.TLSConfig; nil means
// what slog.Default returns now.
//
//   - Levels are those of slog; hclog.Trace is slog.LevelDebug-4. A line that
//     the handler of logger does not take costs a call of its Enabled, and no
//     allocation.
//   - Named adds an attribute "logger" with the names so far, joined by dots. A
//     group would give the same key another path in each part of a program.
//   - With adds attributes; a key that was there already gets the new value.
//   - SetLevel sets a threshold before that of the handler, for every logger that
//     is derived from the same NewSlogLogger; hclog.NoLevel takes it away.
//   - Values of hclog.Format, Hex, Octal and Binary become text; that of
//     hclog.Quote stays as it is, for handlers quote what needs it.
//   - Records carry the place of the call, for handlers that show it.
func NewSlogLogger(logger *slog.Logger) hclog.Logger { return slogger.New(logger) }
