package control

import (
	"fmt"

	"github.com/godbus/dbus/v5"
)

// scoreUnset is the property Score where there is none: D-Bus has no null.
const scoreUnset = int32(-1)

// property is one field of Status on the bus.
type property struct {
	name string
	// told is set where PropertiesChanged carries the new value; the rest moves with every REGISTER and is only to be asked for.
	told bool
	get  func(*Status) any
	set  func(*Status, dbus.Variant) error
}

// same is a property whose value on the bus is the field itself.
func same[T any](name string, told bool, at func(*Status) *T) property {
	return property{
		name: name, told: told,
		get: func(s *Status) any { return *at(s) },
		set: func(s *Status, v dbus.Variant) error { return v.Store(at(s)) },
	}
}

// properties are all fields of Status, in its order.
func properties() []property {
	return []property{
		same("Node", true, func(s *Status) *string { return &s.Node }),
		same("NodeID", true, func(s *Status) *uint32 { return &s.NodeID }),
		same("Instance", true, func(s *Status) *string { return &s.Instance }),
		{
			name: "Role", told: true,
			get: func(s *Status) any { return string(s.Role) },
			set: func(s *Status, v dbus.Variant) error { return v.Store((*string)(&s.Role)) },
		},
		{
			name: "State", told: true,
			get: func(s *Status) any { return string(s.State) },
			set: func(s *Status, v dbus.Variant) error { return v.Store((*string)(&s.State)) },
		},
		same("Epoch", true, func(s *Status) *string { return &s.Epoch }),
		same("Index", false, func(s *Status) *uint64 { return &s.Index }),
		same("Committed", false, func(s *Status) *uint64 { return &s.Committed }),
		same("Digest", false, func(s *Status) *string { return &s.Digest }),
		same("Synced", true, func(s *Status) *bool { return &s.Synced }),
		same("Complete", true, func(s *Status) *bool { return &s.Complete }),
		same("Serving", true, func(s *Status) *bool { return &s.Serving }),
		same("Quorate", true, func(s *Status) *bool { return &s.Quorate }),
		same("Ring", true, func(s *Status) *string { return &s.Ring }),
		same("Voters", true, func(s *Status) *[]Voter { return &s.Voters }),
		{
			name: "Members", // not told: it carries indexes
			get: func(s *Status) any {
				members := make([]busMember, 0, len(s.Members))
				for _, m := range s.Members {
					members = append(members, busMember{m.NodeID, m.Name, string(m.Role), m.Index, m.Synced})
				}
				return members
			},
			set: func(s *Status, v dbus.Variant) error {
				var members []busMember
				if err := v.Store(&members); err != nil {
					return err
				}
				s.Members = make([]Member, 0, len(members))
				for _, m := range members {
					s.Members = append(s.Members, Member{NodeID: m.NodeID, Name: m.Name, Role: Role(m.Role), Index: m.Index, Synced: m.Synced})
				}
				return nil
			},
		},
		same("Bindings", false, func(s *Status) *uint64 { return &s.Bindings }),
		same("AORs", false, func(s *Status) *uint64 { return &s.AORs }),
		same("Users", false, func(s *Status) *uint64 { return &s.Users }),
		{
			name: "Score", told: true,
			get: func(s *Status) any {
				if s.Score == nil {
					return scoreUnset
				}
				return int32(*s.Score)
			},
			set: func(s *Status, v dbus.Variant) error {
				var score int32
				if err := v.Store(&score); err != nil {
					return err
				}
				s.Score = nil
				if score != scoreUnset {
					n := int(score)
					s.Score = &n
				}
				return nil
			},
		},
		same("Degraded", true, func(s *Status) *[]string { return &s.Degraded }),
		same("Progress", false, func(s *Status) *string { return &s.Progress }),
		{
			name: "PID", told: true,
			get: func(s *Status) any { return uint32(s.PID) },
			set: func(s *Status, v dbus.Variant) error {
				var pid uint32
				err := v.Store(&pid)
				s.PID = int(pid)
				return err
			},
		},
		same("Version", true, func(s *Status) *string { return &s.Version }),
		same("UptimeS", false, func(s *Status) *uint64 { return &s.UptimeS }),
		same("LastError", true, func(s *Status) *string { return &s.LastError }),
		same("Durable", true, func(s *Status) *bool { return &s.Durable }),
		same("Standalone", true, func(s *Status) *bool { return &s.Standalone }),
		same("ConfigHash", true, func(s *Status) *string { return &s.ConfigHash }),
	}
}

// busMember is a Member of types that D-Bus knows: (usstb) in the order of its fields.
type busMember struct {
	NodeID uint32
	Name   string
	Role   string
	Index  uint64
	Synced bool
}

// statusValues is a Status as GetAll returns it. nil lists become empty ones, so that their types stay.
func statusValues(s Status) map[string]dbus.Variant {
	if s.Voters == nil {
		s.Voters = []Voter{}
	}
	if s.Degraded == nil {
		s.Degraded = []string{}
	}
	values := make(map[string]dbus.Variant)
	for _, p := range properties() {
		values[p.name] = dbus.MakeVariant(p.get(&s))
	}
	return values
}

// statusOf is the way back from statusValues. A property that is missing is one of another version, and keeps its zero value; Role
// and State must be there.
func statusOf(values map[string]dbus.Variant) (Status, error) {
	s := Status{Voters: []Voter{}, Members: []Member{}, Degraded: []string{}}
	for _, p := range properties() {
		v, ok := values[p.name]
		if !ok {
			if p.name == "Role" || p.name == "State" {
				return s, fmt.Errorf("property %s is missing", p.name)
			}
			continue
		}
		if err := p.set(&s, v); err != nil {
			return s, fmt.Errorf("property %s: %w", p.name, err)
		}
	}
	return s, nil
}
