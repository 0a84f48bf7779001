package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

const day = 24 * time.Hour

var (
	daysRule   = regexp.MustCompile(`^([0-9]{1,5})([dw])$`)
	numberRule = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
)

var errSpan = errors.New("must be a duration such as 60s, 5m, 2h, 90d or 2w")

// ParseSpan reads a duration as the configuration has it.
func ParseSpan(text string) (time.Duration, error) { return parseSpan(text) }

// parseSpan reads a duration greater than nothing. Beyond the units of package time it takes days and weeks, which
// are what people plan drills in.
func parseSpan(text string) (time.Duration, error) {
	if m := daysRule.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n == 0 {
			return 0, errSpan
		}
		if m[2] == "w" {
			n *= 7
		}
		if n > math.MaxInt64/int(day) {
			return 0, errSpan
		}
		return time.Duration(n) * day, nil
	}
	span, err := time.ParseDuration(text)
	if err != nil || span <= 0 {
		return 0, errSpan
	}
	return span, nil
}

// formatSpan writes a duration the way parseSpan reads it.
func formatSpan(span time.Duration) string {
	if span > 0 && span%day == 0 {
		return fmt.Sprintf("%dd", span/day)
	}
	text := span.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

var (
	sizeRule = regexp.MustCompile(`^([1-9][0-9]{0,8})(KB|MB|GB|TB)$`)
	errSize  = errors.New("must be a size such as 64KB, 16MB or 2GB")
)

// sizeUnits are those of 1,024, largest first.
func sizeUnits() []string { return []string{"TB", "GB", "MB", "KB"} }

func unitOf(name string) int64 {
	return 1 << (10 * (len(sizeUnits()) - slices.Index(sizeUnits(), name)))
}

// parseSize reads a number of bytes greater than nothing.
func parseSize(text string) (int64, error) {
	m := sizeRule.FindStringSubmatch(text)
	if m == nil {
		return 0, errSize
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > math.MaxInt64/unitOf(m[2]) {
		return 0, errSize
	}
	return n * unitOf(m[2]), nil
}

// formatSize writes a size the way parseSize reads it, as long as that is exact.
func formatSize(n int64) string {
	for _, unit := range sizeUnits() {
		if n%unitOf(unit) == 0 {
			return strconv.FormatInt(n/unitOf(unit), 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// parseNumber reads a whole number. A leading zero is refused: some readers of YAML take 0123 as 83.
func parseNumber(text string, least, most int) (int, error) {
	if !numberRule.MatchString(text) {
		if strings.HasPrefix(text, "0") {
			return 0, errors.New("must be a whole number without leading zeros")
		}
		return 0, errors.New("must be a whole number")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		if least == most {
			return 0, fmt.Errorf("must be %d", least)
		}
		return 0, fmt.Errorf("must be between %d and %d", least, most)
	}
	return n, nil
}

// checkName applies the rule of job and source names to the other names too.
func checkName(what, name string) error {
	if _, err := holdfast.ParseJobName(name); err != nil {
		return fmt.Errorf("%s name %q is not valid; %s", what, name, holdfast.Hint(err))
	}
	return nil
}

// cleanName makes a name of a database's or file's name.
func cleanName(text, fallback string) string {
	var name strings.Builder
	for _, c := range strings.ToLower(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			name.WriteRune(c)
		case name.Len() > 0 && !strings.HasSuffix(name.String(), "-"):
			name.WriteByte('-')
		}
		if name.Len() == maxNameLength {
			break
		}
	}
	if out := strings.Trim(name.String(), "-"); out != "" {
		return out
	}
	return fallback
}

// maxNameLength leaves room, within the 63 characters of a name, for the number that makes a second one unique.
const maxNameLength = 56

// allowed says what may stand in place of text: the nearest of known if one is near, and all of them.
func allowed(text string, known []string) string {
	list := strings.Join(known, ", ")
	if near := nearest(text, known); near != "" {
		return fmt.Sprintf("did you mean %q? Known: %s", near, list)
	}
	if list == "" {
		return "none is defined"
	}
	return "known: " + list
}

// nearest returns the one of known that differs least from text, or "" when none is near.
func nearest(text string, known []string) string {
	best, least := "", 1+max(1, min(3, len(text)/3))
	if len(text) > 100 {
		return ""
	}
	for _, k := range known {
		if d := distance(strings.ToLower(text), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, change or swap with a neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// quoteText writes text as a double-quoted scalar: JSON's form is also YAML's.
func quoteText(text string) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic("config: a text that cannot be quoted: " + err.Error())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func quoteList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = quoteText(text)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}
