// Package slogger makes an hclog.Logger that writes to a slog.Logger.
package slogger

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// New returns an hclog.Logger over logger; nil means what slog.Default returns
// now. What it does is said where users see it, at raftwire.NewSlogLogger.
func New(logger *slog.Logger) hclog.Logger {
	if logger == nil {
		logger = slog.Default()
	}
	return &slogLogger{root: logger.Handler(), handler: logger.Handler(), threshold: new(atomic.Int32)}
}

// slogLogger is an hclog.Logger over a slog.Handler. It is never changed but
// for its threshold, which it shares with its relatives.
type slogLogger struct {
	root    slog.Handler // without name and implied
	name    string
	implied []any        // keys, which are strings, and values
	handler slog.Handler // root with both

	threshold *atomic.Int32 // an hclog.Level; NoLevel leaves the choice to the handler
}

// slogName is the key of a logger's name.
const slogName = "logger"

// severityOf returns the level of slog, which has them 4 apart: Debug is -4, Info is 0.
func severityOf(level hclog.Level) slog.Level { return slog.LevelInfo + 4*slog.Level(level-hclog.Info) }

func (l *slogLogger) Log(level hclog.Level, msg string, args ...any) { l.log(level, msg, args) }
func (l *slogLogger) Trace(msg string, args ...any)                  { l.log(hclog.Trace, msg, args) }
func (l *slogLogger) Debug(msg string, args ...any)                  { l.log(hclog.Debug, msg, args) }
func (l *slogLogger) Info(msg string, args ...any)                   { l.log(hclog.Info, msg, args) }
func (l *slogLogger) Warn(msg string, args ...any)                   { l.log(hclog.Warn, msg, args) }
func (l *slogLogger) Error(msg string, args ...any)                  { l.log(hclog.Error, msg, args) }

// log must be called by an exported method itself: whoever logs is three frames up.
func (l *slogLogger) log(level hclog.Level, msg string, args []any) {
	if !l.enabled(level) {
		return
	}
	var caller [1]uintptr
	runtime.Callers(3, caller[:]) // past runtime.Callers, log, and Info or another
	l.write(level, msg, args, caller[0])
}

// write writes a line from a caller, 0 if that is not known.
func (l *slogLogger) write(level hclog.Level, msg string, args []any, caller uintptr) {
	record := slog.NewRecord(time.Now(), severityOf(level), msg, caller)
	record.AddAttrs(slogAttrs(args)...)
	_ = l.handler.Handle(context.Background(), record) // there is nowhere to report it
}

// enabled reports whether a line is written. At hclog.NoLevel and hclog.Off none is.
func (l *slogLogger) enabled(level hclog.Level) bool {
	least := max(hclog.Trace, hclog.Level(l.threshold.Load()))
	return least <= level && level < hclog.Off && l.handler.Enabled(context.Background(), severityOf(level))
}

func (l *slogLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *slogLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *slogLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *slogLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *slogLogger) IsError() bool { return l.enabled(hclog.Error) }

func (l *slogLogger) SetLevel(level hclog.Level) { l.threshold.Store(int32(level)) }

