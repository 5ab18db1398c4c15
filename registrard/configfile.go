package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// decode takes a file's values over what c has, and returns what is wrong with the file, one error each, with its line.
func (c *Config) decode(path string, data []byte) []error {
	if !utf8.Valid(data) {
		return []error{fmt.Errorf("%s: is not UTF-8", path)}
	}
	var file map[string]any
	if _, err := toml.Decode(string(data), &file); err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return []error{fmt.Errorf("%s:%d: %s", path, syntax.Position.Line, syntax.Message)}
		}
		return []error{fmt.Errorf("%s: %w", path, err)}
	}
	known := make(map[string]setting)
	for _, s := range settings() {
		known[s.key()] = s
	}
	lines := keyLines(string(data))
	var errs []error
	for _, section := range sortedKeys(file) {
		keys, ok := file[section].(map[string]any)
		if !ok {
			errs = append(errs, fmt.Errorf("%s: key %q stands outside of a section%s", place(path, lines, section), section, suggestSection(section)))
			continue
		}
		if !slices.Contains(sections(), section) {
			errs = append(errs, fmt.Errorf("%s: unknown section [%s]%s", place(path, lines, section), section, suggest(section, sections(), "[%s]")))
			continue
		}
		for _, name := range sortedKeys(keys) {
			key := section + "." + name
			at := place(path, lines, key)
			s, ok := known[key]
			if !ok {
				errs = append(errs, fmt.Errorf("%s: unknown key %q in [%s]%s", at, name, section, suggestKey(section, name)))
				continue
			}
			if err := setTOML(s.at(c), keys[name]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", at, key, err))
				continue
			}
			c.origins[key] = at
		}
	}
	return errs
}

// setTOML takes a value of the file.
func setTOML(at, value any) error {
	switch p := at.(type) {
	case *string:
		if v, ok := value.(string); ok {
			*p = v
			return nil
		}
		return errors.New(`must be text, such as "text"`)
	case *bool:
		if v, ok := value.(bool); ok {
			*p = v
			return nil
		}
		return errors.New("must be true or false")
	case *int:
		if v, ok := value.(int64); ok && int64(int(v)) == v {
			*p = int(v)
			return nil
		}
		return errors.New("must be a whole number")
	case *time.Duration:
		text, ok := value.(string)
		if n, isInt := value.(int64); isInt {
			text, ok = fmt.Sprint(n), true
		}
		if !ok {
			return errors.New(`must be a duration, such as "90s", or a number of seconds`)
		}
		d, err := parseDuration(text)
		if err == nil {
			*p = d
		}
		return err
	case *[]string:
		list, ok := value.([]any)
		if !ok {
			return errors.New(`must be a list, such as ["a", "b"]`)
		}
		*p = make([]string, 0, len(list))
		for _, v := range list {
			text, ok := v.(string)
			if !ok {
				return errors.New(`must be a list of text, such as ["a", "b"]`)
			}
			*p = append(*p, text)
		}
		return nil
	}
	panic(fmt.Sprintf("setting of type %T", at))
}

// keyLines finds the line of each section and key; the TOML library does not tell. A file that writes them in unusual ways, such as
// dotted or quoted keys, only loses its line numbers.
func keyLines(data string) map[string]int {
	lines := make(map[string]int)
	section := ""
	number := 0
	for line := range strings.Lines(data) {
		number++
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			if name, _, ok = strings.Cut(name, "]"); ok {
				section = strings.TrimSpace(name)
				lines[section] = number
			}
			continue
		}
		if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			key := strings.TrimSpace(name)
			if section != "" {
				key = section + "." + key
			}
			if _, again := lines[key]; !again {
				lines[key] = number
			}
		}
	}
	return lines
}

func place(path string, lines map[string]int, key string) string {
	if n, ok := lines[key]; ok {
		return fmt.Sprintf("%s:%d", path, n)
	}
	return path
}

func sections() []string {
	var list []string
	for _, s := range settings() {
		if !slices.Contains(list, s.section) {
			list = append(list, s.section)
		}
	}
	return list
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// suggestKey names the key that was meant: one of the same section, or one of the same name in another.
func suggestKey(section, name string) string {
	var names []string
	for _, s := range settings() {
		if s.section == section {
			names = append(names, s.name)
		}
	}
	if s := suggest(name, names, "%q"); s != "" {
		return s
	}
	return suggestSection(name)
}

func suggestSection(name string) string {
	for _, s := range settings() {
		if s.name == name {
			return fmt.Sprintf("; it belongs to [%s]", s.section)
		}
	}
	return ""
}

// suggest names the nearest of the choices, when it is near enough to be a slip.
func suggest(word string, choices []string, format string) string {
	best, distance := "", 1+len(word)/3
	for _, c := range choices {
		if d := editDistance(word, c); d <= distance && (best == "" || d < distance) {
			best, distance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean "+format+"?", best)
}

// editDistance is Levenshtein's: how many bytes must be added, dropped or changed.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
