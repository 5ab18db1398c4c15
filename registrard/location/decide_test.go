package location_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

const alice = location.AOR("sip:alice@example.org")

var policy = location.Policy{ExpiresMin: 60, ExpiresMax: 7200, ExpiresDefault: 1800, ContactsMax: 3, TombstoneLife: 300_000}

// start is the ordered time at which every test begins.
const start = location.Time(1_000_000)

// registrar is a State with Decide in front of it.
type registrar struct {
	t     *testing.T
	state *location.State
	now   location.Time
	p     location.Policy
}

func newRegistrar(t *testing.T) *registrar {
	t.Helper()
	return &registrar{t: t, state: location.NewState(), now: start, p: policy}
}

// do decides a REGISTER, applies what it does, and checks the promises that hold for each.
func (r *registrar) do(req location.Request) (*location.BindingsChange, location.Answer) {
	r.t.Helper()
	if req.AOR == "" {
		req.AOR = alice
	}
	change, answer := location.Decide(r.state, &req, r.now, &r.p)
	if change != nil {
		if answer.Status != 200 {
			r.t.Fatalf("a change with status %d", answer.Status)
		}
		r.apply(change)
	}
	if answer.Time != r.now {
		r.t.Errorf("answer's time is %d, want %d", answer.Time, r.now)
	}
	if answer.Status == 200 {
		found := location.Find(r.state, req.AOR, r.now)
		if diff := cmp.Diff(found.Bindings, answer.Bindings); diff != "" && len(found.Bindings)+len(answer.Bindings) > 0 {
			r.t.Errorf("the answer is not what a lookup finds:\n%s", diff)
		}
	}
	return change, answer
}

// apply goes the way over the wire.
func (r *registrar) apply(c location.Change) {
	r.t.Helper()
	changes, err := location.DecodeChanges(location.AppendChanges(nil, []location.Change{c}))
	if err != nil {
		r.t.Fatalf("the change cannot be read: %v", err)
	}
	r.state.Apply(r.now, changes)
}

func (r *registrar) want(req location.Request, status int, contacts ...string) location.Answer {
	r.t.Helper()
	_, answer := r.do(req)
	if answer.Status != status {
		r.t.Fatalf("status is %d %s, want %d", answer.Status, answer.Reason, status)
	}
	if status == 200 {
		r.bound(contacts...)
	}
	return answer
}

// bound checks who is registered for alice.
func (r *registrar) bound(contacts ...string) {
	r.t.Helper()
	var got []string
	for _, b := range location.Find(r.state, alice, r.now).Bindings {
		got = append(got, b.Contact)
	}
	if diff := cmp.Diff(contacts, got); diff != "" {
		r.t.Fatalf("contacts differ:\n%s", diff)
	}
}

// register is a REGISTER of contacts "URI" or "URI seconds".
func register(callID string, cseq uint32, contacts ...string) location.Request {
	req := location.Request{CallID: callID, CSeq: cseq, Expires: -1, Received: "udp:192.0.2.1:5060", Socket: "udp:192.0.2.9:5060"}
	for _, text := range contacts {
		c := location.Contact{Q: -1, Expires: -1}
		if n, err := fmt.Sscanf(text, "%s %d", &c.URI, &c.Expires); n == 0 {
			panic(err)
		}
		req.Contacts = append(req.Contacts, c)
	}
	return req
}

func star(callID string, cseq uint32) location.Request {
	return location.Request{CallID: callID, CSeq: cseq, Star: true}
}

const (
	desk   = "sip:alice@192.0.2.1"
	mobile = "sip:alice@192.0.2.2"
	laptop = "sip:alice@192.0.2.3"
	tablet = "sip:alice@192.0.2.4"
)

