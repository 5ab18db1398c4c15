//go:build integration

package acceptance

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sipha/scripts/internal/sipload"
)

// What the other tests rely on is shown to find what it must: here, rows of the table binding that break a promise.
func TestBookFindsBrokenPromises(t *testing.T) {
	t.Parallel()
	var (
		start   = time.UnixMilli(1_000_000_000)
		account = sipload.Account{User: "u", Domain: "example.org"}
		put     = phoneOf(210, account, "192.0.2.200:5070", 0) // with everything that a binding may have
		remove  = removal(put)
		contact = put.Contacts[0]
		place   = flow{received: "udp:192.0.2.200:5070", socket: "udp:192.0.2.100:5060"}
		lost    = errors.New("no answer")
	)
	ok := func(cseq uint32, contacts ...sipload.Contact) *sipload.Answer {
		return &sipload.Answer{Status: 200, CallID: "c", CSeq: cseq, Sent: start, Received: start.Add(time.Millisecond), Contacts: contacts}
	}
	want := row{
		AOR: account.AOR(), Contact: contact.URI, Expires: start.UnixMilli() + int64(contact.Expires)*1000, CSeq: 2, Params: contact.Params, Q: 250, CallID: "c",
		Path: "<sip:edge1.example.org;lr>\n<sip:edge2.example.org;lr>", Received: place.received, Socket: place.socket, UserAgent: "sipload",
		Instance: "urn:uuid:00000000-0000-4000-8000-000000000210", RegID: 1, Created: 1,
	}
	type did struct {
		r   sipload.Registration
		a   *sipload.Answer
		err error
	}
	other := func(change func(*row)) []row {
		r := want
		change(&r)
		return []row{r}
	}
	registered := []did{{put, ok(2, contact), nil}}
	removed := []did{{put, ok(2, contact), nil}, {remove, ok(3), nil}}
	star := sipload.Registration{Account: account, Star: true}
	for _, tc := range []struct {
		name string
		did  []did
		rows []row
		want string // part of the complaint; "" for none
	}{
		{"OK", registered, []row{want}, ""},
		{"OKRemoved", removed, nil, ""},
		{"OKDoubtfulRemoval", []did{{put, ok(2, contact), nil}, {remove, nil, lost}}, nil, ""},
		{"OKDoubtfulPut", []did{{put, nil, lost}}, []row{want}, ""},
		{"ErrLost", registered, nil, "is lost"},
		{"ErrLostBehindDoubtfulPut", []did{{put, ok(2, contact), nil}, {put, nil, lost}}, nil, "is lost"},
		{"ErrCameBack", removed, []row{want}, "removal was answered"},
		{"ErrCameBackAfterStar", []did{{put, ok(2, contact), nil}, {star, ok(3), nil}}, []row{want}, "removal was answered"},
		{"ErrStranger", nil, []row{want}, "nobody registered"},
		{"ErrRefused", []did{{put, &sipload.Answer{Status: 403}, nil}}, []row{want}, "was refused"},
		{"ErrOlder", registered, other(func(r *row) { r.CSeq = 1 }), "has CSeq 1"},
		{"ErrOlderBehindDoubtfulPut", []did{{put, ok(2, contact), nil}, {put, nil, lost}}, other(func(r *row) { r.CSeq = 1 }), "has CSeq 1"},
		{"ErrParams", registered, other(func(r *row) { r.Params = "" }), "answered was"},
		{"ErrPath", registered, other(func(r *row) { r.Path = "" }), "answered was"},
		{"ErrQ", registered, other(func(r *row) { r.Q = 500 }), "answered was"},
		{"ErrCallID", registered, other(func(r *row) { r.CallID = "d" }), "answered was"},
		{"ErrFlow", registered, other(func(r *row) { r.Socket = "udp:192.0.2.11:5060" }), "answered was"},
		{"ErrInstance", registered, other(func(r *row) { r.RegID = 2 }), "answered was"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBook()
			for _, d := range tc.did {
				b.record(d.r, d.a, d.err)
			}
			got := b.checkRows(tc.rows, place)
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("complaints: %q", got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("complaints %q, want one about %q", got, tc.want)
			}
		})
	}
}

// A binding whose expiry is not as granted stands out among the others.
func TestBookFindsWrongExpiry(t *testing.T) {
	t.Parallel()
	b := newBook()
	var rows []row
	const odd = 3
	for i := range 9 {
		a := sipload.Account{User: string(rune('a' + i)), Domain: "example.org"}
		sent := time.UnixMilli(int64(1_000_000 + i*5000))
		r := sipload.Registration{Account: a, Contacts: []sipload.Contact{{URI: "sip:x@192.0.2.1", Expires: 3600}}}
		b.record(r, &sipload.Answer{Status: 200, CallID: "c", CSeq: 1, Sent: sent, Received: sent, Contacts: r.Contacts}, nil)
		ordered := sent.UnixMilli() + 77_000 // ordered time has another zero than our clock
		if i == odd {
			ordered -= 5000
		}
		rows = append(rows, row{AOR: a.AOR(), Contact: "sip:x@192.0.2.1", Expires: ordered + 3_600_000, CSeq: 1, CallID: "c", Q: -1, UserAgent: "sipload"})
	}
	got := b.checkRows(rows, flow{})
	if len(got) != 1 || !strings.HasPrefix(got[0], rows[odd].AOR+":") || !strings.Contains(got[0], "expires -5s off") {
		t.Errorf("complaints %q, want one about %s", got, rows[odd].AOR)
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	start := time.UnixMilli(1_000_000)
	var answers []answer
	for _, a := range []struct{ ms, status int }{{-20, 200}, {-10, 200}, {5, 200}, {10, 503}, {900, 503}, {1505, 200}, {1510, 200}, {2500, 0}, {2600, 200}} {
		answers = append(answers, answer{received: start.Add(time.Duration(a.ms) * time.Millisecond), status: a.status})
	}
	if first, silence := outage(answers, start); first != 1505*time.Millisecond || silence != 1500*time.Millisecond {
		t.Errorf("first 200 after %v, silence %v, want 1.505 s and 1.5 s", first, silence)
	}
	if first, silence := outage(answers[:2], start); first != 0 || silence != 0 {
		t.Errorf("without an end: %v, %v", first, silence)
	}
}
