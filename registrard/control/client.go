package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"sipha/registrard/location"
)

// Client asks a daemon, over its Unix socket (Dial) or over the system bus (DialBus); the answers are the same. It is safe for
// concurrent use, and asks one thing at a time. Every method returns by the end of its context; without a deadline there the daemon
// has 10 s. Errors are *Error where the daemon said no or cannot be reached.
type Client struct {
	transport transport
}

// transport carries one request to the daemon and decodes its result into result, which may be nil.
type transport interface {
	call(ctx context.Context, method string, params, result any) error
	close() error
}

// Dial connects to the control socket at path; see SocketPath. The error is ErrUnavailable when nobody listens there, and
// ErrPermission when the caller may not connect.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, dialError(path, err)
	}
	s := &socket{path: path, conn: conn, turn: make(chan struct{}, 1), in: bufio.NewReaderSize(conn, 64<<10)}
	return &Client{transport: s}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.transport.close() }

// Ping returns nil when the daemon answers.
func (c *Client) Ping(ctx context.Context) error {
	return c.transport.call(ctx, methodPing, nil, nil)
}

// Status returns what the instance knows of itself and its group.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.transport.call(ctx, methodStatus, nil, &s)
	return s, err
}

// Score returns the promotion score that the agent should write into the cluster; nil: it should delete it.
func (c *Client) Score(ctx context.Context) (*int, error) {
	var r scoreResult
	err := c.transport.call(ctx, methodScore, nil, &r)
	return r.Score, err
}

// Config returns the configuration in force, with the origin of each value.
func (c *Client) Config(ctx context.Context) ([]Setting, error) {
	var r configResult
	err := c.transport.call(ctx, methodConfig, nil, &r)
	return r.Settings, err
}

// Promote makes the instance primary, and returns once its epoch is committed.
func (c *Client) Promote(ctx context.Context) error {
	return c.transport.call(ctx, methodPromote, nil, nil)
}

// Demote makes the instance a replica.
func (c *Client) Demote(ctx context.Context) error {
	return c.transport.call(ctx, methodDemote, nil, nil)
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	return c.transport.call(ctx, methodReload, nil, nil)
}

// Bootstrap lets the cluster's first log start with those nodes that are here; ErrInvalid where there is a log already.
func (c *Client) Bootstrap(ctx context.Context) error {
	return c.transport.call(ctx, methodBootstrap, nil, nil)
}

// Contacts returns a page of registrations after the given AOR ("" for the first page), and what to pass for the next page; "" when
// there is none.
func (c *Client) Contacts(ctx context.Context, after location.AOR, limit int) ([]Registration, location.AOR, error) {
	var r contactsResult
	err := c.transport.call(ctx, methodContactsList, listParams{After: after, Limit: limit}, &r)
	return r.Registrations, r.Next, err
}

// Registration returns the bindings of one AOR; ErrNotFound when it has none.
func (c *Client) Registration(ctx context.Context, aor location.AOR) (Registration, error) {
	var r Registration
	err := c.transport.call(ctx, methodContactsShow, aorParams{AOR: aor}, &r)
	return r, err
}

// RemoveContact removes one contact of an AOR, or all where contact is "", and returns how many it removed.
func (c *Client) RemoveContact(ctx context.Context, aor location.AOR, contact string) (int, error) {
	var r removedResult
	err := c.transport.call(ctx, methodContactsRemove, contactParams{AOR: aor, Contact: contact}, &r)
	return r.Removed, err
}

// Users returns a page of users, as Contacts does of registrations. The hashes are not among what is told.
func (c *Client) Users(ctx context.Context, after location.AOR, limit int) ([]User, location.AOR, error) {
	var r usersResult
	err := c.transport.call(ctx, methodUsersList, listParams{After: after, Limit: limit}, &r)
	return r.Users, r.Next, err
}

// AddUser stores a user; ErrExists when there is one and replace is false.
func (c *Client) AddUser(ctx context.Context, user User, replace bool) error {
	return c.transport.call(ctx, methodUsersAdd, usersParams{Users: []User{user}, Replace: replace}, nil)
}

// ImportUsers stores up to ImportMax users, in place of those that are there. More go in several calls. After an error some may have
// been stored; to import them again does no harm.
func (c *Client) ImportUsers(ctx context.Context, users []User) error {
	return c.transport.call(ctx, methodUsersImport, usersParams{Users: users, Replace: true}, nil)
}

// RemoveUser removes a user; ErrNotFound when there is none.
func (c *Client) RemoveUser(ctx context.Context, aor location.AOR) error {
	return c.transport.call(ctx, methodUsersRemove, aorParams{AOR: aor}, nil)
}

