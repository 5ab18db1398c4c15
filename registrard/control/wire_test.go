package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

// FuzzRequest gives the server any line, from somebody who may only read: it answers with one line of JSON, and nothing is written.
func FuzzRequest(f *testing.F) {
	for _, line := range []string{
		`{"id":1,"method":"status"}`, `{"id":1,"method":"promote","timeout_ms":-1}`, `{"id":18446744073709551615,"method":"users.list","params":{"limit":9223372036854775807}}`,
		`{"id":1,"method":"users.import","params":{"users":[{}]}}`, `{"method":"contacts.show","params":[]}`, `[]`, `null`, `{"params":`, "\x00",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		s := newService()
		server := &Server{config: ServerConfig{Service: s, Log: slog.New(slog.DiscardHandler)}, methods: methods()}
		r := server.answer(t.Context(), line, accessRead)
		b, err := json.Marshal(r)
		if err != nil || bytes.ContainsRune(b, '\n') {
			t.Errorf("answer %q, %v", b, err)
		}
		if (r.Error == nil) == (r.Result == nil) {
			t.Errorf("answer %s: neither result nor error, or both", b)
		}
		if w := s.written(); len(w) > 0 {
			t.Errorf("writes %v got through", w)
		}
	})
}

// FuzzUser gives users.add any params: what is stored has a hash and is told back as it came.
func FuzzUser(f *testing.F) {
	f.Add([]byte(`{"users":[{"aor":"sip:a@x","username":"a","realm":"x","md5":"00112233445566778899aabbccddeeff"}]}`))
	f.Add([]byte(`{"users":[{"aor":"sip:a@x","username":"a","realm":"x","sha256":"zz"}],"replace":true}`))
	f.Fuzz(func(t *testing.T, params []byte) {
		s := newService()
		if _, err := putUsers(t.Context(), s, params); err != nil {
			return
		}
		for _, u := range s.users {
			if u.Has == 0 || u.AOR == "" || u.Username == "" || u.Realm == "" {
				t.Errorf("stored %+v", u)
			}
			if back, err := NewUser(u).user(); err != nil || back != u {
				t.Errorf("%+v came back as %+v, %v", u, back, err)
			}
		}
	})
}

// FuzzResponse gives the client any answer: it returns, with the answer or an error.
func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":{"role":"primary"}}` + "\n"))
	f.Add([]byte(`{"id":0,"error":{"code":"busy","message":"x"}}` + "\n"))
	f.Add([]byte(`{"id":2}` + "\n"))
	f.Add([]byte(`{"id":1`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &socket{id: 1, in: bufio.NewReader(bytes.NewReader(b))}
		if r, err := s.read(); err == nil && r.ID != 1 && r.Error == nil {
			t.Errorf("took the answer to request %d", r.ID)
		}
	})
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in, want string
		err            error
	}{
		{"OK", "abc\nd", "abc", nil},
		{"Empty", "\n", "", nil},
		{"Longest", strings.Repeat("x", 100) + "\n", strings.Repeat("x", 100), nil},
		{"ErrTooLarge", strings.Repeat("x", 101) + "\n", "", ErrTooLarge},
		{"ErrTooLargeUnended", strings.Repeat("x", 1000), "", ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := readLine(bufio.NewReaderSize(strings.NewReader(tt.in), 16), 100)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v, want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestErrorNames(t *testing.T) {
	t.Parallel()
	for _, e := range []*Error{
		ErrNotPrimary, ErrNotQuorate, ErrNotSynced, ErrNewerPeer, ErrBusy, ErrTimeout, ErrShuttingDown, ErrNotFound, ErrExists, ErrInvalid,
		ErrPermission, ErrUnknownMethod, ErrTooLarge, ErrUnavailable, ErrInternal,
	} {
		if got, ok := errorCode(errorName(e.Code)); !ok || got != e.Code {
			t.Errorf("%s is %s on the bus, and %s back", e.Code, errorName(e.Code), got)
		}
	}
	if errorName(CodeNotPrimary) != "org.sipha.Registrard1.Error.NotPrimary" {
		t.Errorf("not_primary is %s", errorName(CodeNotPrimary))
	}
	for _, name := range []string{"org.freedesktop.DBus.Error.Failed", busErrors, ""} {
		if c, ok := errorCode(name); ok {
			t.Errorf("%q is %q", name, c)
		}
	}
}

func TestAsError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		want *Error
	}{
		{"Own", &Error{CodeBusy, "m", "h"}, &Error{CodeBusy, "m", "h"}},
		{"Wrapped", fmt.Errorf("promote: %w", &Error{CodeBusy, "m", "h"}), &Error{CodeBusy, "promote: m; h", ""}},
		{"Deadline", fmt.Errorf("promote: %w", context.DeadlineExceeded), &Error{CodeTimeout, "not done in time", "it may still be done: look at the status, then try again"}},
		{"Cancelled", context.Canceled, &Error{CodeShuttingDown, "the daemon is shutting down", ""}},
		{"Other", errors.New("disk on fire"), &Error{CodeInternal, "disk on fire", "see the daemon's log"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, asError(tt.err)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestCheckInstance(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"registrard": true, "_a": true, "Voice-2": true, strings.Repeat("a", 32): true,
		"": false, "2a": false, "-a": false, "a.b": false, "a/b": false, "..": false, "a b": false, "ä": false, strings.Repeat("a", 33): false,
	} {
		if err := CheckInstance(name); (err == nil) != ok {
			t.Errorf("%q: %v, want allowed: %v", name, err, ok)
		}
	}
}

func TestUnixAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"unix:path=/run/x":               "/run/x",
		"unix:guid=1,path=/run/a%20b":    "/run/a b",
		"unix:abstract=/tmp/dbus-1,g=2":  "@/tmp/dbus-1",
		"tcp:host=localhost,port=1":      "",
		"unix:path=":                     "",
		"unix:path=%zz":                  "",
		"unix:":                          "",
		"":                               "",
		"unix:tmpdir=/tmp,path=/run/bus": "/run/bus",
	} {
		if got, ok := unixAddress(address); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", address, got, ok, want)
		}
	}
}

func TestNewRegistration(t *testing.T) {
	t.Parallel()
	half := 0.5
	got := NewRegistration("sip:a@x", []location.Binding{
		{Contact: "sip:1@y", Q: 500, Expires: 10_001, CallID: "c", CSeq: 2, Created: 3},
		{Contact: "sip:2@y", Q: -1, Expires: 10_000},
		{Contact: "sip:3@y", Q: -1, Expires: 11_001},
	}, 10_000)
	want := Registration{AOR: "sip:a@x", Contacts: []Contact{
		{URI: "sip:1@y", Q: &half, ExpiresS: 1, CallID: "c", CSeq: 2, CreatedMS: 3},
		{URI: "sip:3@y", ExpiresS: 2},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
