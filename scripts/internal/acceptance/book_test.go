//go:build cluster || integration

package acceptance

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sipha/scripts/internal/sipload"
)

// book keeps what was answered: the ledger for what phones can see, and beside it what the databases must hold. It is safe for
// concurrent use, as long as the registrations of one address-of-record come one after the other.
type book struct {
	ledger *sipload.Ledger

	mu   sync.Mutex
	aors map[string]map[string]*promise // by AOR and contact
	odd  []string                       // answers that should not have been
}

// promise is what was last answered about one contact.
type promise struct {
	put            sipload.Registration // the last that put it, with this contact alone
	answered       bool
	present        bool
	contact        sipload.Contact // as granted
	path           []string
	callID         string
	cseq           uint32
	sent, received time.Time
	// Since then it was asked without an answer to be put, or to be removed.
	maybePut, maybeRemoved bool
}

func newBook() *book {
	return &book{ledger: sipload.NewLedger(), aors: make(map[string]map[string]*promise)}
}

// record enters a registration and its outcome, as sipload.Ledger.Record does.
func (b *book) record(r sipload.Registration, a *sipload.Answer, err error) {
	b.ledger.Record(r, a, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && !a.OK() && a.Status != 503 {
		b.odd = append(b.odd, fmt.Sprintf("%s: %d %s", r.Account.AOR(), a.Status, a.Reason))
	}
	if r.Query() {
		return
	}
	if err == nil && a.OK() {
		b.odd = append(b.odd, sipload.Granted(r, a)...)
	}
	contacts := b.aors[r.Account.AOR()]
	if contacts == nil {
		contacts = make(map[string]*promise)
		b.aors[r.Account.AOR()] = contacts
	}
	changes := r.Contacts
	if r.Star {
		changes = nil
		for uri := range contacts {
			changes = append(changes, sipload.Contact{URI: uri})
		}
	}
	for _, change := range changes {
		p := contacts[change.URI]
		if p == nil {
			p = new(promise)
			contacts[change.URI] = p
		}
		p.enter(&r, change, a, err)
	}
}

// enter takes in one contact of a registration.
func (p *promise) enter(r *sipload.Registration, change sipload.Contact, a *sipload.Answer, err error) {
	if change.Expires > 0 {
		p.put = *r
		p.put.Contacts = []sipload.Contact{change}
	}
	switch {
	case err != nil || a.Status/100 == 5:
		p.maybePut = p.maybePut || change.Expires > 0
		p.maybeRemoved = p.maybeRemoved || change.Expires == 0
	case a.OK():
		*p = promise{
			put: p.put, answered: true, present: change.Expires > 0, contact: change,
			callID: a.CallID, cseq: a.CSeq, sent: a.Sent, received: a.Received,
		}
		for _, granted := range a.Contacts {
			if granted.URI == change.URI {
				p.contact.Expires = granted.Expires
			}
		}
		for _, line := range r.Headers {
			if value, ok := strings.CutPrefix(line, "Path: "); ok {
				p.path = append(p.path, value)
			}
		}
	}
}

// present reports whether a contact was last answered as registered.
func (b *book) present(a sipload.Account, uri string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.aors[a.AOR()][uri]
	return p != nil && p.present
}

// doubtful returns a registration for each address-of-record with a contact of which nobody knows whether it is there: asked once more, it is.
func (b *book) doubtful() []sipload.Registration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []sipload.Registration
	for _, aor := range slices.Sorted(maps.Keys(b.aors)) {
		for _, uri := range slices.Sorted(maps.Keys(b.aors[aor])) {
			if p := b.aors[aor][uri]; p.maybePut || p.maybeRemoved {
				all = append(all, p.put)
				break
			}
		}
	}
	return all
}

// oddities returns the answers since the last call that should not have been.
func (b *book) oddities() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	odd := b.odd
	b.odd = nil
	return odd
}

// row is a row of the table binding.
type row struct {
	AOR       string `json:"aor"`
	Contact   string `json:"contact"`
	Expires   int64  `json:"expires"` // ordered time, milliseconds
	CSeq      uint32 `json:"cseq"`
	Params    string `json:"params"`
	Q         int    `json:"q"`
	CallID    string `json:"call_id"`
	Path      string `json:"path"`
	Received  string `json:"received"`
	Socket    string `json:"socket"`
	UserAgent string `json:"user_agent"`
	Instance  string `json:"instance"`
	RegID     int    `json:"reg_id"`
	Created   int64  `json:"created"` // ordered time, milliseconds
}

// flow is where registrations came from and went to, as the database writes it.
type flow struct{ received, socket string }