// socket is the transport over the Unix socket.
type socket struct {
	path string
	conn net.Conn
	turn chan struct{} // holds one token while a request is under way
	in   *bufio.Reader
	id   uint64
	dead error // after a broken exchange nothing on this connection can be trusted

	closeOnce sync.Once
}

func (s *socket) close() error {
	var err error
	s.closeOnce.Do(func() { err = s.conn.Close() })
	return err
}

func (s *socket) call(ctx context.Context, method string, params, result any) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return asError(context.Cause(ctx))
	}
	if s.dead != nil {
		return s.dead
	}
	ctx, cancel := withDefaultTimeout(ctx)
	defer cancel()
	s.id++
	line, err := encodeRequest(ctx, s.id, method, params)
	if err != nil {
		return err
	}
	// A past deadline on the connection is what ends a blocked read or write when the context does.
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	answer, err := s.exchange(line)
	if !stop() && err == nil {
		// The context ended just after the answer: the past deadline may still be set at any moment.
		s.dead = &Error{Code: CodeUnavailable, Message: "connection used up by a request that ran out of time"}
	}
	if err != nil {
		err = s.brokenError(ctx, err)
		s.dead = err
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return &Error{Code: CodeInternal, Message: fmt.Sprintf("answer to %s: %v", method, err), Hint: "are client and daemon of one version?"}
	}
	return nil
}

// exchange sends a line and reads the answer to it.
func (s *socket) exchange(line []byte) (*response, error) {
	if _, err := s.conn.Write(line); err != nil {
		// The daemon may have said why before it closed, as it does with a caller that it does not serve.
		if answer, readErr := s.read(); readErr == nil && answer.Error != nil {
			return answer, nil
		}
		return nil, err
	}
	return s.read()
}

func (s *socket) read() (*response, error) {
	line, err := readLine(s.in, resultMaxBytes)
	if err != nil {
		return nil, err
	}
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("answer is no JSON: %w", err)
	}
	if r.ID != s.id && (r.ID != 0 || r.Error == nil) { // an error with id 0 is about the connection
		return nil, fmt.Errorf("answer to request %d instead of %d", r.ID, s.id)
	}
	return &r, nil
}

func (s *socket) brokenError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return asError(context.Cause(ctx))
	}
	return &Error{Code: CodeUnavailable, Message: fmt.Sprintf("control socket %s: %v", s.path, err), Hint: "is the daemon shutting down? see its log"}
}

// readLine reads up to a newline; a line of more than limit bytes is ErrTooLarge. The end of the input within a line is an error.
func readLine(in *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > limit+1 {
			return nil, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("line of more than %d bytes", limit)}
		}
		line = append(line, part...)
		if err == nil {
			return bytes.TrimSuffix(line, []byte("\n")), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func withDefaultTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeoutDefault)
}

// timeoutMS is what the daemon is given of the time until the context's deadline, in milliseconds, at least 1: a tenth of it, half a
// second at the most, is for its answer to come back, so that the caller learns why it was not done.
func timeoutMS(ctx context.Context) int64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return timeoutDefault.Milliseconds()
	}
	left := time.Until(deadline)
	left -= min(left/10, answerMargin)
	return max(1, min(left, timeoutMax).Milliseconds())
}

func encodeRequest(ctx context.Context, id uint64, method string, params any) ([]byte, error) {
	r := request{ID: id, Method: method, TimeoutMS: timeoutMS(ctx)}
	if params != nil {
		p, err := json.Marshal(params)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", method, err)
		}
		r.Params = p
	}
	line, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", method, err)
	}
	if len(line) > lineMaxBytes {
		return nil, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("%s: request of %d bytes, over %d", method, len(line), lineMaxBytes), Hint: "split it"}
	}
	return append(line, '\n'), nil
}

func dialError(path string, err error) error {
	e := &Error{Code: CodeUnavailable, Message: fmt.Sprintf("connect to control socket %s: %v", path, errors.Unwrap(err))}
	switch {
	case errors.Is(err, os.ErrNotExist):
		e.Message = fmt.Sprintf("no control socket at %s", path)
		e.Hint = "is registrard running here, under this instance's name?"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message = fmt.Sprintf("nobody listens at control socket %s", path)
		e.Hint = "registrard has died; its log says why"
	case errors.Is(err, os.ErrPermission):
		e.Code, e.Message = CodePermission, fmt.Sprintf("control socket %s: permission denied", path)
		e.Hint = "be root, or a member of group haclient to read"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		e.Code, e.Message = CodeTimeout, fmt.Sprintf("connect to control socket %s: timed out", path)
	case errors.Is(err, syscall.EINVAL):
		e.Message = fmt.Sprintf("control socket %q: no usable path", path)
		e.Hint = "a Unix socket's path has at most 107 bytes"
	}
	return e
}
