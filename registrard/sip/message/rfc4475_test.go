package message

import (
	"os"
	"path/filepath"
	"testing"

	"sipha/registrard/location"
)

// TestRFC4475 holds the verdict of RFC 4475 for each of its messages, as far as a registrar that serves REGISTER itself goes. Where the
// RFC lets an element be liberal we are strict, but for Date, which nothing here reads.
func TestRFC4475(t *testing.T) {
	const dropped = -1 // refused, and nothing is sent
	tests := []struct {
		name  string
		want  int // status to answer; 0: goes on to whatever serves its method; dropped
		check func(*testing.T, *Message)
	}{
		// 3.1.1, valid
		{"wsinv", 0, func(t *testing.T, m *Message) {
			if m.MaxForwards != 68 || m.CSeq != 9 || string(m.To.Tag) != "1918181833n" || string(m.Via.Host) != "192.0.2.2" || len(m.Body) != 150 {
				t.Errorf("got %+v", m)
			}
			if string(m.From.Display) != `"J Rosenberg \\\""` || m.contacts[0].q != 330 {
				t.Errorf("From %q, q %d", m.From.Display, m.contacts[0].q)
			}
		}},
		{"intmeth", 501, func(t *testing.T, m *Message) {
			if m.Target.Host != "example.com" || string(m.From.Tag) != "_token~1'+`*%!-." || m.MaxForwards != 255 {
				t.Errorf("got %+v", m)
			}
		}},
		{"esc01", 0, func(t *testing.T, m *Message) {
			if m.Target.User != "sips%3Auser%40example.com" || m.Target.Host != "example.net" {
				t.Errorf("target %+v", m.Target)
			}
		}},
		{"escnull", 0, func(t *testing.T, m *Message) {
			wantContacts(t, m, "sip:%00@host5.example.com", "sip:%00%00@host5.example.com")
		}},
		{"esc02", 501, func(t *testing.T, m *Message) {
			if m.Contacts() != 2 || string(m.Lookup("C%6Fntact")) != "<sip:alias2@host2.example.com>" {
				t.Errorf("%d contacts", m.Contacts())
			}
		}},
		{"lwsdisp", 0, func(t *testing.T, m *Message) {
			if string(m.From.Display) != "caller" {
				t.Errorf("display %q", m.From.Display)
			}
		}},
		{"longreq", 0, nil},
		{"dblreq", 0, func(t *testing.T, m *Message) {
			if len(m.Body) != 0 || m.Method != MethodRegister || m.CSeq != 8 {
				t.Errorf("got %+v", m)
			}
		}},
		{"semiuri", 0, func(t *testing.T, m *Message) {
			if m.Target.User != "user;par=u%40example.net" {
				t.Errorf("target %+v", m.Target)
			}
		}},
		{"transports", 0, nil},
		{"mpart01", 0, nil},
		{"unreason", 0, func(t *testing.T, m *Message) { wantStatus(t, m, 200) }},
		{"noreason", 0, func(t *testing.T, m *Message) { wantStatus(t, m, 100) }},
		// 3.1.2, invalid
		{"badinv01", 400, nil},
		{"clerr", 400, nil},
		{"ncl", 400, nil},
		{"scalar02", 400, nil},
		{"scalarlg", dropped, nil},
		{"quotbal", 400, nil},
		{"ltgtruri", 400, nil},
		{"lwsruri", 400, nil},
		{"lwsstart", 400, nil},
		{"trws", 400, nil},
		{"escruri", 400, nil},
		{"baddate", 0, nil},
		{"regbadct", 400, nil},
		{"badaspec", 400, nil},
		{"baddn", 400, nil},
		{"badvers", 505, nil},
		{"mismatch01", 400, nil},
		{"mismatch02", 400, nil},
		{"bigcode", dropped, nil},
		// 3.2, transaction layer
		{"badbranch", 400, nil},
		// 3.3, application layer
		{"insuf", dropped, nil}, // 400, but it has nothing to form a response from
		{"unkscm", 416, nil},
		{"novelsc", 416, nil},
		{"unksm2", 400, nil},
		{"bext01", 420, func(t *testing.T, m *Message) {
			if got := string(m.AppendUnsupported(nil)); got != "nothingSupportsThis, nothingSupportsThisEither" {
				t.Errorf("Unsupported: %s", got)
			}
		}},
		{"invut", 0, nil}, // 415 is for who serves INVITE
		{"regaut01", 0, func(t *testing.T, m *Message) {
			if string(m.Header(HeaderAuthorization)) != "NoOneKnowsThisScheme opaque-data=here" {
				t.Error("Authorization")
			}
		}},
		{"multi01", 400, nil},
		{"mcl01", 400, nil},
		{"bcast", 0, func(t *testing.T, m *Message) { wantStatus(t, m, 200) }}, // who matches responses sees that its Via is none of ours
		{"zeromf", 0, func(t *testing.T, m *Message) {
			if m.MaxForwards != 0 {
				t.Errorf("Max-Forwards %d", m.MaxForwards)
			}
		}},
		{"cparam01", 0, func(t *testing.T, m *Message) {
			wantContacts(t, m, "sip:+19725552222@gw1.example.net")
			if r := mustRequest(t, m); r.Contacts[0].Params != ";unknownparam" {
				t.Errorf("params %q", r.Contacts[0].Params)
			}
		}},
		{"cparam02", 0, func(t *testing.T, m *Message) {
			wantContacts(t, m, "sip:+19725552222@gw1.example.net;unknownparam")
			if r := mustRequest(t, m); r.Contacts[0].Params != "" {
				t.Errorf("params %q", r.Contacts[0].Params)
			}
		}},
		{"regescrt", 0, func(t *testing.T, m *Message) {
			wantContacts(t, m, "sip:user@example.com?Route=%3Csip:sip.example.com%3E")
		}},
		{"sdp01", 0, nil}, // 406 is for who serves INVITE
		// 3.4, RFC 2543
		{"inv2543", 0, func(t *testing.T, m *Message) {
			if m.MaxForwards != -1 || len(m.From.Tag) != 0 || len(m.Via.Branch) != 0 {
				t.Errorf("got %+v", m)
			}
		}},
	}
	files, err := filepath.Glob("testdata/rfc4475/*.dat")
	if err != nil || len(files) != len(tests) {
		t.Errorf("%d files for %d verdicts, %v", len(files), len(tests), err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata/rfc4475", tt.name+".dat"))
			if err != nil {
				t.Fatal(err)
			}
			var m Message
			status, reason := verdict(&m, b)
			if status != 0 && !m.Answerable() {
				status = dropped
			}
			if status != tt.want {
				t.Errorf("got %d (%s), want %d", status, reason, tt.want)
			}
			if tt.check != nil {
				tt.check(t, &m)
			}
		})
	}
}

