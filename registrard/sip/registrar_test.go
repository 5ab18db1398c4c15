package sip

import (
	"sync"
	"sync/atomic"
	"time"

	"sipha/registrard/location"
)

// memoryRegistrar is a Registrar on location's State and Decide, with nothing behind it: it decides and commits in a loop of its own, as the real
// one does. Faults make it as bad as that can be.
type memoryRegistrar struct {
	serving  atomic.Bool
	requests chan func()
	loop     sync.WaitGroup
	now      func() location.Time

	mu     sync.RWMutex // of state
	state  *location.State
	policy location.Policy

	faults func(r *location.Request) fault // nil: none
	held   []func()                        // callbacks kept back by a fault; the loop's own
}

// fault is what happens to one REGISTER.
type fault struct {
	err    error // what done gets instead of an answer
	hold   bool  // done is not called before release
	silent bool  // done is never called
}

const testUserAOR = location.AOR("sip:alice@example.org")

func newMemoryRegistrar() *memoryRegistrar {
	m := &memoryRegistrar{
		requests: make(chan func(), 1<<16),
		state:    location.NewState(),
		policy:   location.Policy{ExpiresMin: 60, ExpiresMax: 7200, ExpiresDefault: 3600, ContactsMax: 10, TombstoneLife: 300_000},
		now:      func() location.Time { return location.Time(time.Now().UnixMilli()) },
	}
	m.serving.Store(true)
	key := location.Key{ID: 1, Created: m.now()}
	copy(key.Secret[:], "a secret of thirty-two octets...")
	m.state.Apply(m.now(), []location.Change{&location.KeyChange{Key: key}})
	m.loop.Go(func() {
		for f := range m.requests {
			f()
		}
	})
	return m
}

func (m *memoryRegistrar) close() {
	close(m.requests)
	m.loop.Wait()
}

func (m *memoryRegistrar) addUser(u location.User) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Apply(m.now(), []location.Change{&location.UserChange{User: u}})
}

func (m *memoryRegistrar) Register(r *location.Request, done func(location.Answer, error)) {
	m.requests <- func() {
		var f fault
		if m.faults != nil {
			f = m.faults(r)
		}
		if f.err != nil {
			done(location.Answer{}, f.err)
			return
		}
		now := m.now()
		m.mu.Lock()
		change, answer := location.Decide(m.state, r, now, &m.policy)
		if change != nil {
			m.state.Apply(now, []location.Change{change})
		}
		m.mu.Unlock()
		switch {
		case f.silent:
		case f.hold:
			m.held = append(m.held, func() { done(answer, nil) })
		default:
			done(answer, nil)
		}
	}
}

// release calls the callbacks that were held, the last first.
func (m *memoryRegistrar) release() {
	finished := make(chan struct{})
	m.requests <- func() {
		for i := range m.held {
			m.held[len(m.held)-1-i]()
		}
		m.held = nil
		close(finished)
	}
	<-finished
}

func (m *memoryRegistrar) Lookup(aor location.AOR, done func(location.Lookup, error)) {
	m.requests <- func() {
		m.mu.RLock()
		found := location.Find(m.state, aor, m.now())
		m.mu.RUnlock()
		done(found, nil)
	}
}

func (m *memoryRegistrar) User(aor location.AOR) (location.User, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.User(aor)
}

func (m *memoryRegistrar) Keys() []location.Key {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.Keys()
}

func (m *memoryRegistrar) Now() location.Time { return m.now() }
func (m *memoryRegistrar) Serving() bool      { return m.serving.Load() }

func (m *memoryRegistrar) bindings(aor location.AOR) []location.Binding {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.Bindings(aor)
}