// clockSlack is by how much the ordered times of bindings may differ from the clock by which they were granted: whole seconds, and what
// passes at a change of primaries.
const clockSlack = 2 * time.Second

// checkRows compares a database with the promises; each string is one that is broken.
func (b *book) checkRows(rows []row, f flow) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var broken []string
	there := make(map[[2]string]*row, len(rows))
	for i := range rows {
		r := &rows[i]
		there[[2]string{r.AOR, r.Contact}] = r
		if b.aors[r.AOR] == nil || b.aors[r.AOR][r.Contact] == nil {
			broken = append(broken, fmt.Sprintf("%s: %s is there, but nobody registered it", r.AOR, r.Contact))
		}
	}
	zero, ok := b.clock(there)
	for aor, contacts := range b.aors {
		for uri, p := range contacts {
			r := there[[2]string{aor, uri}]
			if why := p.judge(r, f); why != "" {
				broken = append(broken, fmt.Sprintf("%s: %s %s", aor, uri, why))
			} else if ok && p.certain() && p.present {
				if off := p.expiry(r).Sub(zero); off < -clockSlack || off > clockSlack+p.received.Sub(p.sent) {
					broken = append(broken, fmt.Sprintf("%s: %s expires %v off what was granted", aor, uri, off))
				}
			}
		}
	}
	return broken
}

// certain reports that the last thing asked about a contact was answered.
func (p *promise) certain() bool { return p.answered && !p.maybePut && !p.maybeRemoved }

// expiry tells when, by ordered time, the clock would have stood at zero if the row's expiry were as granted for the moment at which it
// was asked for.
func (p *promise) expiry(r *row) time.Time {
	return time.UnixMilli(r.Expires).Add(-time.Duration(p.contact.Expires) * time.Second).Add(-time.Duration(p.sent.UnixMilli()) * time.Millisecond)
}

// clock finds how ordered time and our clock lie to each other: as most of the bindings say.
func (b *book) clock(there map[[2]string]*row) (time.Time, bool) {
	var zeros []time.Time
	for aor, contacts := range b.aors {
		for uri, p := range contacts {
			if r := there[[2]string{aor, uri}]; r != nil && p.certain() && p.present {
				zeros = append(zeros, p.expiry(r))
			}
		}
	}
	if len(zeros) == 0 {
		return time.Time{}, false
	}
	slices.SortFunc(zeros, time.Time.Compare)
	return zeros[len(zeros)/2], true
}

// judge says what is wrong with a contact's row; nil where there is none.
func (p *promise) judge(r *row, f flow) string {
	switch {
	case r == nil && p.present && !p.maybeRemoved:
		return "is lost"
	case r == nil:
		return ""
	case !p.present && !p.maybePut && p.answered:
		return "is there, though its removal was answered"
	case !p.present && !p.maybePut:
		return "is there, though it was refused"
	case p.answered && r.CallID == p.callID && r.CSeq < p.cseq:
		return fmt.Sprintf("has CSeq %d, %d was answered", r.CSeq, p.cseq)
	case !p.certain():
		return ""
	}
	want := row{
		AOR: r.AOR, Contact: r.Contact, Expires: r.Expires, Created: r.Created, CSeq: p.cseq, Params: p.contact.Params, Q: thousandths(p.contact.Q), CallID: p.callID,
		Path: strings.Join(p.path, "\n"), Received: f.received, Socket: f.socket, UserAgent: "sipload",
	}
	want.Instance, want.RegID = instance(p.contact.Params)
	if *r != want {
		return fmt.Sprintf("is %+v, answered was %+v", *r, want)
	}
	return ""
}

// thousandths reads a q value; -1 is none.
func thousandths(q string) int {
	f, err := strconv.ParseFloat(q, 64)
	if err != nil {
		return -1
	}
	return int(f*1000 + 0.5)
}

// instance finds the outbound flow (RFC 5626) among a contact's parameters, as phoneOf writes them.
func instance(params string) (urn string, regID int) {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		switch name {
		case "+sip.instance":
			urn = strings.Trim(value, `"<>`)
		case "reg-id":
			regID, _ = strconv.Atoi(value) // phoneOf writes a number
		}
	}
	return urn, regID
}

// checkShown compares what a phone is shown beyond what sipload.Ledger looks at: the contacts' parameters.
func (b *book) checkShown(a sipload.Account, shown *sipload.Answer) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var broken []string
	for _, c := range shown.Contacts {
		if p := b.aors[a.AOR()][c.URI]; p != nil && p.certain() && c.Params != p.contact.Params {
			broken = append(broken, fmt.Sprintf("%s: %s has the parameters %q, was registered with %q", a.AOR(), c.URI, c.Params, p.contact.Params))
		}
	}
	return broken
}
