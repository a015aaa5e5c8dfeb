package slogger

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

type address string

const slogTrace = slog.LevelDebug - 4

// slogTo returns a logger that writes lines without the time, and what it has
// written since the last call.
func slogTo(level slog.Leveler) (logger hclog.Logger, written func() string) {
	var out bytes.Buffer
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	return New(slog.New(handler)), func() string {
		defer out.Reset()
		return out.String()
	}
}

var hclogLevels = map[hclog.Level]string{
	hclog.Trace: "DEBUG-4", hclog.Debug: "DEBUG", hclog.Info: "INFO", hclog.Warn: "WARN", hclog.Error: "ERROR",
}

func TestSlogger_WritesEachLevel(t *testing.T) {
	logger, written := slogTo(slogTrace)
	for level, method := range map[hclog.Level]func(string, ...any){
		hclog.Trace: logger.Trace, hclog.Debug: logger.Debug, hclog.Info: logger.Info, hclog.Warn: logger.Warn, hclog.Error: logger.Error,
	} {
		want := "level=" + hclogLevels[level] + " msg=\"one line\" key=1\n"
		method("one line", "key", 1)
		require.Equal(t, want, written())
		logger.Log(level, "one line", "key", 1)
		require.Equal(t, want, written())
	}
	logger.Log(hclog.NoLevel, "nothing")
	logger.Log(hclog.Off, "nothing")
	require.Empty(t, written())
}

// The handler's level counts, also when it changes, and so does that of
// SetLevel, for the whole family of loggers.
func TestSlogger_KeepsTheLevel(t *testing.T) {
	var handlers slog.LevelVar
	parent, written := slogTo(&handlers)
	child := parent.Named("child").With("a", 1)
	check := func(want hclog.Level) {
		t.Helper()
		for _, logger := range []hclog.Logger{parent, child} {
			require.Equal(t, want, logger.GetLevel())
			require.Equal(t, [5]bool{want <= hclog.Trace, want <= hclog.Debug, want <= hclog.Info, want <= hclog.Warn, want <= hclog.Error},
				[5]bool{logger.IsTrace(), logger.IsDebug(), logger.IsInfo(), logger.IsWarn(), logger.IsError()})
			for level, name := range hclogLevels {
				logger.Log(level, "line")
				require.Equal(t, level >= want, strings.Contains(written(), "level="+name+" "), "%v, written from %v on", level, want)
			}
		}
	}
	check(hclog.Info)
	handlers.Set(slogTrace)
	check(hclog.Trace)
	child.SetLevel(hclog.Warn)
	check(hclog.Warn)
	parent.SetLevel(hclog.Off)
	check(hclog.Off)
	parent.SetLevel(hclog.Debug)
	check(hclog.Debug)
	handlers.Set(slog.LevelError)
	check(hclog.Error)
	child.SetLevel(hclog.NoLevel)
	handlers.Set(slogTrace)
	check(hclog.Trace)
}

func TestSlogger_NamesAndImpliedArgs(t *testing.T) {
	logger, written := slogTo(slog.LevelInfo)
	child := logger.Named("raft").With("a", 1, "b", 2).Named("net").With("a", 3)
	require.Equal(t, "raft.net", child.Name())
	require.Equal(t, []any{"a", 3, "b", 2}, child.ImpliedArgs())
	child.Info("line", "c", 4)
	require.Equal(t, "level=INFO msg=line logger=raft.net a=3 b=2 c=4\n", written())

	child.ResetNamed("other").Info("line")
	require.Equal(t, "level=INFO msg=line logger=other a=3 b=2\n", written())
	child.ResetNamed("").Info("line")
	require.Equal(t, "level=INFO msg=line a=3 b=2\n", written())

	require.Empty(t, logger.Name(), "a logger was changed by its child")
	require.Empty(t, logger.ImpliedArgs())
	child.ImpliedArgs()[1] = "mine"
	child.With().Info("line")
	require.Equal(t, "level=INFO msg=line logger=raft.net a=3 b=2\n", written())
}

