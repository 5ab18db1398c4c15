package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"sipha/registrard/location"
)

// access is what a caller may do.
type access uint8

const (
	accessNone  access = iota
	accessRead         // methods that change nothing
	accessWrite        // all
)

// method is one method of the API.
type method struct {
	needs access
	do    func(ctx context.Context, service Service, params json.RawMessage) (any, error)
}

// methods returns the API's methods by name.
func methods() map[string]method {
	return map[string]method{
		methodPing:   {accessRead, func(context.Context, Service, json.RawMessage) (any, error) { return struct{}{}, nil }},
		methodStatus: {accessRead, func(_ context.Context, s Service, _ json.RawMessage) (any, error) { return s.Status(), nil }},
		methodScore: {accessRead, func(_ context.Context, s Service, _ json.RawMessage) (any, error) {
			return scoreResult{s.Status().Score}, nil
		}},
		methodConfig: {accessRead, func(_ context.Context, s Service, _ json.RawMessage) (any, error) {
			return configResult{s.Config()}, nil
		}},
		methodPromote: {accessWrite, func(ctx context.Context, s Service, _ json.RawMessage) (any, error) {
			return struct{}{}, s.Promote(ctx)
		}},
		methodDemote: {accessWrite, func(ctx context.Context, s Service, _ json.RawMessage) (any, error) { return struct{}{}, s.Demote(ctx) }},
		methodReload: {accessWrite, func(ctx context.Context, s Service, _ json.RawMessage) (any, error) { return struct{}{}, s.Reload(ctx) }},
		methodBootstrap: {accessWrite, func(ctx context.Context, s Service, _ json.RawMessage) (any, error) {
			return struct{}{}, s.Bootstrap(ctx)
		}},
		methodContactsList:   {accessRead, listContacts},
		methodContactsShow:   {accessRead, showContacts},
		methodContactsRemove: {accessWrite, removeContact},
		methodUsersList:      {accessRead, listUsers},
		methodUsersAdd:       {accessWrite, putUsers},
		methodUsersImport:    {accessWrite, putUsers},
		methodUsersRemove:    {accessWrite, removeUser},
	}
}

func listContacts(ctx context.Context, service Service, raw json.RawMessage) (any, error) {
	p, err := decodeList(raw)
	if err != nil {
		return nil, err
	}
	found, err := service.Contacts(ctx, p.After, p.Limit)
	if err != nil {
		return nil, err
	}
	r := contactsResult{Registrations: []Registration{}}
	found, r.Next, err = page(found, p.Limit, func(r Registration) location.AOR { return r.AOR })
	r.Registrations = append(r.Registrations, found...)
	return r, err
}

func showContacts(ctx context.Context, service Service, raw json.RawMessage) (any, error) {
	var p aorParams
	if err := decodeParams(raw, &p); err != nil {
		return nil, err
	}
	aor, err := parseAOR(p.AOR)
	if err != nil {
		return nil, err
	}
	return service.Registration(ctx, aor)
}

func removeContact(ctx context.Context, service Service, raw json.RawMessage) (any, error) {
	var p contactParams
	if err := decodeParams(raw, &p); err != nil {
		return nil, err
	}
	aor, err := parseAOR(p.AOR)
	if err != nil {
		return nil, err
	}
	n, err := service.RemoveContact(ctx, aor, p.Contact)
	return removedResult{n}, err
}

func listUsers(ctx context.Context, service Service, raw json.RawMessage) (any, error) {
	p, err := decodeList(raw)
	if err != nil {
		return nil, err
	}
	found, err := service.Users(ctx, p.After, p.Limit)
	if err != nil {
		return nil, err
	}
	users := make([]User, 0, len(found))
	for _, u := range found {
		users = append(users, shownUser(u))
	}
	r := usersResult{}
	r.Users, r.Next, err = page(users, p.Limit, func(u User) location.AOR { return u.AOR })
	return r, err
}

func putUsers(ctx context.Context, service Service, raw json.RawMessage) (any, error) {
	var p usersParams
	if err := decodeParams(raw, &p); err != nil {
		return nil, err
	}
	if len(p.Users) == 0 {
		return nil, invalid("users is needed")
	}
	if len(p.Users) > ImportMax {
		return nil, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("%d users in one request, over %d", len(p.Users), ImportMax), Hint: "split them"}
	}
	users := make([]location.User, 0, len(p.Users))
	for i, w := range p.Users {
		u, err := w.user()
		if err != nil {
			return nil, invalid("user %d (%q): %v", i+1, w.AOR, err)
		}
		users = append(users, u)
	}
	if err := service.PutUsers(ctx, users, p.Replace); err != nil {
		return nil, err
	}
	return storedResult{len(users)}, nil
}

func removeUser(ctx context.Context, service Service, raw json.RawMessage) (any, error) {
	var p aorParams
	if err := decodeParams(raw, &p); err != nil {
		return nil, err
	}
	aor, err := parseAOR(p.AOR)
	if err != nil {
		return nil, err
	}
	return struct{}{}, service.RemoveUser(ctx, aor)
}

// parseAOR takes an address-of-record as a caller wrote it into its canonical form.
func parseAOR(aor location.AOR) (location.AOR, error) {
	if aor == "" {
		return "", invalid("aor is needed")
	}
	canonical, err := location.ParseAOR(string(aor))
	if err != nil {
		return "", invalid("aor: %v", err)
	}
	return canonical, nil
}

func decodeList(raw json.RawMessage) (listParams, error) {
	var p listParams
	if err := decodeParams(raw, &p); err != nil {
		return p, err
	}
	if p.Limit < 0 {
		return p, invalid("limit is negative")
	}
	if p.Limit == 0 || p.Limit > PageMax {
		p.Limit = PageMax
	}
	return p, nil
}

// decodeParams takes the params of a request into p; none at all is the same as {}. A member that p has not is an error: a
// misspelt "contact" must not remove them all.
func decodeParams(raw json.RawMessage, p any) error {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return invalid("params: %v", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func invalid(format string, a ...any) *Error {
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf(format, a...)}
}
