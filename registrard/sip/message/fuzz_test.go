package message

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/rfc4475/*.dat")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
	}
	f.Add([]byte(typical), true)
	f.Fuzz(func(t *testing.T, b []byte, stream bool) {
		framing := Datagram
		if stream {
			framing = Stream
		}
		original := bytes.Clone(b)
		var m Message
		err := m.Parse(b, framing)
		checkAnswer(t, &m)
		if err != nil {
			return
		}
		if !bytes.Equal(original, b) && !bytes.Contains(original, []byte("\n ")) && !bytes.Contains(original, []byte("\n\t")) {
			t.Fatal("changed a message without folds")
		}
		// What was accepted means the same when it is read again, folds gone.
		var again Message
		if err := again.Parse(bytes.Clone(m.Bytes()), framing); err != nil {
			t.Fatalf("read again: %v", err)
		}
		if m.Contacts() != again.Contacts() || m.CSeq != again.CSeq || !bytes.Equal(m.CallID, again.CallID) || !bytes.Equal(m.Body, again.Body) ||
			!bytes.Equal(m.To.URI, again.To.URI) || !bytes.Equal(m.From.Tag, again.From.Tag) || !bytes.Equal(m.Via.Branch, again.Via.Branch) {
			t.Fatalf("read again: got %+v, want %+v", again, m)
		}
		if m.Answerable() {
			checkResponse(t, &m)
		}
		if m.Method == MethodRegister && !m.IsResponse() {
			checkRequest(t, &m)
		}
	})
}

// checkResponse reads our own response as a client does.
func checkResponse(t *testing.T, m *Message) {
	t.Helper()
	b, err := m.AppendResponse(nil, &Response{Status: 200, Tag: []byte("mine"), Source: phone})
	if err != nil {
		t.Fatal(err)
	}
	var r Message
	if len(b) <= MaxHeaderBytes { // the request's headers were shorter than ours can be
		if err := r.Parse(b, Stream); err != nil {
			t.Fatalf("own response: %v\n%q", err, b)
		}
		if len(r.To.Tag) == 0 || !bytes.Equal(r.Via.Branch, m.Via.Branch) || !bytes.Equal(r.CallID, m.CallID) || r.CSeq != m.CSeq {
			t.Fatalf("own response: got %+v for %+v", r, m)
		}
		if m.Via.RPort && string(r.Via.Received) != phone.Addr().String() {
			t.Fatalf("received %q", r.Via.Received)
		}
	}
}

// checkRequest registers the contacts and reads them back from our response: the same bindings must come out.
func checkRequest(t *testing.T, m *Message) {
	t.Helper()
	var want location.Request
	if err := m.ToRequest(&want, "udp", phone, server); err != nil {
		return
	}
	if len(want.Contacts) != m.Contacts() || want.CallID != string(m.CallID) {
		t.Fatalf("got %+v for %+v", want, m)
	}
	var bindings []location.Binding
	for i, c := range want.Contacts {
		bindings = append(bindings, location.Binding{Contact: c.URI, Params: c.Params, Q: c.Q, Expires: location.Time(7000)})
		want.Contacts[i].Expires = 7
	}
	b, err := m.AppendResponse(nil, &Response{Status: 200, Tag: []byte("mine"), Source: phone, Bindings: bindings})
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > MaxHeaderBytes {
		return
	}
	s := strings.Replace(string(b), "SIP/2.0 200 OK", "REGISTER sip:example.org SIP/2.0", 1)
	s = s[:len(s)-2] + "Max-Forwards: 1\r\n\r\n"
	var again Message
	if err := again.Parse([]byte(s), Datagram); err != nil {
		t.Fatalf("own contacts: %v\n%s", err, s)
	}
	var got location.Request
	if err := again.ToRequest(&got, "udp", phone, server); err != nil {
		t.Fatalf("own contacts: %v\n%s", err, s)
	}
	if diff := cmp.Diff(want.Contacts, got.Contacts); diff != "" && len(want.Contacts) > 0 {
		t.Fatalf("own contacts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Path, got.Path); diff != "" && len(want.Path) > 0 {
		t.Fatalf("own path (-want +got):\n%s", diff)
	}
}

func FuzzContact(f *testing.F) {
	for _, s := range []string{
		"*", "<sip:a@b>", "sip:a@b;q=0.5;x", `"A, \"B\"" <sip:a@b;p>;expires=5;q=1.000, <tel:+1>`, "A B<sips:[::1]:5>;+sip.instance=\"<urn:x>\";reg-id=7",
		"<sip:a@b>;expires = 0 ; a ; q = 0", "sip:a@b?c", "<sip:a@b>;q=0.1;expires=9;audio;+g=\"\xc3\xa9\"",
	} {
		f.Add([]byte(s))
	}
	head, tail, _ := strings.Cut(with(f, "Contact: ", "Contact: \x00"), "\x00")
	_, tail, _ = strings.Cut(tail, "\r\n")
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(head+string(b)+"\r\n"+tail, Datagram)
		if err != nil {
			return
		}
		if m.Contacts() == 0 && !m.Star() {
			t.Fatalf("a Contact vanished: %q", b)
		}
		checkRequest(t, m)
	})
}

func TestAllocations(t *testing.T) {
	f := registerOnce(t)
	f()
	// The one copy of the text.
	if n := testing.AllocsPerRun(100, f); n > 1 {
		t.Errorf("a REGISTER allocates %v times", n)
	}
	var m Message
	bad := []byte(strings.Replace(typical, "4711 REGISTER", "4711 INVITE", 1))
	buf := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		err := m.Parse(bad, Datagram)
		buf, _ = m.AppendResponse(buf[:0], &Response{Status: err.Status, Reason: err.Reason, Source: phone})
	}); n > 0 {
		t.Errorf("a refused REGISTER allocates %v times", n)
	}
	stream := []byte(typical)
	if n := testing.AllocsPerRun(100, func() { _, _ = Frame(stream) }); n > 0 {
		t.Errorf("Frame allocates %v times", n)
	}
}

// registerOnce returns what is done with each REGISTER: read, handed on, answered.
func registerOnce(t testing.TB) func() {
	var m Message
	var r location.Request
	in := []byte(typical)
	tagger := NewTagger()
	tag := make([]byte, 0, 16)
	buf := make([]byte, 0, 2048)
	bindings := make([]location.Binding, 1)
	return func() {
		if err := m.Parse(in, Datagram); err != nil {
			t.Fatal(err)
		}
		if err := m.ToRequest(&r, "udp", phone, server); err != nil {
			t.Fatal(err)
		}
		bindings[0] = location.Binding{Contact: r.Contacts[0].URI, Params: r.Contacts[0].Params, Q: r.Contacts[0].Q, Expires: 3600_000}
		tag = tagger.AppendTag(tag[:0], &m)
		var err error
		if buf, err = m.AppendResponse(buf[:0], &Response{Status: 200, Tag: tag, Source: phone, Bindings: bindings}); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkRegister(b *testing.B) {
	f := registerOnce(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		f()
	}
}

func BenchmarkParse(b *testing.B) {
	var m Message
	in := []byte(typical)
	b.ReportAllocs()
	b.SetBytes(int64(len(typical)))
	for b.Loop() {
		if err := m.Parse(in, Datagram); err != nil {
			b.Fatal(err)
		}
	}
}
