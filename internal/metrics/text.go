package metrics

import (
	"math"
	"strconv"
	"strings"
)

// text writes families of gauges in the text format. All that Holdfast shows can go down, so there is no other type.
type text struct {
	out  []byte
	name string
}

// family begins a family; its series follow.
func (t *text) family(name, help string) {
	t.name = name
	t.out = append(append(append(append(append(t.out, "# HELP "...), name...), ' '), inHelp(help)...), '\n')
	t.out = append(append(append(t.out, "# TYPE "...), name...), " gauge\n"...)
}

// add writes a series of the family. labels are names and values in turn.
func (t *text) add(value float64, labels ...string) {
	t.out = append(t.out, t.name...)
	for i := 0; i < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		t.out = append(append(append(t.out, sep), labels[i]...), `="`...)
		t.out = append(append(t.out, inLabel(labels[i+1])...), '"')
	}
	if len(labels) > 0 {
		t.out = append(t.out, '}')
	}
	t.out = append(t.out, ' ')
	if whole := int64(value); math.Abs(value) < 1<<53 && float64(whole) == value {
		t.out = strconv.AppendInt(t.out, whole, 10) // several times faster, and most are
	} else {
		t.out = strconv.AppendFloat(t.out, value, 'f', -1, 64) // no exponent: people read it, too
	}
	t.out = append(t.out, '\n')
}

// inHelp and inLabel escape what would end a line or a value, and what is no UTF-8, which makes Prometheus refuse the whole page.
func inHelp(s string) string { return escaped(s, `\`+"\n") }

func inLabel(s string) string { return escaped(s, `\`+"\n\"") }

func escaped(s, special string) string {
	s = strings.ToValidUTF8(s, "�")
	if !strings.ContainsAny(s, special) {
		return s
	}
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "\n", `\n`)
	if strings.Contains(special, `"`) {
		s = strings.ReplaceAll(s, `"`, `\"`)
	}
	return s
}
