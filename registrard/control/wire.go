package control

import (
	"encoding/json"
	"time"

	"sipha/registrard/location"
)

// Limits of the protocol.
const (
	// lineMaxBytes is the longest request, without its newline.
	lineMaxBytes = 1 << 20
	// resultMaxBytes is the longest answer that a client takes.
	resultMaxBytes = 4 << 20
	// pageMaxBytes is what a list's records may come to in one answer, as JSON; the rest is asked for again.
	pageMaxBytes = 768 << 10
	// PageMax is the most records of a list in one answer.
	PageMax = 1000
	// ImportMax is the most users in one users.import.
	ImportMax = 1000
	// timeoutDefault is the time for a request that names none.
	timeoutDefault = 10 * time.Second
	// timeoutMax is the longest time that a request is given.
	timeoutMax = 10 * time.Minute
	// answerMargin is the most that a client keeps back of its own time for the answer to arrive.
	answerMargin = 500 * time.Millisecond
)

// The methods.
const (
	methodPing           = "ping"
	methodStatus         = "status"
	methodScore          = "score"
	methodConfig         = "config"
	methodPromote        = "promote"
	methodDemote         = "demote"
	methodReload         = "reload"
	methodBootstrap      = "bootstrap"
	methodContactsList   = "contacts.list"
	methodContactsShow   = "contacts.show"
	methodContactsRemove = "contacts.remove"
	methodUsersList      = "users.list"
	methodUsersAdd       = "users.add"
	methodUsersRemove    = "users.remove"
	methodUsersImport    = "users.import"
)

// request is one line to the daemon.
type request struct {
	ID        uint64          `json:"id"`
	Method    string          `json:"method"`
	Params    json.RawMessage `json:"params,omitempty"`
	TimeoutMS int64           `json:"timeout_ms,omitempty"`
}

// response is one line from the daemon: a result or an error.
type response struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// listParams asks for a page of a list: up to Limit records after After.
type listParams struct {
	After location.AOR `json:"after,omitempty"`
	Limit int          `json:"limit,omitempty"`
}

type aorParams struct {
	AOR location.AOR `json:"aor"`
}

type contactParams struct {
	AOR     location.AOR `json:"aor"`
	Contact string       `json:"contact,omitempty"`
}

type usersParams struct {
	Users   []User `json:"users"`
	Replace bool   `json:"replace,omitempty"`
}

type scoreResult struct {
	Score *int `json:"score"`
}

type configResult struct {
	Settings []Setting `json:"settings"`
}

type removedResult struct {
	Removed int `json:"removed"`
}

type storedResult struct {
	Stored int `json:"stored"`
}

// contactsResult is a page of registrations; Next is what to ask for as After, and "" at the end.
type contactsResult struct {
	Registrations []Registration `json:"registrations"`
	Next          location.AOR   `json:"next,omitempty"`
}

// usersResult is a page of users.
type usersResult struct {
	Users []User       `json:"users"`
	Next  location.AOR `json:"next,omitempty"`
}

// page cuts records to what one answer may hold, and returns the key of the last one where more may follow. At least one record stays.
func page[T any](records []T, limit int, key func(T) location.AOR) ([]T, location.AOR, error) {
	size := 0
	for i, r := range records {
		b, err := json.Marshal(r)
		if err != nil {
			return nil, "", err
		}
		if size += len(b) + 1; size > pageMaxBytes && i > 0 {
			return records[:i], key(records[i-1]), nil
		}
	}
	if len(records) > 0 && len(records) >= limit {
		return records, key(records[len(records)-1]), nil
	}
	return records, "", nil
}
