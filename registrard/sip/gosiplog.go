package sip

import (
	"context"
	"fmt"
	"log/slog"

	gosiplog "github.com/ghettovoice/gosip/log"
)

// gosipLogger gives gosip's log lines to slog. What gosip warns of is what peers do, and a flood must not flood the log: it all becomes Debug.
// Its own debug and trace lines carry whole messages, credentials included, and are dropped; so are its fields, which it builds anew for every line.
type gosipLogger struct{ log *slog.Logger }

var _ gosiplog.Logger = gosipLogger{}

func (l gosipLogger) say(args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("gosip", slog.String("text", fmt.Sprint(args...)))
	}
}

func (l gosipLogger) sayf(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("gosip", slog.String("text", fmt.Sprintf(format, args...)))
	}
}

func (l gosipLogger) Print(args ...any)                 { l.say(args...) }
func (l gosipLogger) Printf(format string, args ...any) { l.sayf(format, args...) }
func (l gosipLogger) Trace(...any)                      {}
func (l gosipLogger) Tracef(string, ...any)             {}
func (l gosipLogger) Debug(...any)                      {}
func (l gosipLogger) Debugf(string, ...any)             {}
func (l gosipLogger) Info(args ...any)                  { l.say(args...) }
func (l gosipLogger) Infof(format string, args ...any)  { l.sayf(format, args...) }
func (l gosipLogger) Warn(args ...any)                  { l.say(args...) }
func (l gosipLogger) Warnf(format string, args ...any)  { l.sayf(format, args...) }
func (l gosipLogger) Error(args ...any)                 { l.say(args...) }
func (l gosipLogger) Errorf(format string, args ...any) { l.sayf(format, args...) }

// Fatal and Panic are what gosip calls when its configuration is wrong, which is ours.
func (l gosipLogger) Fatal(args ...any) { panic("gosip: " + fmt.Sprint(args...)) }
func (l gosipLogger) Fatalf(format string, args ...any) {
	panic("gosip: " + fmt.Sprintf(format, args...))
}
func (l gosipLogger) Panic(args ...any) { panic("gosip: " + fmt.Sprint(args...)) }
func (l gosipLogger) Panicf(format string, args ...any) {
	panic("gosip: " + fmt.Sprintf(format, args...))
}

func (l gosipLogger) WithPrefix(string) gosiplog.Logger         { return l }
func (l gosipLogger) Prefix() string                            { return "" }
func (l gosipLogger) WithFields(map[string]any) gosiplog.Logger { return l }
func (l gosipLogger) Fields() gosiplog.Fields                   { return nil }
func (l gosipLogger) SetLevel(uint32)                           {}
