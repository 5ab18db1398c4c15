package ocf

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ReasonMaxBytes is as much of an exit reason as Pacemaker keeps (EXIT_REASON_MAX_LEN in lib/services/services_linux.c).
const ReasonMaxBytes = 128

// WriteReason tells the cluster why an action failed. It takes the last such line of stderr, so an action writes one, as its last.
func WriteReason(stderr io.Writer, prefix, reason string) {
	reason = Reason(reason)
	if reason == "" {
		return
	}
	_, _ = fmt.Fprintf(stderr, "%s%s\n", prefix, reason) // stderr is the only place to tell
}

// Reason puts a text into the form of an exit reason: one line of printable characters, at most ReasonMaxBytes, cut between characters.
func Reason(text string) string {
	var b strings.Builder
	space := false
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) || r == ' ' {
			space = true
			continue
		}
		need := utf8.RuneLen(r)
		if space && b.Len() > 0 {
			need++
		}
		if b.Len()+need > ReasonMaxBytes {
			break
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
	}
	return b.String()
}