func TestRegisterAddsRefreshesAndRemoves(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 1, desk), 200, desk)
	r.now += 1000
	r.want(register("b", 1, mobile+" 600"), 200, desk, mobile)
	r.now += 1000
	change, answer := r.do(register("a", 2, desk+" 3600"))
	want := &location.BindingsChange{
		AOR: alice, Cause: location.CauseRegister,
		Refresh: []location.Refresh{{Contact: desk, Expires: r.now + 3600_000, CSeq: 2}},
	}
	if diff := cmp.Diff(want, change); diff != "" {
		t.Errorf("refresh is another change:\n%s", diff)
	}
	if answer.Bindings[0].Expires != r.now+3600_000 || answer.Bindings[0].Created != start || answer.Bindings[1].Expires != start+601_000 {
		t.Errorf("bindings after the refresh: %+v", answer.Bindings)
	}
	r.want(location.Request{CallID: "q", CSeq: 1, Expires: -1}, 200, desk, mobile) // a query
	r.want(register("a", 3, desk+" 0"), 200, mobile)
	r.want(register("b", 2, mobile+" 0"), 200)
	if c := r.state.Counts(); c.Bindings != 0 || c.AORs != 0 {
		t.Errorf("counts are %+v after the last removal", c)
	}
}

func TestQueryChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 5, desk), 200, desk)
	for _, req := range []location.Request{{CallID: "a", CSeq: 1, Expires: -1}, {CallID: "a", CSeq: 9, Expires: 0}} {
		if change, _ := r.do(req); change != nil {
			t.Errorf("a query makes %+v", change)
		}
	}
}

func TestChangedFieldsArePut(t *testing.T) {
	t.Parallel()
	base := register("a", 2, desk)
	for name, edit := range map[string]func(*location.Request){
		"params":     func(r *location.Request) { r.Contacts[0].Params = ";x=y" },
		"q":          func(r *location.Request) { r.Contacts[0].Q = 500 },
		"path":       func(r *location.Request) { r.Path = []string{"<sip:edge.example.org;lr>"} },
		"received":   func(r *location.Request) { r.Received = "udp:192.0.2.7:5060" },
		"socket":     func(r *location.Request) { r.Socket = "udp:192.0.2.8:5060" },
		"user agent": func(r *location.Request) { r.UserAgent = "other" },
		"instance":   func(r *location.Request) { r.Contacts[0].Instance = "urn:uuid:1" },
		"reg-id":     func(r *location.Request) { r.Contacts[0].RegID = 1 },
		"call-id":    func(r *location.Request) { r.CallID = "other" },
	} {
		r := newRegistrar(t)
		r.want(register("a", 1, desk), 200, desk)
		r.now++
		req := base
		req.Contacts = append([]location.Contact(nil), base.Contacts...)
		edit(&req)
		change, answer := r.do(req)
		if change == nil || len(change.Put) != 1 || len(change.Refresh) != 0 || len(change.Remove) != 0 {
			t.Errorf("%s: the change is %+v", name, change)
			continue
		}
		if b := answer.Bindings[0]; b.Created != start || b.CSeq != 2 {
			t.Errorf("%s: binding is %+v", name, b)
		}
	}
}

func TestStar(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 5, desk), 200, desk)
	r.now++
	r.want(register("b", 5, mobile), 200, desk, mobile)
	wrong := []location.Request{
		{CallID: "a", CSeq: 9, Star: true, Expires: -1}, {CallID: "a", CSeq: 9, Star: true, Expires: 60},
		{CallID: "a", CSeq: 9, Star: true, Contacts: register("a", 9, desk).Contacts},
	}
	for _, req := range wrong {
		r.want(req, 400)
	}
	r.want(star("a", 5), 500) // step 6: the same Call-ID needs a higher CSeq, and nothing is removed
	r.bound(desk, mobile)
	r.want(star("a", 6), 200)
	r.want(register("a", 5, desk), 500)
	r.want(register("a", 6, laptop), 500)
	r.want(register("b", 5, mobile), 500)
	r.want(register("c", 1, laptop), 200, laptop)
	r.want(star("a", 6), 200, laptop) // a late duplicate removes nobody who came later
	r.want(star("a", 5), 500)
	r.want(star("a", 7), 200)
}

func TestStarOnNothing(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(star("a", 2), 200)
	r.want(register("a", 1, desk), 500) // overtaken by the removal
	r.want(register("a", 3, desk), 200, desk)
}

