package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// How long a window may be.
const (
	shortest = time.Minute
	longest  = 7 * 24 * time.Hour
)

// Window is a time that comes again and again. The zero Window is never open.
type Window struct {
	Start  Calendar
	Length time.Duration // of real time: a change of the clock makes it neither longer nor shorter
}

// ParseWindow reads "EXPRESSION for DURATION", such as "0 22 * * sat for 6h" or "@daily for 90m". The expression is one of [Parse] that
// is due some time; the duration is one of [time.ParseDuration] or whole days such as "2d", from 1m to 7d. What is not understood is a
// [holdfast.ErrUsage] that says what is allowed, mostly with a hint.
func ParseWindow(text string) (Window, error) {
	w, err := parseWindow(strings.Fields(text))
	if err != nil {
		return Window{}, fmt.Errorf("%w: window %q: %w", holdfast.ErrUsage, text, err)
	}
	return w, nil
}

func parseWindow(parts []string) (Window, error) {
	last := len(parts) - 1
	if last < 2 || parts[last-1] != "for" {
		return Window{}, holdfast.WithHint(errors.New("it does not say how long it is open"),
			`write when it begins and for how long, as in "0 22 * * sat for 6h"`)
	}
	start, err := parse(strings.Join(parts[:last-1], " "))
	if err != nil {
		return Window{}, err
	}
	if start.IsZero() {
		return Window{}, holdfast.WithHint(errors.New("it never begins"), "leave it out")
	}
	length, err := parseLength(parts[last])
	if err != nil {
		return Window{}, holdfast.WithHint(err, "write a duration such as 90m, 6h or 2d")
	}
	return Window{start, length}, nil
}

func parseLength(text string) (time.Duration, error) {
	length, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		n, ok := number(days)
		if !ok {
			return 0, fmt.Errorf("%q is no duration", text)
		}
		// More days than are allowed are as good as any greater number, which may be too great to count in.
		length, err = time.Duration(min(n, 8))*24*time.Hour, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%q is no duration", text)
	}
	if length < shortest || length > longest {
		return 0, fmt.Errorf("length %s is out of range, 1m to 7d are allowed", text)
	}
	return length, nil
}

// Open reports whether the window is open at at, its first instant included and its end not, and until when. A window that begins
// again before it ends is open until the end of the one that began last before at.
func (w Window) Open(at time.Time, zone *time.Location) (until time.Time, open bool) {
	began := w.Start.Last(at, zone)
	if began.IsZero() {
		return time.Time{}, false
	}
	if until = began.Add(w.Length); !at.Before(until) {
		return time.Time{}, false
	}
	return until, true
}

// String returns what ParseWindow reads as the same window.
func (w Window) String() string { return w.Start.String() + " for " + lengthText(w.Length) }

func lengthText(length time.Duration) string {
	if days := length / (24 * time.Hour); days > 0 && length%(24*time.Hour) == 0 {
		return strconv.Itoa(int(days)) + "d"
	}
	text := length.String()
	if minutes, whole := strings.CutSuffix(text, "m0s"); whole {
		text = minutes + "m"
	}
	if hours, whole := strings.CutSuffix(text, "h0m"); whole {
		text = hours + "h"
	}
	return text
}
