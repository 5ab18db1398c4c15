package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/local"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/store"
)

// Times of the start.
const (
	// corosyncTimeout is how long a start waits for Corosync.
	corosyncTimeout = 10 * time.Second
	// transactionLife is the life of a SIP transaction: Timer F, 64*T1 (RFC 3261 section 17.1.2.2).
	transactionLife = 32 * time.Second
)

// membership is who this node is, who else there is, and how its group is joined.
type membership struct {
	self     nodeIdentity
	names    map[location.NodeID]string
	expected int
	dial     func(context.Context) (node.Group, error)
	close    func() error // gives up what was not handed on by dial
}

// join finds out who we are: from Corosync, or alone.
func join(ctx context.Context, c *Config) (*membership, error) {
	if c.Standalone {
		return alone()
	}
	ctx, cancel := context.WithTimeout(ctx, corosyncTimeout)
	defer cancel()
	dialer := new(cpg.Dialer)
	conn, err := dialer.Dial(ctx)
	if err != nil {
		_ = dialer.Close() // never fails
		return nil, corosyncError(err)
	}
	cluster, err := conn.Config(ctx)
	if err != nil {
		_ = conn.Close() // err says more
		return nil, corosyncError(err)
	}
	m := &membership{self: nodeIdentity{id: location.NodeID(conn.LocalNode())}, names: make(map[location.NodeID]string), expected: c.ExpectedNodes}
	for _, n := range cluster.Nodes {
		m.names[location.NodeID(n.ID)] = n.Name
	}
	if m.self.name = m.names[m.self.id]; m.self.name == "" {
		if m.self.name, err = os.Hostname(); err != nil {
			_ = conn.Close() // err says more
			return nil, fmt.Errorf("name of this node: %w", err)
		}
	}
	if m.expected == 0 {
		m.expected = len(cluster.Nodes)
	}
	first := conn // the first session uses the connection that is there
	m.dial = func(ctx context.Context) (node.Group, error) {
		conn := first
		first = nil
		if conn == nil {
			var err error
			if conn, err = dialer.Dial(ctx); err != nil {
				return nil, err
			}
		}
		group, err := conn.Join(ctx, groupName(c.Instance))
		if err != nil {
			_ = conn.Close() // err says more
			return nil, err
		}
		return group, nil
	}
	m.close = func() error {
		if first != nil {
			_ = first.Close() // nothing was done with it
		}
		return dialer.Close()
	}
	return m, nil
}

// groupName is the instance's process group.
func groupName(instance string) string { return "registrard:" + instance }

// alone is a cluster of one.
func alone() (*membership, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name of this node: %w", err)
	}
	const self = 1
	return &membership{
		self: nodeIdentity{id: self, name: name}, expected: 1,
		dial:  func(context.Context) (node.Group, error) { return local.Join(local.Options{Node: self}), nil },
		close: func() error { return nil },
	}, nil
}

func corosyncError(err error) error {
	code := exitUnavailable
	if errors.Is(err, cpg.ErrAccess) {
		code = exitPermission
	}
	return fail(code, fmt.Errorf("corosync: %w (registrard run --standalone needs none)", err))
}

// policy is what the configuration says about REGISTERs.
func (c *Config) policy() location.Policy {
	return location.Policy{
		ExpiresMin: uint32(c.ExpiresMin / time.Second), ExpiresMax: uint32(c.ExpiresMax / time.Second), ExpiresDefault: uint32(c.ExpiresDefault / time.Second),
		ContactsMax: c.ContactsMax, TombstoneLife: (transactionLife + c.NonceLife).Milliseconds(),
	}
}

// openNode opens the database and makes the node. The store is the caller's to close.
func openNode(c *Config, m *membership, counts *metrics, log *slog.Logger) (*node.Node, *store.Store, error) {
	dir := c.databaseDirectory()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	db, found, err := store.Open(dir, store.Options{Durable: c.Durable})
	if err != nil {
		return nil, nil, fmt.Errorf("database: %w", err) // it names the file; a cluster shows 128 bytes of this
	}
	if found.SetAside != "" {
		log.Error("the database was damaged and is set aside; this node gets a new copy from the others", "aside", found.SetAside)
		counts.SetAside()
	}
	return node.New(node.Options{
		Node: m.self.id, Name: m.self.name, Version: buildVersion(), ConfigHash: c.Hash(), Expected: m.expected, Grace: c.Grace, AddedMax: c.OutageMax,
		NonceLife: c.NonceLife, Policy: c.policy(), Store: db, Boot: found, Dial: m.dial, Log: log, Observe: counts,
	}), db, nil
}

// databaseDirectory is the instance's own.
func (c *Config) databaseDirectory() string { return filepath.Join(c.Database, c.Instance) }
