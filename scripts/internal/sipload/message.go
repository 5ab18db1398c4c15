package sipload

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// response is what the client needs of a SIP response.
type response struct {
	status  int
	reason  string
	branch  string // of the topmost Via
	cseq    string
	headers map[string][]string // by lower-case long name, in order
}

var errMalformed = errors.New("malformed SIP response")

// longNames are the compact forms (RFC 3261 section 7.3.3) of headers that matter here.
var longNames = map[string]string{"v": "via", "m": "contact", "i": "call-id", "f": "from", "t": "to", "l": "content-length"}

// parseResponse reads a response datagram.
func parseResponse(raw []byte) (*response, error) {
	head, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	version, rest, _ := strings.Cut(lines[0], " ")
	code, reason, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if version != "SIP/2.0" || err != nil || status < 100 || status > 699 {
		return nil, fmt.Errorf("%w: %.40q", errMalformed, lines[0])
	}
	r := &response{status: status, reason: reason, headers: make(map[string][]string)}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%w: header %.40q", errMalformed, line)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if long, ok := longNames[name]; ok {
			name = long
		}
		r.headers[name] = append(r.headers[name], strings.TrimSpace(value))
	}
	if via := r.headers["via"]; len(via) > 0 {
		r.branch = param(via[0], "branch")
	}
	r.cseq = r.first("cseq")
	return r, nil
}

func (r *response) first(name string) string {
	if v := r.headers[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// seconds returns a header that is a number of seconds, or 0.
func (r *response) seconds(name string) int {
	digits, _, _ := strings.Cut(strings.TrimSpace(r.first(name)), ";")
	digits, _, _ = strings.Cut(digits, " ")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// contacts returns the bindings that a 200 to REGISTER lists.
func (r *response) contacts() ([]Contact, error) {
	var all []Contact
	for _, header := range r.headers["contact"] {
		for _, value := range splitOutside(header, ',') {
			c, err := parseContact(value)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func parseContact(value string) (Contact, error) {
	value = strings.TrimSpace(value)
	_, rest, open := strings.Cut(value, "<")
	uri, params, closed := strings.Cut(rest, ">")
	if !open || !closed {
		return Contact{}, fmt.Errorf("%w: contact %.80q", errMalformed, value)
	}
	c := Contact{URI: uri}
	for i, p := range splitOutside(params, ';') {
		name, v, _ := strings.Cut(p, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "q":
			c.Q = strings.TrimSpace(v)
		case "expires":
			n, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil {
				return Contact{}, fmt.Errorf("%w: expires %.20q", errMalformed, v)
			}
			c.Expires = n
		default:
			if i > 0 { // before the first semicolon there is nothing
				c.Params += ";" + strings.TrimSpace(p)
			}
		}
	}
	return c, nil
}

// param returns the value of a parameter after a header's value, without its quotes.
func param(value, name string) string {
	for _, p := range splitOutside(value, ';') {
		key, v, ok := strings.Cut(p, "=")
		if ok && strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// splitOutside splits at sep where it is neither in quotes nor in angle brackets.
func splitOutside(s string, sep byte) []string {
	var parts []string
	quoted, angle, start := false, false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case quoted:
		case s[i] == '<':
			angle = true
		case s[i] == '>':
			angle = false
		case s[i] == sep && !angle:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[min(start, len(s)):])
}
