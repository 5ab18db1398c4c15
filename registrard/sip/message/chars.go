package message

// Classes of bytes, as bits (RFC 3261 section 25.1).
const (
	isToken   = 1 << iota // token
	isWord                // word of a Call-ID
	isValue               // gen-value that is not quoted: token or host
	isText                // may stand in any header value: not a control character, but HTAB
	isURI                 // reserved, unreserved or the percent sign of an escape
	isVisible             // neither SP nor HTAB nor a control character
)

// classes tells the classes of each byte; it is never written to.
var classes = func() (t [256]uint8) {
	const alphanum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	set := func(chars string, bits uint8) {
		for i := range len(chars) {
			t[chars[i]] |= bits
		}
	}
	set(alphanum, isToken|isWord|isValue|isURI)
	set("-.!%*_+`'~", isToken|isWord|isValue)
	set("()<>:\\\"/[]?{}", isWord)
	set("[]:", isValue)
	set(";/?:@&=+$,-_.!~*'()%[]", isURI)
	for c := range 256 {
		if c >= 0x20 && c != 0x7f || c == '\t' {
			t[c] |= isText
		}
		if c > 0x20 && c != 0x7f {
			t[c] |= isVisible
		}
	}
	return t
}()

func is(c byte, class uint8) bool { return classes[c]&class != 0 }

// all tells whether b is not empty and made of one class.
func all(b []byte, class uint8) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return len(b) > 0
}

// span returns how many bytes at the front of b are of the class.
func span(b []byte, class uint8) int {
	for i, c := range b {
		if classes[c]&class == 0 {
			return i
		}
	}
	return len(b)
}

// space returns how much white space stands at the front of b. Folds were made plain spaces before.
func space(b []byte) int {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return i
}

func trimLeft(b []byte) []byte { return b[space(b):] }

func trimRight(b []byte) []byte {
	n := len(b)
	for n > 0 && (b[n-1] == ' ' || b[n-1] == '\t') {
		n--
	}
	return b[:n]
}

func trim(b []byte) []byte { return trimRight(trimLeft(b)) }

// fold tells whether b equals s, which is in lower case, without regard to case.
func fold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// foldEqual compares without regard to case.
func foldEqual(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		d := b[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if d >= 'A' && d <= 'Z' {
			d += 'a' - 'A'
		}
		if c != d {
			return false
		}
	}
	return true
}

// number reads a decimal number; one above most is most. It is false for anything but digits.
func number(b []byte, most int64) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n <= most {
			n = n*10 + int64(c-'0')
		}
	}
	return min(n, most), true
}

// quoted returns the length of the quoted-string at the front of b, quotes included, or 0 (RFC 3261 section 25.1).
func quoted(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); i++ {
		switch {
		case b[i] == '"':
			return i + 1
		case b[i] == '\\':
			i++
			if i == len(b) || b[i] >= 0x80 {
				return 0
			}
		case !is(b[i], isText):
			return 0
		}
	}
	return 0
}