func TestCSeqOrder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		req    location.Request
		status int
		left   []string
	}{
		"lower":                       {register("a", 4, desk), 500, []string{desk}},
		"lower, removal":              {register("a", 4, desk+" 0"), 500, []string{desk}},
		"equal, removal":              {register("a", 5, desk+" 0"), 500, []string{desk}},
		"equal, longer":               {register("a", 5, desk+" 600"), 200, []string{desk}},
		"equal, shorter":              {register("a", 5, desk+" 200"), 500, []string{desk}},
		"higher":                      {register("a", 6, desk+" 200"), 200, []string{desk}},
		"lower, other Call-ID":        {register("b", 1, desk), 200, []string{desk}},
		"removal, other Call-ID":      {register("b", 1, desk+" 0"), 200, nil},
		"lower with one that is new":  {register("a", 4, mobile, desk), 500, []string{desk}},
		"lower after one that is new": {register("a", 4, desk, mobile), 500, []string{desk}},
		"equal with one that is new":  {register("a", 5, desk+" 300", mobile), 500, []string{desk}},
		"higher with a removal":       {register("a", 6, desk+" 0", mobile), 200, []string{mobile}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistrar(t)
			r.want(register("a", 5, desk+" 300"), 200, desk)
			digest := r.state.Digest()
			change, answer := r.do(test.req)
			if answer.Status != test.status {
				t.Fatalf("status is %d %s, want %d", answer.Status, answer.Reason, test.status)
			}
			if answer.Status != 200 && (change != nil || r.state.Digest() != digest) {
				t.Error("a refusal changed something")
			}
			r.bound(test.left...)
		})
	}
}

func TestRetransmission(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	for _, req := range []location.Request{
		register("a", 1, desk+" 300", mobile), register("a", 2, desk, mobile+" 0"), register("b", 1, laptop+" 0"), star("c", 1), star("a", 3),
	} {
		_, first := r.do(req)
		if first.Status != 200 {
			t.Fatalf("%+v: status is %d %s", req, first.Status, first.Reason)
		}
		r.now += 500
		change, again := r.do(req)
		if change != nil {
			t.Errorf("the retransmission of %+v makes %+v", req, change)
		}
		first.Time = again.Time
		if diff := cmp.Diff(first, again); diff != "" && len(first.Bindings) > 0 {
			t.Errorf("the retransmission of %+v is answered otherwise:\n%s", req, diff)
		}
	}
}

func TestLateDuplicateUndoesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		late  location.Request
		after []location.Request
		left  []string
	}{
		"removed":              {register("a", 1, desk), []location.Request{register("a", 2, desk+" 0")}, nil},
		"removed by another":   {register("a", 1, desk), []location.Request{register("b", 1, desk+" 0")}, nil},
		"removed by star":      {register("a", 1, desk), []location.Request{star("a", 2)}, nil},
		"by another's star":    {register("a", 1, desk), []location.Request{star("b", 1)}, nil},
		"replaced":             {register("a", 1, desk+" 600"), []location.Request{register("b", 1, desk)}, []string{desk}},
		"replaced, removed":    {register("a", 1, desk), []location.Request{register("b", 1, desk), register("b", 2, desk+" 0")}, nil},
		"refreshed, removed":   {register("a", 2, desk), []location.Request{register("a", 3, desk), register("b", 2, desk+" 0")}, nil},
		"removed, back, gone":  {register("a", 1, desk), []location.Request{register("a", 2, desk+" 0"), register("a", 3, desk), register("b", 1, desk+" 0")}, nil},
		"other words":          {register("a", 1, "sip:%61lice@192.0.2.1;lr"), []location.Request{register("a", 2, "sip:alice@192.0.2.1;ob"), register("a", 3, desk+" 0")}, nil},
		"removal came earlier": {register("a", 3, desk+" 0"), []location.Request{register("a", 4, desk)}, []string{desk}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistrar(t)
			r.do(test.late)
			for _, req := range test.after {
				r.now += 1000
				if _, answer := r.do(req); answer.Status != 200 {
					t.Fatalf("%+v: status is %d %s", req, answer.Status, answer.Reason)
				}
			}
			r.bound(test.left...)
			digest := r.state.Digest()
			if change, answer := r.do(test.late); answer.Status != 500 || change != nil || r.state.Digest() != digest {
				t.Errorf("the late duplicate is answered %d, and makes %+v", answer.Status, change)
			}
			r.now += location.Time(policy.TombstoneLife)
			r.bound(test.left...)
		})
	}
}

func TestTombstonesAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 1, desk), 200, desk)
	r.want(register("a", 2, desk+" 0"), 200)
	want := []location.Tombstone{{Contact: desk, CallID: "a", CSeq: 2, Until: start + location.Time(policy.TombstoneLife)}}
	if diff := cmp.Diff(want, r.state.Tombstones(alice)); diff != "" {
		t.Errorf("tombstones differ:\n%s", diff)
	}
	r.want(register("a", 3, desk), 200, desk) // the binding itself remembers from now on
	if left := r.state.Tombstones(alice); len(left) != 0 {
		t.Errorf("tombstones are left: %+v", left)
	}
	r.want(register("a", 4, desk+" 0"), 200)
	r.now += location.Time(policy.TombstoneLife)
	r.want(register("a", 1, desk), 200, desk) // it may be forgotten, and a phone may count anew
}

func TestIntervals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header, param int64
		min           uint32
		granted       int64 // 0: 423
	}{
		"default":                  {-1, -1, 60, 1800},
		"header":                   {600, -1, 60, 600},
		"parameter over header":    {600, 700, 60, 700},
		"cut":                      {-1, 100_000, 60, 7200},
		"cut beyond 32 bits":       {-1, 1 << 40, 60, 7200},
		"least":                    {-1, 60, 60, 60},
		"too brief":                {-1, 59, 60, 0},
		"too brief in the header":  {1, -1, 60, 0},
		"an hour is never brief":   {-1, 3600, 4000, 3600},
		"under an hour, high min":  {-1, 3599, 4000, 0},
		"parameter saves a header": {1, 60, 60, 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistrar(t)
			r.p.ExpiresMin = test.min
			req := register("a", 1, desk)
			req.Expires, req.Contacts[0].Expires = test.header, test.param
			if test.granted == 0 {
				if a := r.want(req, 423); a.MinExpires != test.min {
					t.Errorf("Min-Expires is %d, want %d", a.MinExpires, test.min)
				}
				r.bound()
				return
			}
			if a := r.want(req, 200, desk); a.Bindings[0].Expires != start+location.Time(test.granted*1000) {
				t.Errorf("granted %d ms, want %d s", a.Bindings[0].Expires-start, test.granted)
			}
		})
	}
	r := newRegistrar(t)
	r.p = location.Policy{TombstoneLife: 1000}
	if a := r.want(register("a", 1, desk), 200, desk); a.Bindings[0].Expires != start+3600_000 {
		t.Errorf("without a policy %d ms are granted", a.Bindings[0].Expires-start)
	}
	if a := r.want(register("a", 2, desk+" 9999999999999"), 200, desk); a.Bindings[0].Expires != start+(1<<32-1)*1000 {
		t.Errorf("without a policy %d ms are granted", a.Bindings[0].Expires-start)
	}
}

func TestContactsLimit(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 1, desk, mobile, laptop), 200, desk, mobile, laptop)
	r.want(register("b", 1, tablet), 403)
	r.want(register("a", 2, desk, tablet), 403)
	r.bound(desk, mobile, laptop)
	r.want(register("a", 2, desk, mobile), 200, desk, mobile, laptop)
	r.now++
	r.want(register("a", 3, desk+" 0", tablet), 200, mobile, laptop, tablet)
	r.p.ContactsMax = 1 // a lower limit keeps nobody from refreshing
	r.want(register("a", 4, mobile), 200, mobile, laptop, tablet)
	r.p = policy
	r.now += 1800_000 // those that have run out do not count
	r.want(register("b", 1, desk), 200, desk)
	many := make([]string, location.RequestContactsMax+1)
	for i := range many {
		many[i] = fmt.Sprintf("sip:c@192.0.2.1:%d 0", i+1)
	}
	r.want(register("c", 1, many...), 403)
}

