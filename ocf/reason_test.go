package ocf_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"sipha/ocf"
)

func TestReason(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "no such file", "no such file"},
		{"empty", "", ""},
		{"blank", " \n\t ", ""},
		{"lines", "first\nsecond\r\nthird", "first second third"},
		{"control", "a\x1b[31mb\x00c", "a [31mb c"},
		{"bad bytes", "a\xff\xfeb", "a b"},
		{"ends blank", "end \n", "end"},
		{"long", strings.Repeat("x", 300), strings.Repeat("x", 128)},
		{"cut between characters", strings.Repeat("x", 127) + "é", strings.Repeat("x", 127)},
	} {
		if got := ocf.Reason(tc.in); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestWriteReason(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	ocf.WriteReason(&b, "ocf-exit-reason:", "why\nso")
	ocf.WriteReason(&b, "ocf-exit-reason:", "\n")
	if b.String() != "ocf-exit-reason:why so\n" {
		t.Errorf("%q", b.String())
	}
}

func FuzzReason(f *testing.F) {
	f.Add("one\ntwo")
	f.Add("\u2028\U000e0001\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := ocf.Reason(text)
		if len(got) > ocf.ReasonMaxBytes || strings.ContainsAny(got, "\n\r\x00") || !utf8.ValidString(got) || strings.TrimSpace(got) != got {
			t.Errorf("%q", got)
		}
		if again := ocf.Reason(got); again != got {
			t.Errorf("not stable: %q, then %q", got, again)
		}
	})
}