// verdict does what a registrar does with a datagram, in the order of RFC 3261 section 8.2, as far as this package knows.
func verdict(m *Message, b []byte) (int, string) {
	if err := m.Parse(b, Datagram); err != nil {
		return err.Status, err.Reason
	}
	switch {
	case m.IsResponse():
		return 0, ""
	case m.Method == MethodUnknown:
		return 501, ""
	case len(m.AppendUnsupported(nil, "path")) > 0:
		return 420, ""
	case m.Method == MethodRegister:
		if err := m.ToRequest(new(location.Request), "udp", phone, server); err != nil {
			return err.Status, err.Reason
		}
	}
	return 0, ""
}

func mustRequest(t *testing.T, m *Message) location.Request {
	t.Helper()
	var r location.Request
	if err := m.ToRequest(&r, "udp", phone, server); err != nil {
		t.Fatal(err)
	}
	return r
}

func wantContacts(t *testing.T, m *Message, want ...string) {
	t.Helper()
	r := mustRequest(t, m)
	if len(r.Contacts) != len(want) {
		t.Fatalf("got %+v, want %q", r.Contacts, want)
	}
	for i, c := range r.Contacts {
		if c.URI != want[i] {
			t.Errorf("contact %d: got %q, want %q", i, c.URI, want[i])
		}
	}
}

func wantStatus(t *testing.T, m *Message, want int) {
	t.Helper()
	if m.Status != want {
		t.Errorf("status %d, want %d", m.Status, want)
	}
}
