package sipload

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestLedgerCheck(t *testing.T) {
	t.Parallel()
	var (
		now     = time.Unix(1_000_000, 0)
		account = Account{User: "u", Domain: "example.org"}
		phone   = Contact{URI: "sip:u@192.0.2.1", Expires: 600}
		add     = Registration{Account: account, Contacts: []Contact{phone}}
		remove  = Registration{Account: account, Contacts: []Contact{{URI: phone.URI}}}
		at      = func(sec int, status int, contacts ...Contact) *Answer {
			when := now.Add(time.Duration(sec) * time.Second)
			return &Answer{Status: status, Sent: when, Received: when.Add(time.Millisecond), Contacts: contacts}
		}
		left = func(n int) Contact { return Contact{URI: phone.URI, Expires: n} }
		lost = errors.New("no answer")
	)
	type did struct {
		r   Registration
		a   *Answer
		err error
	}
	for _, tc := range []struct {
		name  string
		did   []did
		shown *Answer
		added time.Duration
		want  string // a part of the only complaint; "" for none
	}{
		{"OK", []did{{add, at(0, 200, phone), nil}}, at(100, 200, left(500)), 0, ""},
		{"OKGrantedLess", []did{{add, at(0, 200, left(60)), nil}}, at(10, 200, left(50)), 0, ""},
		{"OKRunOut", []did{{add, at(0, 200, phone), nil}}, at(700, 200), 0, ""},
		{"OKRemoved", []did{{add, at(0, 200, phone), nil}, {remove, at(1, 200), nil}}, at(2, 200), 0, ""},
		{"OKDoubtfulRemovalDone", []did{{add, at(0, 200, phone), nil}, {remove, nil, lost}}, at(2, 200), 0, ""},
		{"OKDoubtfulRemovalNotDone", []did{{add, at(0, 200, phone), nil}, {remove, at(1, 503), nil}}, at(2, 200, left(598)), 0, ""},
		{"OKDoubtfulAddDone", []did{{add, nil, lost}}, at(2, 200, left(600)), 0, ""},
		{"OKDoubtfulAddNotDone", []did{{add, nil, lost}}, at(2, 200), 0, ""},
		{"OKProlonged", []did{{add, at(0, 200, phone), nil}}, at(100, 200, left(520)), 30 * time.Second, ""},
		{"OKStar", []did{{add, at(0, 200, phone), nil}, {Registration{Account: account, Star: true}, at(1, 200), nil}}, at(2, 200), 0, ""},
		{"ErrLost", []did{{add, at(0, 200, phone), nil}}, at(100, 200), 0, "is lost"},
		{"ErrLostBehindDoubtfulRefresh", []did{{add, at(0, 200, phone), nil}, {add, nil, lost}}, at(100, 200), 0, "is lost"},
		{"ErrCameBack", []did{{add, at(0, 200, phone), nil}, {remove, at(1, 200), nil}}, at(2, 200, left(598)), 0, "removal was answered"},
		{"ErrStarCameBack", []did{{add, at(0, 200, phone), nil}, {Registration{Account: account, Star: true}, at(1, 200), nil}}, at(2, 200, left(598)), 0, "removal was answered"},
		{"ErrRefusedButThere", []did{{add, at(0, 403), nil}}, at(2, 200, left(598)), 0, "refused"},
		{"ErrTooLong", []did{{add, at(0, 200, phone), nil}}, at(100, 200, left(600)), 0, "too much"},
		{"ErrTooShort", []did{{add, at(0, 200, phone), nil}}, at(100, 200, left(300)), 0, "too little"},
		{"ErrNotRunOut", []did{{add, at(0, 200, phone), nil}}, at(700, 200, left(1)), 0, "ran out"},
		{"ErrField", []did{{add, at(0, 200, phone), nil}}, at(100, 200, Contact{URI: phone.URI, Expires: 500, Q: "0.1"}), 0, "q="},
		{"ErrStranger", nil, at(100, 200, left(1)), 0, "nobody registered"},
		{"ErrTwice", []did{{add, at(0, 200, phone), nil}}, at(100, 200, left(500), left(500)), 0, "twice"},
		{"ErrQueryRefused", nil, at(100, 503), 0, "answered 503"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := NewLedger()
			for _, d := range tc.did {
				l.Record(d.r, d.a, d.err)
			}
			got := l.Check(account, tc.shown, tc.added)
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("complaints: %q", got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("complaints %q, want one about %q", got, tc.want)
			}
		})
	}
}

func TestGranted(t *testing.T) {
	t.Parallel()
	account := Account{User: "u", Domain: "example.org"}
	r := Registration{Account: account, Contacts: []Contact{{URI: "sip:a@x", Expires: 60}, {URI: "sip:b@x"}}}
	if got := Granted(r, &Answer{Status: 200, Contacts: []Contact{{URI: "sip:a@x", Expires: 60}}}); len(got) != 0 {
		t.Errorf("complaints: %q", got)
	}
	if got := Granted(r, &Answer{Status: 200, Contacts: []Contact{{URI: "sip:b@x", Expires: 60}}}); len(got) != 2 {
		t.Errorf("complaints: %q, want two", got)
	}
}