// What hclog shows as text, slog is given as text; the rest as it is.
func TestSlogger_ShowsValuesAsHclogDoes(t *testing.T) {
	logger, written := slogTo(slog.LevelInfo)
	for _, c := range []struct {
		args []any
		want string
	}{
		{[]any{"k", hclog.Fmt("%d of %s", 3, "x")}, `k="3 of x"`},
		{[]any{"k", hclog.Format{}}, `k=""`},
		{[]any{"k", hclog.Format{7, 8}}, `k="7 8"`},
		{[]any{"k", hclog.Hex(17)}, "k=0x11"},
		{[]any{"k", hclog.Octal(17)}, "k=021"},
		{[]any{"k", hclog.Binary(5)}, "k=0b101"},
		{[]any{"k", hclog.Quote("a\nb")}, `k="a\nb"`},
		{[]any{"k", hclog.CapturedStacktrace("here")}, "k=here"},
		{[]any{"k", errors.New("why")}, "k=why"},
		{[]any{"k", address("peer:1")}, "k=peer:1"},
		{[]any{"k", 1500 * time.Millisecond}, "k=1.5s"},
		{[]any{"k", nil}, "k=<nil>"},
		{[]any{7, true}, "7=true"},
		{[]any{"k", 1, "alone"}, "k=1 EXTRA_VALUE_AT_END=alone"},
		{[]any{"k", 1, hclog.CapturedStacktrace("here")}, "k=1 stacktrace=here"},
	} {
		logger.Info("line", c.args...)
		require.Equal(t, "level=INFO msg=line "+c.want+"\n", written())
		logger.With(c.args...).Info("line")
		require.Equal(t, "level=INFO msg=line "+c.want+"\n", written())
	}
}

func TestSlogger_AsAStandardLogger(t *testing.T) {
	logger, written := slogTo(slogTrace)
	infer := &hclog.StandardLoggerOptions{InferLevels: true}
	timed := &hclog.StandardLoggerOptions{InferLevels: true, InferLevelsWithTimestamp: true}
	force := &hclog.StandardLoggerOptions{ForceLevel: hclog.Warn, InferLevels: true}
	for _, c := range []struct {
		opts             *hclog.StandardLoggerOptions
		line, level, msg string
	}{
		{nil, "[ERROR] as it is", "INFO", "[ERROR] as it is"},
		{infer, "[TRACE] t", "DEBUG-4", "t"},
		{infer, "[DEBUG] d", "DEBUG", "d"},
		{infer, "[INFO]  i", "INFO", "i"},
		{infer, "[WARN] w", "WARN", "w"},
		{infer, "[ERR] e", "ERROR", "e"},
		{infer, "[ERROR] e", "ERROR", "e"},
		{infer, "[OFF] o", "INFO", "[OFF] o"},
		{infer, "[error] e", "INFO", "[error] e"},
		{infer, "a[0] = ]", "INFO", "a[0] = ]"},
		{infer, "2026/01/02 [WARN] w", "INFO", "2026/01/02 [WARN] w"},
		{timed, "2026/01/02 03:04:05 [WARN] w", "WARN", "w"},
		{timed, "2026-01-02T03:04:05.000Z [ERR] e", "ERROR", "e"},
		{timed, "42 things", "INFO", "42 things"},
		{force, "[ERROR] forced", "WARN", "forced"},
		{force, "forced", "WARN", "forced"},
	} {
		logger.StandardLogger(c.opts).Println(c.line)
		require.Equal(t, "level="+c.level+" msg="+quotedIfNeeded(c.msg)+"\n", written(), c.line)
	}
	n, err := logger.StandardWriter(nil).Write([]byte("two words \r\n"))
	require.NoError(t, err)
	require.Equal(t, 12, n)
	require.Equal(t, "level=INFO msg=\"two words\"\n", written())
	logger.SetLevel(hclog.Error)
	logger.StandardLogger(nil).Print("quiet")
	require.Empty(t, written())
}

func quotedIfNeeded(msg string) string {
	if !strings.ContainsAny(msg, ` ="`) {
		return msg
	}
	quoted, _ := json.Marshal(msg)
	return string(quoted)
}

// A handler that shows where a line comes from shows the caller's line.
func TestSlogger_KnowsTheCaller(t *testing.T) {
	var out bytes.Buffer
	logger := New(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{AddSource: true})))
	calls := []func(){
		func() { logger.Info("line") }, func() { logger.Log(hclog.Info, "line") }, func() { logger.Named("x").With("a", 1).Warn("line") },
	}
	for _, call := range calls {
		out.Reset()
		call()
		var line struct {
			Source struct{ File, Function string }
		}
		require.NoError(t, json.Unmarshal(out.Bytes(), &line))
		require.Equal(t, "slogger_test.go", filepath.Base(line.Source.File))
		require.Contains(t, line.Source.Function, "TestSlogger_KnowsTheCaller")
	}
	out.Reset()
	logger.StandardLogger(nil).Print("line")
	require.Contains(t, out.String(), `"msg":"line"`)
}

func TestSlogger_IsTheDefaultsForNil(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	var out bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	New(nil).Warn("line")
	require.Contains(t, out.String(), "level=WARN msg=line")
}

func TestSlogger_AllocatesNothingBelowItsLevel(t *testing.T) {
	logger := New(slog.New(slog.NewTextHandler(io.Discard, nil))).Named("net").With("a", 1)
	args := []any{"peer", "peer:1", "error", io.EOF}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		logger.Debug("line", args...)
		logger.Log(hclog.Trace, "line", args...)
		_ = logger.IsDebug()
	}))
}
