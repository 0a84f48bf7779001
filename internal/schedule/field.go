package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"holdfast"
)

// lastDay is the bit of L in the set of days.
const lastDay = 1

// field is one of the five.
type field struct {
	name     string
	min, max int
	size     int      // how many different values there are
	names    []string // of min and what follows
}

func fields() [5]field {
	months := []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	return [5]field{
		{"minute", 0, 59, 60, nil},
		{"hour", 0, 23, 24, nil},
		{dayOfMonth, 1, 31, 31, nil},
		{"month", 1, 12, 12, months},
		{dayOfWeek, 0, 7, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
	}
}

const (
	dayOfMonth = "day-of-month"
	dayOfWeek  = "day-of-week"
)

func (f field) allowed() string {
	text := fmt.Sprintf("%d-%d", f.min, f.max)
	if f.names != nil {
		text += " and " + f.names[0] + "-" + f.names[len(f.names)-1]
	}
	if f.name == dayOfMonth {
		text += " and L"
	}
	return text + " are allowed"
}

// parse returns the set of values.
func (f field) parse(text string) (uint64, error) {
	var set uint64
	for element := range strings.SplitSeq(text, ",") {
		values, err := f.element(element)
		if err != nil {
			return 0, fmt.Errorf("%s %q: %w", f.name, text, err)
		}
		set |= values
	}
	return set, nil
}

// element reads one of a list: a value or a range, and a step.
func (f field) element(text string) (uint64, error) {
	if f.name == dayOfMonth && strings.EqualFold(text, "L") {
		return lastDay, nil
	}
	span, stepText, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		var ok bool
		if step, ok = number(stepText); !ok || step < 1 || step > f.size {
			return 0, fmt.Errorf("step %q is out of range, 1-%d are allowed", stepText, f.size)
		}
	}
	if span == "*" {
		return values(f.min, f.min+f.size-1, step), nil
	}
	fromText, toText, ranged := strings.Cut(span, "-")
	from, err := f.value(fromText)
	if err != nil {
		return 0, err
	}
	if !ranged {
		if stepped {
			return 0, holdfast.WithHint(fmt.Errorf("%q has a step and no range", text),
				fmt.Sprintf("write %s-%d/%s to begin at %s, or */%s", fromText, f.min+f.size-1, stepText, fromText, stepText))
		}
		return values(from, from, 1), nil
	}
	to, err := f.value(toText)
	if err != nil {
		return 0, err
	}
	if f.name == dayOfWeek && strings.EqualFold(toText, f.names[0]) && from > 0 {
		to = f.max // a week that ends with Sunday
	}
	if from > to {
		return 0, holdfast.WithHint(fmt.Errorf("range %q runs backwards", span), "write "+f.around(from, to, step))
	}
	return values(from, to, step), nil
}

// around writes a range that runs past the end of a field and on from its beginning, as what is understood.
func (f field) around(from, to, step int) string {
	var list []string
	for v := from; v <= to+f.size; v += step {
		list = append(list, f.text(f.min+(v-f.min)%f.size))
	}
	if head := f.min + f.size - from; step == 1 && head > 0 {
		return join(list[:head]) + "," + join(list[head:])
	}
	return strings.Join(list, ",")
}

// join writes values that follow each other as one range.
func join(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return list[0] + "-" + list[len(list)-1]
}

func (f field) text(value int) string {
	if f.names != nil {
		return f.names[value-f.min]
	}
	return strconv.Itoa(value)
}

// value reads a number or a name.
func (f field) value(text string) (int, error) {
	if n, ok := number(text); ok {
		if n < f.min || n > f.max {
			return 0, fmt.Errorf("%s is out of range, %s", text, f.allowed())
		}
		return n, nil
	}
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + i, nil
		}
	}
	return 0, holdfast.WithHint(fmt.Errorf("%q is no %s, %s", text, f.name, f.allowed()), f.hint(text))
}

// hint says what to write for what is no value here, and is understood elsewhere; "" when there is nothing to say.
func (f field) hint(text string) string {
	lower := strings.ToLower(text)
	for _, name := range f.names {
		if strings.HasPrefix(lower, name) {
			return "names have three letters: " + name
		}
	}
	switch {
	case text == "":
		return "write a list as 1,15 and a range as 1-5"
	case text == "?":
		return "write * for any"
	case strings.Contains(text, "#"), f.name == dayOfMonth && strings.ContainsAny(lower, "lw"), f.name == dayOfWeek && strings.HasSuffix(lower, "l"):
		return "of what other programs add to cron only L is known, as the last day of the month, in day-of-month"
	}
	return ""
}

// number reads digits; a number that is too great for any field is one all the same.
func number(text string) (int, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil || errors.Is(err, strconv.ErrRange)
}

// values returns the set of every step-th value of a range.
func values(from, to, step int) uint64 {
	var set uint64
	for v := from; v <= to; v += step {
		set |= 1 << v
	}
	return set
}
