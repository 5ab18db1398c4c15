package sipload

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Timers of a non-INVITE client transaction over UDP (RFC 3261 section 17.1.2).
const (
	t1     = 500 * time.Millisecond
	t2     = 4 * time.Second
	timerF = 64 * t1
)

const (
	datagramMax = 65535
	// socketBuffer is what the client asks of the kernel for its socket, in bytes.
	socketBuffer = 4 << 20
	// challengesMax is how often one registration lets itself be challenged: for a first
	// nonce, for a stale one, and for one that became stale on the way.
	challengesMax = 3
)

// ErrTimeout reports that no final response came in time: nobody knows what became of
// the request.
var ErrTimeout = errors.New("no answer in time")

// Account is a user of the registrar.
type Account struct {
	User, Domain, Password string
}

// AOR returns the address-of-record.
func (a Account) AOR() string { return "sip:" + a.User + "@" + a.Domain }

// Contact is one contact of a REGISTER, or one binding of its answer.
type Contact struct {
	URI     string
	Expires int    // seconds; 0 in a request removes the binding
	Q       string // as it stands in the message; "" for none
	Params  string // the others, as they stand in the message: "" or ";name=value..."
}

// Registration is one REGISTER: what a phone asks for.
type Registration struct {
	Account  Account
	CallID   string // "" takes one that belongs to the account
	Contacts []Contact
	Star     bool // Contact: *, which removes every binding
	// Headers are further lines of the request, such as "Path: <sip:192.0.2.9;lr>".
	Headers []string
}

// Query reports whether the REGISTER changes nothing and asks for the bindings.
func (r *Registration) Query() bool { return len(r.Contacts) == 0 && !r.Star }

// Answer is the final response to a registration.
type Answer struct {
	Status     int
	Reason     string
	CallID     string    // of the request that was answered
	CSeq       uint32    // its number
	Contacts   []Contact // the bindings, of a 200
	Sent       time.Time // when the request that was answered was first sent
	Received   time.Time
	RetryAfter int // seconds
	MinExpires int // seconds
}

// OK reports a 2xx.
func (a *Answer) OK() bool { return a.Status/100 == 2 }

// Options says how a Client works.
type Options struct {
	Conn      net.PacketConn // its socket; Close closes it
	Target    netip.AddrPort // the registrar
	Algorithm string         // SHA256 or MD5; "" takes the server's first
	// ShareNonce answers with a nonce that another account was given, in advance: the
	// nonce belongs to the realm (RFC 7616 section 3.3). Otherwise every account waits for
	// a challenge of its own once.
	ShareNonce bool
	Timeout    time.Duration // 0: timer F, 32 s
}

// Client is a crowd of phones behind one UDP socket; it is safe for concurrent use.
type Client struct {
	opts   Options
	local  string // host:port for Via
	serial atomic.Uint64
	prefix string // makes branches, tags and Call-IDs unique

	mu      sync.Mutex
	pending map[string]chan *response // by branch
	cseqs   map[string]uint32         // by Call-ID
	nonces  map[string]*session       // by realm, or by account
	err     error                     // why reading ended

	done chan struct{}
	// Sent and Retransmitted count datagrams.
	Sent, Retransmitted atomic.Uint64
}

// session is a nonce and how often it was used.
type session struct {
	challenge challenge
	count     uint32
}

// NewClient starts reading from the socket. The caller must Close the client.
func NewClient(o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = timerF
	}
	if c, ok := o.Conn.(*net.UDPConn); ok {
		// Less is fine too: what is lost is sent again.
		_, _ = c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer)
	}
	c := &Client{
		opts: o, local: o.Conn.LocalAddr().String(), prefix: rand.Text()[:10],
		pending: make(map[string]chan *response), cseqs: make(map[string]uint32),
		nonces: make(map[string]*session), done: make(chan struct{}),
	}
	go c.read()
	return c
}

// Close closes the socket; transactions under way end with an error.
func (c *Client) Close() error {
	err := c.opts.Conn.Close()
	<-c.done
	return err
}

// Local returns the client's address, host:port.
func (c *Client) Local() string { return c.local }

// read hands each response to the transaction that waits for it, until the socket is closed.
func (c *Client) read() {
	defer close(c.done)
	buf := make([]byte, datagramMax)
	for {
		n, _, err := c.opts.Conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.err = err
			for _, ch := range c.pending {
				close(ch)
			}
			c.pending = nil
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier datagram
		}
		r, err := parseResponse(buf[:n])
		if err != nil || r.status < 200 {
			continue
		}
		c.mu.Lock()
		if ch := c.pending[r.branch]; ch != nil {
			select {
			case ch <- r:
			default: // an answer to a retransmission, after the one that counted
			}
		}
		c.mu.Unlock()
	}
}