func TestBadContacts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", location.StringBytesMax+1)
	for name, req := range map[string]location.Request{
		"no SIP URI":         register("a", 1, desk, "tel:+1555"),
		"broken":             register("a", 1, desk, "sip:a@b@c"),
		"broken removal":     register("a", 1, desk, "sip:a@b@c 0"),
		"twice":              register("a", 1, desk, desk),
		"twice, other words": register("a", 1, desk, "sip:%61lice@192.0.2.1;lr"),
		"same flow": {CallID: "a", CSeq: 1, Expires: -1, Contacts: []location.Contact{
			{URI: desk, Expires: -1, Instance: "urn:uuid:1", RegID: 1}, {URI: mobile, Expires: -1, Instance: "URN:UUID:1", RegID: 1},
		}},
		"long Call-ID":      register(long, 1, desk),
		"path of two lines": {CallID: "a", CSeq: 1, Expires: -1, Path: []string{"<sip:a>\n"}, Contacts: register("a", 1, desk).Contacts},
		"empty path":        {CallID: "a", CSeq: 1, Expires: -1, Path: []string{""}, Contacts: register("a", 1, desk).Contacts},
		"long params":       {CallID: "a", CSeq: 1, Expires: -1, Contacts: []location.Contact{{URI: desk, Expires: -1, Params: long}}},
		"q":                 {CallID: "a", CSeq: 1, Expires: -1, Contacts: []location.Contact{{URI: desk, Expires: -1, Q: 1001}}},
		"long Path":         {CallID: "a", CSeq: 1, Expires: -1, Path: make([]string, location.PathMax+1), Contacts: register("a", 1, desk).Contacts},
	} {
		r := newRegistrar(t)
		if change, a := r.do(req); a.Status != 400 || change != nil {
			t.Errorf("%s: status is %d, change %+v", name, a.Status, change)
		}
	}
}

func TestContactInOtherWords(t *testing.T) {
	t.Parallel()
	const other = "sip:%61lice@192.0.2.1;ob"
	r := newRegistrar(t)
	r.want(register("a", 1, desk), 200, desk)
	r.now++
	a := r.want(register("a", 2, other), 200, other)
	if a.Bindings[0].Created != start {
		t.Error("the binding is a new one")
	}
	r.want(register("a", 2, desk), 500)
	r.want(register("a", 3, desk+" 0"), 200)
}

// Two bindings that both equal a third URI but not each other: the equivalence of URIs is not transitive.
func TestContactThatEqualsTwo(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	on, off := desk+";security=on", desk+";security=off"
	r.want(register("a", 1, off, on), 200, off, on)
	r.want(register("a", 2, desk), 200, desk)
	r.want(register("a", 3, on+" 0"), 200)
}

func TestFlowReplaces(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	flow := func(callID string, cseq uint32, uri string, regID uint32) location.Request {
		req := register(callID, cseq, uri)
		req.Contacts[0].Instance, req.Contacts[0].RegID = "urn:uuid:1", regID
		return req
	}
	r.want(flow("a", 1, desk, 1), 200, desk)
	r.now++
	r.want(flow("a", 2, mobile, 2), 200, desk, mobile)
	r.want(flow("b", 1, laptop, 1), 200, laptop, mobile) // the phone has restarted on another port
	r.want(flow("a", 1, desk, 1), 500)
	r.want(flow("b", 2, mobile, 1), 200, mobile) // both a flow and an equal URI
	r.want(flow("b", 1, laptop, 1), 500)
}

func TestAnswerHidesWhatHasRunOut(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 1, desk+" 60"), 200, desk)
	r.now += 59_999
	r.bound(desk)
	r.now++
	r.bound()
	r.want(register("b", 1, mobile), 200, mobile)
	r.want(register("a", 1, desk+" 60"), 500) // the REGISTER that made it comes late
	r.want(register("a", 2, desk+" 60"), 200, desk, mobile)
}

func TestGraceKeepsWhatHasRunOut(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.want(register("a", 1, desk+" 60"), 200, desk)
	r.now += 100_000
	grace := r.now + 30_000
	r.apply(&location.TimeChange{Grace: grace, Added: 90_000})
	a := r.want(location.Request{Expires: -1}, 200, desk)
	if a.Bindings[0].Expires != grace {
		t.Errorf("expiry is %d, want the grace's end %d", a.Bindings[0].Expires, grace)
	}
	r.now = grace
	r.bound()
}

