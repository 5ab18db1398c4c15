package node

import (
	"encoding/json"
	"testing"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/store"
)

// FuzzCommand holds what comes of a forwarded command to what every replica can take in, whatever was sent.
func FuzzCommand(f *testing.F) {
	aor := location.AOR("sip:alice@example.org")
	for _, c := range []Command{
		{RemoveContact: &RemoveContact{AOR: aor, Contact: "sip:alice@192.0.2.7:5060"}},
		{RemoveContact: &RemoveContact{AOR: aor}},
		{PutUsers: &PutUsers{Users: []location.User{{AOR: aor, Username: "alice", Realm: "example.org", Has: 255}}, Replace: true}},
		{RemoveUser: &aor},
		{Probe: &aor},
		{Probe: &aor, RemoveUser: &aor},
	} {
		b, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"put_users":{"users":[{"AOR":"\u0000"},{"AOR":"\u0000"}],"replace":true}}`))
	f.Add([]byte(`{"later":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := decodeCommand(b)
		if err != nil {
			return
		}
		s := location.NewState()
		s.Apply(1, []location.Change{
			&location.BindingsChange{AOR: aor, Put: []location.Binding{{Contact: "sip:alice@192.0.2.7:5060", Q: -1, Expires: 1000, CallID: "a"}}},
			&location.UserChange{User: location.User{AOR: aor, Username: "alice", Realm: "example.org"}},
		})
		n := New(Options{Boot: &store.Recovered{State: s}, Policy: location.Policy{TombstoneLife: 1000}})
		l := &loop{node: n, overlay: location.NewOverlay(s)}
		changes, o := l.effects(cmd, 2)
		o.ID, o.Until = location.RequestID{Node: 1, Incarnation: 1, Number: 1}, location.Time(time.Minute/time.Millisecond)
		changes = append(changes, &location.OutcomeChange{Outcome: o})
		payload := location.AppendChanges(nil, changes)
		decoded, err := location.DecodeChanges(payload)
		if err != nil {
			t.Fatalf("no replica takes it in: %v", err)
		}
		if o.Status != 200 && o.Status != 400 && o.Status != 404 && o.Status != 409 {
			t.Fatalf("status %d", o.Status)
		}
		// What the primary has worked out is what a replica comes to.
		digest := l.overlay.Stage(changes)
		if s.Apply(2, decoded); s.Digest() != digest {
			t.Fatalf("digest %s on a replica, %s on the primary", s.Digest(), digest)
		}
	})
}
