package location

// The classes of characters that RFC 3261 section 25.1 lets stand unescaped in the parts of a SIP URI.
type class uint8

const (
	classUser class = iota
	classPassword
	classParam
	classHeader
)

// in tells whether c may stand unescaped in a part of this class.
func (k class) in(c byte) bool {
	if unreserved(c) {
		return true
	}
	switch c {
	case '&':
		return k != classHeader
	case '+', '$':
		return true
	case '=', ',':
		return k == classUser || k == classPassword
	case ';':
		return k == classUser
	case '?':
		return k == classUser || k == classHeader
	case '/':
		return k != classPassword
	case '[', ']', ':':
		return k == classParam || k == classHeader
	}
	return false
}

// unreserved is alphanum and mark.
func unreserved(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	switch c {
	case '-', '_', '.', '!', '~', '*', '\'', '(', ')':
		return true
	}
	return false
}

// reserved is the set whose members are not equivalent to their escapes (RFC 3261 section 19.1.4).
func reserved(c byte) bool {
	switch c {
	case ';', '/', '?', ':', '@', '&', '=', '+', '$', ',':
		return true
	}
	return false
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case lower(c) >= 'a' && lower(c) <= 'f':
		return lower(c) - 'a' + 10, true
	}
	return 0, false
}

// escape reads %HH at s[i].
func escape(s string, i int) (byte, bool) {
	if i+2 >= len(s) || s[i] != '%' {
		return 0, false
	}
	high, ok := hexDigit(s[i+1])
	if !ok {
		return 0, false
	}
	low, ok := hexDigit(s[i+2])
	return high<<4 | low, ok
}

// allOf tells whether s is made of escapes and characters of the class alone.
func allOf(s string, k class) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if _, ok := escape(s, i); !ok {
				return false
			}
			i += 2
		} else if !k.in(s[i]) {
			return false
		}
	}
	return true
}

// unit reads one character at s[i], escaped or not, and how many bytes it takes. Of a reserved character the escaped form is another
// character than the plain one, which the result's bit 8 tells.
func unit(s string, i int) (c uint16, size int) {
	if b, ok := escape(s, i); ok {
		if reserved(b) {
			return uint16(b) | 1<<8, 3
		}
		return uint16(b), 3
	}
	return uint16(s[i]), 1
}

// equalEscaped compares two parts of a URI with escapes resolved, in fold without regard to case.
func equalEscaped(a, b string, fold bool) bool {
	if a == b {
		return true
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		c, n := unit(a, i)
		d, m := unit(b, j)
		if c != d && (!fold || c > 0xff || d > 0xff || lower(byte(c)) != lower(byte(d))) {
			return false
		}
		i, j = i+n, j+m
	}
	return i == len(a) && j == len(b)
}

func hasPrefixFold(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if lower(s[i]) != prefix[i] {
			return false
		}
	}
	return true
}