// transact sends a request and waits for its final response, sending it again as timer
// E says.
func (c *Client) transact(ctx context.Context, branch string, request []byte) (*response, error) {
	ch := make(chan *response, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	c.pending[branch] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, branch)
		c.mu.Unlock()
	}()
	to := net.UDPAddrFromAddrPort(c.opts.Target)
	deadline := time.NewTimer(c.opts.Timeout)
	defer deadline.Stop()
	for interval := t1; ; interval = min(2*interval, t2) {
		// A datagram that cannot be sent now (no route yet) is sent again like a lost one.
		if _, err := c.opts.Conn.WriteTo(request, to); errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		c.Sent.Add(1)
		again := time.NewTimer(interval)
		select {
		case r, ok := <-ch:
			again.Stop()
			if !ok {
				return nil, net.ErrClosed
			}
			return r, nil
		case <-again.C:
			c.Retransmitted.Add(1)
		case <-deadline.C:
			again.Stop()
			return nil, ErrTimeout
		case <-ctx.Done():
			again.Stop()
			return nil, ctx.Err()
		}
	}
}

// Register sends a REGISTER and answers its challenge. An error means that nobody knows
// whether the registrar has done what was asked.
func (c *Client) Register(ctx context.Context, r Registration) (*Answer, error) {
	if r.CallID == "" {
		r.CallID = c.prefix + "-" + r.Account.User + "@" + r.Account.Domain
	}
	uri := "sip:" + r.Account.Domain
	auth := c.authorize(r.Account, uri, nil)
	for range challengesMax {
		cseq := c.nextCSeq(r.CallID)
		branch := "z9hG4bK" + c.prefix + strconv.FormatUint(c.serial.Add(1), 36)
		sent := time.Now()
		resp, err := c.transact(ctx, branch, c.request(&r, uri, branch, cseq, auth))
		if err != nil {
			return nil, fmt.Errorf("register %s: %w", r.Account.AOR(), err)
		}
		if resp.status != 401 {
			return answer(&r, resp, cseq, sent)
		}
		chosen, err := choose(resp.headers["www-authenticate"], c.opts.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("register %s: %w", r.Account.AOR(), err)
		}
		if auth != "" && !chosen.stale && !c.opts.ShareNonce {
			return answer(&r, resp, cseq, sent) // the password is wrong
		}
		auth = c.authorize(r.Account, uri, &chosen)
	}
	return &Answer{Status: 401, Reason: "challenged too often"}, nil
}

func answer(r *Registration, resp *response, cseq uint32, sent time.Time) (*Answer, error) {
	a := &Answer{
		Status: resp.status, Reason: resp.reason, CallID: r.CallID, CSeq: cseq, Sent: sent, Received: time.Now(),
		RetryAfter: resp.seconds("retry-after"), MinExpires: resp.seconds("min-expires"),
	}
	var err error
	if a.OK() {
		a.Contacts, err = resp.contacts()
	}
	return a, err
}

// nextCSeq counts the requests with a Call-ID: the registrar relies on their order
// (RFC 3261 section 10.2).
func (c *Client) nextCSeq(callID string) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cseqs[callID]++
	return c.cseqs[callID]
}

// authorize returns the Authorization for a request, from a new challenge or from the
// nonce at hand; "" when there is none.
func (c *Client) authorize(a Account, uri string, fresh *challenge) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := a.Domain
	if !c.opts.ShareNonce {
		key = a.AOR()
	}
	if fresh != nil {
		if s := c.nonces[key]; s == nil || s.challenge.nonce != fresh.nonce {
			c.nonces[key] = &session{challenge: *fresh}
		}
	}
	s := c.nonces[key]
	if s == nil {
		return ""
	}
	s.count++
	return s.challenge.authorization(a, "REGISTER", uri, c.prefix, s.count)
}

func (c *Client) request(r *Registration, uri, branch string, cseq uint32, auth string) []byte {
	var b strings.Builder
	b.Grow(1024)
	fmt.Fprintf(&b, "REGISTER %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=%s;rport\r\nMax-Forwards: 70\r\n", uri, c.local, branch)
	fmt.Fprintf(&b, "From: <%s>;tag=%s\r\nTo: <%s>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\n", r.Account.AOR(), c.prefix, r.Account.AOR(), r.CallID, cseq)
	if r.Star {
		b.WriteString("Contact: *\r\nExpires: 0\r\n")
	}
	for _, contact := range r.Contacts {
		fmt.Fprintf(&b, "Contact: <%s>", contact.URI)
		if contact.Q != "" {
			b.WriteString(";q=" + contact.Q)
		}
		fmt.Fprintf(&b, ";expires=%d%s\r\n", contact.Expires, contact.Params)
	}
	for _, line := range r.Headers {
		b.WriteString(line + "\r\n")
	}
	if auth != "" {
		b.WriteString("Authorization: " + auth + "\r\n")
	}
	b.WriteString("User-Agent: sipload\r\nContent-Length: 0\r\n\r\n")
	return []byte(b.String())
}
