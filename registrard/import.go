package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/sip/digest"
)

// Limits of an import.
const (
	// importChunk is how many users go to the daemon at a time.
	importChunk = control.ImportMax
	// importColumnsMax is how many columns a row has at the most: user, domain, a hash for each algorithm.
	importColumnsMax = 5
)

// readUsers reads CSV and hands the users on in chunks. Errors name the line, and never what stands in it: it may be a password.
func readUsers(name string, in io.Reader, policy userPolicy, do func([]control.User) error) error {
	r := csv.NewReader(withoutBOM(in))
	r.FieldsPerRecord = -1
	r.Comment = '#'
	r.ReuseRecord = true
	var chunk []control.User
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var syntax *csv.ParseError
		if errors.As(err, &syntax) {
			return failf(exitData, "%s:%d: %w", name, syntax.Line, syntax.Err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if first && isHeader(row) {
			continue
		}
		u, err := userOfRow(row, policy)
		if err != nil {
			line, _ := r.FieldPos(0)
			return failf(exitData, "%s:%d: %w", name, line, err)
		}
		if chunk = append(chunk, control.NewUser(u)); len(chunk) == importChunk {
			if err := do(chunk); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
	}
	if len(chunk) == 0 {
		return nil
	}
	return do(chunk)
}

// userOfRow takes user,domain,password or user,domain,HASH..., where HASH is md5:, sha-256: or sha-512-256: and hexadecimal digits.
func userOfRow(row []string, policy userPolicy) (location.User, error) {
	if len(row) < 3 || len(row) > importColumnsMax {
		return location.User{}, fmt.Errorf("%d columns: want user,domain,password or user,domain,md5:HASH,sha-256:HASH", len(row))
	}
	name, domain := strings.TrimSpace(row[0]), strings.TrimSpace(row[1])
	aor, err := location.ParseAOR("sip:" + escapeUser(name) + "@" + domain)
	if err != nil {
		return location.User{}, errors.New("user or domain cannot stand in an address")
	}
	u, err := policy.user(aor)
	if err != nil {
		return u, fmt.Errorf("the domain is none of the registrar's: %s", strings.Join(policy.domains, ", "))
	}
	u.Username = name
	if len(row) == 3 && !isHash(row[2]) {
		password, err := checkPassword(row[2])
		if err != nil {
			return u, err
		}
		return u, digest.SetPassword(&u, password)
	}
	for _, field := range row[2:] {
		label, hash, _ := strings.Cut(strings.TrimSpace(field), ":")
		algorithm := digest.ParseAlgorithm([]byte(label))
		if algorithm == 0 {
			return u, errors.New("a hash needs its algorithm before it, as in md5:HASH, sha-256:HASH or sha-512-256:HASH")
		}
		if u.Has&(1<<algorithm) != 0 {
			return u, fmt.Errorf("%s is there twice", digest.AlgorithmName(algorithm))
		}
		if err := digest.SetHA1(&u, algorithm, hash); err != nil {
			return u, err
		}
	}
	return u, nil
}

// isHash tells a hash from a password: an algorithm's name, a colon, and as many hexadecimal digits as its hash has.
func isHash(field string) bool {
	label, hash, ok := strings.Cut(strings.TrimSpace(field), ":")
	if !ok {
		return false
	}
	algorithm := digest.ParseAlgorithm([]byte(label))
	u := location.User{Username: "x", Realm: "x"}
	return algorithm != 0 && digest.SetHA1(&u, algorithm, hash) == nil
}

// escapeUser writes a user as it stands in a URI (RFC 3261 section 25.1: unreserved and user-unreserved stay).
func escapeUser(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'()&=+$,;?/"
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
