package main

import (
	"fmt"
	"io"
	"log/slog"
)

// newLog returns the log that the configuration asks for, and the level that a reload changes. Under systemd the journal has the time
// already: JOURNAL_STREAM is set then (systemd.exec(5)).
func newLog(c *Config, w io.Writer, underJournal bool) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	l, err := parseLevel(c.LogLevel)
	if err != nil {
		return nil, nil, fmt.Errorf("log.level: %w", err)
	}
	level.Set(l)
	options := &slog.HandlerOptions{Level: level}
	if underJournal {
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level, nil
	}
	return slog.New(slog.NewTextHandler(w, options)), level, nil
}
