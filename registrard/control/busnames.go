package control

import "strings"

// Names on the system bus.
const (
	busName      = "org.sipha.Registrard1"
	busPath      = "/org/sipha/Registrard1"
	busInterface = "org.sipha.Registrard1"         // properties and signals
	busManager   = "org.sipha.Registrard1.Manager" // Promote, Demote, Reload, Call
	busErrors    = "org.sipha.Registrard1.Error."  // followed by a code in CamelCase

	busProperties = "org.freedesktop.DBus.Properties"
	busPeer       = "org.freedesktop.DBus.Peer"
	busDaemon     = "org.freedesktop.DBus"
)

// errorName is the D-Bus name of a code: "not_primary" is org.sipha.Registrard1.Error.NotPrimary.
func errorName(c Code) string {
	var b strings.Builder
	b.WriteString(busErrors)
	for word := range strings.SplitSeq(string(c), "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// errorCode is the way back from errorName; false for a name of somebody else's.
func errorCode(name string) (Code, bool) {
	word, ok := strings.CutPrefix(name, busErrors)
	if !ok || word == "" {
		return "", false
	}
	var b strings.Builder
	for i, c := range word {
		if c >= 'A' && c <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return Code(b.String()), true
}