// GetLevel returns the lowest level that is written.
func (l *slogLogger) GetLevel() hclog.Level {
	for level := hclog.Trace; level < hclog.Off; level++ {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

func (l *slogLogger) Name() string       { return l.name }
func (l *slogLogger) ImpliedArgs() []any { return slices.Clone(l.implied) }

func (l *slogLogger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

func (l *slogLogger) ResetNamed(name string) hclog.Logger { return l.derive(name, l.implied) }

func (l *slogLogger) With(args ...any) hclog.Logger {
	return l.derive(l.name, merge(slices.Clone(l.implied), args))
}

func (l *slogLogger) derive(name string, implied []any) hclog.Logger {
	handler := l.root
	if name != "" {
		handler = handler.WithAttrs([]slog.Attr{slog.String(slogName, name)})
	}
	if len(implied) > 0 {
		handler = handler.WithAttrs(slogAttrs(implied))
	}
	return &slogLogger{root: l.root, name: name, implied: implied, handler: handler, threshold: l.threshold}
}

// merge sets the pairs of args in implied.
func merge(implied, args []any) []any {
	for ; len(args) > 0; args = args[min(2, len(args)):] {
		key, value := firstPair(args)
		if i := indexOfKey(implied, key); i >= 0 {
			implied[i+1] = value
		} else {
			implied = append(implied, key, value)
		}
	}
	return implied
}

func indexOfKey(pairs []any, key string) int {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == key {
			return i
		}
	}
	return -1
}

// firstPair returns the key and the value that args begin with. A value that is
// alone gets a key that says so.
func firstPair(args []any) (key string, value any) {
	if len(args) == 1 {
		if _, ok := args[0].(hclog.CapturedStacktrace); ok {
			return "stacktrace", args[0]
		}
		return hclog.MissingKey, args[0]
	}
	if key, ok := args[0].(string); ok {
		return key, args[1]
	}
	return fmt.Sprint(args[0]), args[1]
}

func slogAttrs(args []any) []slog.Attr {
	attrs := make([]slog.Attr, 0, (len(args)+1)/2)
	for ; len(args) > 0; args = args[min(2, len(args)):] {
		key, value := firstPair(args)
		attrs = append(attrs, slog.Attr{Key: key, Value: slogValue(value)})
	}
	return attrs
}

// slogValue returns what slog shows for a value, as hclog would show it.
func slogValue(value any) slog.Value {
	switch v := value.(type) {
	case hclog.Format:
		return slog.StringValue(formatted(v))
	case hclog.Hex:
		return slog.StringValue(fmt.Sprintf("%#x", uint64(v)))
	case hclog.Octal:
		return slog.StringValue(fmt.Sprintf("0%o", uint64(v)))
	case hclog.Binary:
		return slog.StringValue(fmt.Sprintf("%#b", uint64(v)))
	case hclog.Quote:
		return slog.StringValue(string(v))
	case hclog.CapturedStacktrace:
		return slog.StringValue(string(v))
	}
	return slog.AnyValue(value)
}

func formatted(f hclog.Format) string {
	if len(f) > 0 {
		if format, ok := f[0].(string); ok {
			return fmt.Sprintf(format, f[1:]...)
		}
	}
	return fmt.Sprint(f...)
}

func (l *slogLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *slogLogger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	if opts == nil {
		opts = new(hclog.StandardLoggerOptions)
	}
	return &slogWriter{l, *opts}
}

// slogWriter makes a line of each Write, as a log.Logger calls it.
type slogWriter struct {
	logger *slogLogger
	opts   hclog.StandardLoggerOptions
}

func (w *slogWriter) Write(data []byte) (int, error) {
	if level, text := w.split(strings.TrimRight(string(data), " \t\r\n")); w.logger.enabled(level) {
		w.logger.write(level, text, nil, 0)
	}
	return len(data), nil
}

// split returns the level of a line and what is left of it.
func (w *slogWriter) split(line string) (hclog.Level, string) {
	switch {
	case w.opts.ForceLevel != hclog.NoLevel:
		_, text := cutLevel(line)
		return w.opts.ForceLevel, text
	case !w.opts.InferLevels:
		return hclog.Info, line
	case w.opts.InferLevelsWithTimestamp:
		line = cutTimestamp(line)
	}
	return cutLevel(line)
}

// cutTimestamp cuts off what may be a time before a level.
func cutTimestamp(line string) string {
	rest := strings.TrimLeft(line, "0123456789 \t:/.,+-TZ")
	if strings.HasPrefix(rest, "[") {
		return rest
	}
	return line
}

// cutLevel cuts off a level in brackets; without one the level is Info.
func cutLevel(line string) (hclog.Level, string) {
	name, text, found := strings.Cut(strings.TrimPrefix(line, "["), "]")
	if !found || !strings.HasPrefix(line, "[") {
		return hclog.Info, line
	}
	level := hclog.LevelFromString(name)
	if name == "ERR" {
		level = hclog.Error
	}
	if level == hclog.NoLevel || level == hclog.Off || name != strings.ToUpper(name) {
		return hclog.Info, line
	}
	return level, strings.TrimSpace(text)
}
