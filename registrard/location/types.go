package location

// AOR is an address-of-record in canonical form: scheme and host in lower case, user part with escapes resolved where RFC 3261
// section 19.1.2 allows, no password, port, parameters or headers, such as "sip:alice@example.org" (RFC 3261 section 10.3 step 5).
type AOR string

// Binding is one contact of an AOR. Contact is its key within the AOR: the contact's URI exactly as the phone sent it; an equal URI
// in other words (RFC 3261 section 19.1.4) replaces it.
type Binding struct {
	Contact   string   // addr-spec as sent, without angle brackets
	Params    string   // contact parameters as sent, without q and expires; "" or ";name=value..."
	Q         int16    // q in thousandths, 0 to 1000; -1 when none was sent
	Expires   Time     // ordered time at which it runs out
	CallID    string   // Call-ID of the REGISTER that set it
	CSeq      uint32   // CSeq of the REGISTER that set it
	Path      []string // Path header values, topmost first (RFC 3327)
	Received  string   // where its REGISTER came from: "transport:address:port", such as "udp:192.0.2.7:5060"
	Socket    string   // our own address that it was sent to, same form
	UserAgent string   // User-Agent as sent
	Instance  string   // +sip.instance without quotes and angle brackets (RFC 5626); "" when none
	RegID     uint32   // reg-id (RFC 5626); 0 when none
	Created   Time     // ordered time of the REGISTER that first made it
}

// Refresh moves the expiry of a binding that is otherwise unchanged; most REGISTERs do just that.
type Refresh struct {
	Contact string
	Expires Time
	CSeq    uint32
}

// Tombstone remembers a removed or replaced binding, so that a late duplicate of the REGISTER that made it undoes nothing.
type Tombstone struct {
	Contact string // as Binding.Contact; "*" for a REGISTER that removed every contact
	CallID  string
	CSeq    uint32 // highest CSeq of CallID that this contact has seen
	Until   Time   // ordered time after which it may be forgotten
}

// Algorithm is a digest algorithm of RFC 7616 and RFC 8760.
type Algorithm uint8

const (
	// MD5 is for old phones.
	MD5 Algorithm = 1 + iota
	// SHA256 is offered first.
	SHA256
	// SHA512256 is SHA-512/256.
	SHA512256
)

// User is somebody who may register: H(user:realm:password) for each algorithm that is known, never the password.
type User struct {
	AOR       AOR
	Username  string // digest username
	Realm     string // digest realm: the domain
	MD5       [16]byte
	SHA256    [32]byte
	SHA512256 [32]byte
	Has       uint8 // bit 1<<Algorithm for each hash that is set
}

// Key is a secret under which nonces are made; it is used only once it is committed.
type Key struct {
	ID      uint32
	Secret  [32]byte
	Created Time
}

// Voter is a node whose receipts and votes count, as long as it keeps this database.
type Voter struct {
	Node NodeID
	Disk DiskID
}

// RequestID names a request that was forwarded from another node, so that a retry after a failover is not done twice.
type RequestID struct {
	Node        NodeID
	Incarnation Incarnation
	Number      uint64
}

// Outcome is what became of a forwarded request. It is kept longer than any request's deadline.
type Outcome struct {
	ID     RequestID
	Status uint16 // as in SIP: 200, 404, 400 ...
	Detail string
	Until  Time
}

// Change is what a request or the passing of time does to the State: the effect, never the request. It is one of *BindingsChange,
// *UserChange, *KeyChange, *VotersChange, *OutcomeChange, *TimeChange.
type Change interface{ change() }

// Cause tells why bindings changed.
type Cause uint8

const (
	// CauseRegister is a REGISTER from a phone or an edge proxy.
	CauseRegister Cause = 1 + iota
	// CauseExpired is a binding that ran out.
	CauseExpired
	// CauseOperator is an operator's command.
	CauseOperator
)

// TombstoneKey names a tombstone within its AOR.
type TombstoneKey struct {
	Contact string
	CallID  string
}

