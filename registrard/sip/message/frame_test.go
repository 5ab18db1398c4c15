package message

import (
	"errors"
	"strings"
	"testing"
)

func TestFrame(t *testing.T) {
	body := with(t, "Content-Length: 0", "Content-Length: 4") + "body"
	folded := with(t, "Content-Length: 0", "l \t:\r\n\t 4\r\n ") + "body"
	for name, tt := range map[string]struct {
		in   string
		want int
		err  string
	}{
		"nothing":             {"", 0, ""},
		"beginning":           {typical[:100], 0, ""},
		"one":                 {typical, len(typical), ""},
		"two":                 {typical + typical, len(typical), ""},
		"body":                {body, len(body), ""},
		"body and more":       {body + "\r\n", len(body), ""},
		"part of the body":    {body[:len(body)-1], 0, ""},
		"folded length":       {folded, len(folded), ""},
		"no length":           {with(t, "Content-Length: 0\r\n", ""), 0, "400 Missing Content-Length"},
		"two lengths":         {with(t, "Expires: 7200", "l: 0"), 0, "400 Duplicate Content-Length"},
		"two equal in one":    {with(t, "Content-Length: 0", "Content-Length: 0, 0"), 0, "400 Malformed Content-Length"},
		"negative length":     {with(t, "Content-Length: 0", "Content-Length: -1"), 0, "400 Malformed Content-Length"},
		"length with sign":    {with(t, "Content-Length: 0", "Content-Length: +1"), 0, "400 Malformed Content-Length"},
		"4 GiB":               {with(t, "Content-Length: 0", "Content-Length: 4294967295"), 0, "513 Message Too Large"},
		"2**64":               {with(t, "Content-Length: 0", "Content-Length: 18446744073709551616"), 0, "513 Message Too Large"},
		"just too large":      {with(t, "Content-Length: 0", "Content-Length: 16384"), 0, "513 Message Too Large"},
		"bare LF":             {with(t, "Expires: 7200\r\n", "Expires: 7200\n"), 0, "400 Malformed Line End"},
		"bare LF at the end":  {with(t, "Content-Length: 0\r\n", "Content-Length: 0\n") + "\r\n\r\n", 0, "400 Malformed Line End"},
		"endless headers":     {with(t, "Content-Length: 0\r\n\r\n", strings.Repeat("X: y\r\n", MaxHeaderBytes/6)), 0, "513 Message Too Large"},
		"headers just not":    {strings.Repeat("x", MaxHeaderBytes-1), 0, ""},
		"length in the start": {"Content-Length: 1\r\n\r\n", 0, "400 Missing Content-Length"},
	} {
		n, err := Frame([]byte(tt.in))
		switch {
		case n != tt.want || (err != nil) != (tt.err != "") || err != nil && err.Error() != tt.err:
			t.Errorf("%s: got %d, %v; want %d, %q", name, n, err, tt.want, tt.err)
		case n > 0:
			if m, err := parse(tt.in[:n], Stream); err != nil || len(m.Bytes()) != n {
				t.Errorf("%s: what it framed does not parse: %v", name, err)
			}
		}
	}
}

// TestFrameByteByByte feeds a message as a slow peer does.
func TestFrameByteByByte(t *testing.T) {
	s := []byte(with(t, "Content-Length: 0", "Content-Length: 4") + "body")
	for i := range s {
		if n, err := Frame(s[:i]); n != 0 || err != nil {
			t.Fatalf("after %d bytes: got %d, %v", i, n, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(typical), 100)
	f.Add([]byte("A\r\nl:1\r\n\r\nxA\r\nl:0\r\n\r\n"), 3)
	f.Add([]byte("A\r\nContent-Length :\r\n 1\r\n\r\nx"), 9)
	f.Fuzz(func(t *testing.T, b []byte, part int) {
		n, err := Frame(b)
		var e *Error
		if err != nil && (n != 0 || !errors.As(err, &e)) || n < 0 || n > len(b) || n > MaxMessageBytes {
			t.Fatalf("got %d, %v for %d bytes", n, err, len(b))
		}
		if n == 0 {
			return
		}
		if k := min(max(part, 0), n-1); k < n {
			if early, err := Frame(b[:k]); early != 0 || err != nil {
				t.Fatalf("%d bytes are a message of %d, but %d bytes are one of %d, %v", len(b), n, k, early, err)
			}
		}
		if again, err := Frame(b[:n]); again != n || err != nil {
			t.Fatalf("the message alone: got %d, %v, want %d", again, err, n)
		}
		var m Message
		if err := m.Parse(append([]byte(nil), b[:n]...), Stream); err == nil && len(m.Bytes()) != n {
			t.Fatalf("framed %d bytes, parsed %d", n, len(m.Bytes()))
		}
	})
}