func TestTombstonesLimit(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	for n := range location.TombstonesMax {
		r.want(register(fmt.Sprint("call", n), 1, desk+" 0"), 200)
	}
	r.want(register("late", 1, desk+" 0"), 503)
	r.want(star("late", 1), 503)
	r.want(register("call1", 2, desk+" 0"), 200) // no tombstone more
	r.want(register("call1", 3, desk), 200, desk)
}

func TestFind(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	if l := location.Find(r.state, alice, r.now); l.Known || l.Bindings != nil || l.Now != r.now {
		t.Errorf("nobody is found as %+v", l)
	}
	r.apply(&location.UserChange{User: location.User{AOR: alice, Username: "alice"}})
	if l := location.Find(r.state, alice, r.now); !l.Known || len(l.Bindings) != 0 {
		t.Errorf("a user without bindings is found as %+v", l)
	}
	r.apply(&location.UserChange{Remove: true, User: location.User{AOR: alice}})
	r.want(register("a", 1, desk), 200, desk)
	if l := location.Find(r.state, alice, r.now); !l.Known || len(l.Bindings) != 1 {
		t.Errorf("bindings without a user are found as %+v", l)
	}
}

func TestWhatIsTooMuchForOneMessage(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.p.ContactsMax = location.RequestContactsMax
	many := make([]string, location.RequestContactsMax)
	for i := range many {
		many[i] = fmt.Sprintf("sip:c@192.0.2.1:%d", i+1)
	}
	req := register("a", 1, many...)
	req.Path = []string{strings.Repeat("x", location.ChangeBytesMax/len(many))}
	change, a := r.do(req)
	if a.Status != 403 || change != nil {
		t.Errorf("status is %d", a.Status)
	}
	req.Path[0] = req.Path[0][:len(req.Path[0])-500]
	if change, a = r.do(req); a.Status != 200 {
		t.Fatalf("status is %d %s", a.Status, a.Reason)
	}
	if n := len(location.AppendChange(nil, change)); n > location.ChangeBytesMax {
		t.Errorf("the change takes %d bytes", n)
	}
}

// Whatever is registered one by one, "Contact: *" can remove, and expiry too, in changes that fit into a message.
func TestLongContactsCanBeRemoved(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t)
	r.p.ContactsMax, r.p.ExpiresMin = location.BindingsMax, 1
	n := 0
	for ; n < location.BindingsMax; n++ {
		callID := fmt.Sprint(strings.Repeat("c", location.CallIDBytesMax-3), 100+n)
		if _, a := r.do(register(callID, 1, "sip:"+strings.Repeat("u", 900)+fmt.Sprint(n)+"@192.0.2.1")); a.Status != 200 {
			if a.Status != 403 {
				t.Fatalf("status is %d %s", a.Status, a.Reason)
			}
			break
		}
	}
	if n < 10 || n == location.BindingsMax {
		t.Fatalf("%d long contacts are taken", n)
	}
	change, a := location.Decide(r.state, &location.Request{AOR: alice, CallID: strings.Repeat("z", 512), CSeq: 1, Star: true}, r.now, &r.p)
	if a.Status != 200 || len(location.AppendChange(nil, change)) > location.ChangeBytesMax {
		t.Errorf("removal of all is answered %d %s", a.Status, a.Reason)
	}
	r.now += 10_000_000
	o := location.NewOverlay(r.state)
	for range 3 {
		for _, c := range o.Expired(r.now, &r.p, 10) {
			if size := len(location.AppendChange(nil, c)); size > location.ChangeBytesMax {
				t.Errorf("an expiry takes %d bytes", size)
			}
			r.apply(c)
			o.Reset()
		}
		r.now += location.Time(r.p.TombstoneLife)
	}
	if c := r.state.Counts(); c.Bindings != 0 || c.Tombstones != 0 {
		t.Errorf("left: %+v", c)
	}
}