// BindingsChange changes the bindings of one AOR: first Remove, then Put, then Refresh, then Bury, then Forget. A contact stands in
// one of the first three at the most; Put replaces a binding with the same Contact, Bury a tombstone with the same Contact and
// CallID. To remove, refresh or forget what is not there does nothing.
type BindingsChange struct {
	AOR     AOR
	Cause   Cause
	Remove  []string
	Put     []Binding
	Refresh []Refresh
	Bury    []Tombstone
	Forget  []TombstoneKey
}

// UserChange sets a user, or removes it with its bindings left to run out. Only User.AOR counts with Remove.
type UserChange struct {
	Remove bool
	User   User
}

// KeyChange sets a nonce key, or removes it. Only Key.ID counts with Remove.
type KeyChange struct {
	Remove bool
	Key    Key
}

// VotersChange replaces the voters; sorted by node.
type VotersChange struct{ Voters []Voter }

// OutcomeChange records an outcome, or forgets it. Only Outcome.ID counts with Remove.
type OutcomeChange struct {
	Remove  bool
	Outcome Outcome
}

// TimeChange says that nothing runs out before Grace: the time that phones have to come back after a time without a primary. An
// earlier Grace than the one before changes nothing, so that none is withdrawn. It also moves every tombstone's and outcome's end by
// Added, the time that was added for the outage.
type TimeChange struct {
	Grace Time
	Added int64 // milliseconds
}

func (*BindingsChange) change() {}
func (*UserChange) change()     {}
func (*KeyChange) change()      {}
func (*VotersChange) change()   {}
func (*OutcomeChange) change()  {}
func (*TimeChange) change()     {}

// Contact is one Contact value of a REGISTER.
type Contact struct {
	URI      string // addr-spec as sent
	Params   string // as Binding.Params
	Q        int16  // as Binding.Q
	Expires  int64  // seconds from its expires parameter; -1 when none
	Instance string
	RegID    uint32
}

// Request is a REGISTER as the domain sees it: already parsed, authenticated and authorised.
type Request struct {
	AOR       AOR
	CallID    string
	CSeq      uint32
	Star      bool      // Contact: *
	Contacts  []Contact // empty and not Star: a query
	Expires   int64     // seconds from the Expires header; -1 when none
	Path      []string
	Received  string
	Socket    string
	UserAgent string
}

// IsQuery tells whether the REGISTER only asks (RFC 3261 section 10.2.3).
func (r *Request) IsQuery() bool { return !r.Star && len(r.Contacts) == 0 }

// Policy is what an operator decides about REGISTERs. It never enters apply: two nodes with different policies stay equal.
type Policy struct {
	ExpiresMin     uint32 // seconds; below it 423 with Min-Expires
	ExpiresMax     uint32 // seconds; above it is cut; 0: never
	ExpiresDefault uint32 // seconds, where the phone names none; 0: an hour
	ContactsMax    int    // contacts of one AOR; above it 403; 0: BindingsMax
	TombstoneLife  int64  // milliseconds: the life of a SIP transaction and of a nonce
}

// Answer is the response to a REGISTER.
type Answer struct {
	Status     int       // 200, 400, 403, 423, 500 ...
	Reason     string    // reason phrase, "" for the status' own
	MinExpires uint32    // seconds, with 423
	Bindings   []Binding // with 200: what is registered once the change is committed, in the order of registration
	Time       Time      // ordered time at which it was decided: what the contacts' remaining seconds count from
}

// Lookup is where an AOR can be reached.
type Lookup struct {
	Known    bool      // a user has this AOR, or somebody is registered for it
	Bindings []Binding // in the order of registration, without those that have run out
	Now      Time      // ordered time of the reading: what the contacts' remaining seconds count from
}

// View is what Decide reads: the committed State, or an Overlay with what is in flight on top. Slices of
// bindings and tombstones that it returns are the caller's own, for good; the Keys must not be written to.
type View interface {
	// Bindings returns every binding of the AOR, in the order of registration, those that have run out but are not yet removed included.
	Bindings(AOR) []Binding
	// Tombstones returns those of the AOR.
	Tombstones(AOR) []Tombstone
	// User returns the user with this AOR.
	User(AOR) (User, bool)
	// Outcome returns what became of a forwarded request.
	Outcome(RequestID) (Outcome, bool)
	// Grace returns the ordered time before which nothing runs out.
	Grace() Time
	// Keys returns the nonce keys by rising ID.
	Keys() []Key
}
