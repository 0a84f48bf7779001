package volume

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// Counters are what the kernel has counted on an open volume since it was opened (Documentation/block/stat.rst of Linux).
type Counters struct {
	At       time.Time
	Requests int64         // reads and writes that were done
	Waited   time.Duration // by all of them together
	Busy     time.Duration // while at least one was under way
}

// Load is what happened between two counters.
type Load struct {
	Busy    float64       // share of the time in which the device worked, 0 to 1
	Latency time.Duration // of a read or a write, on average; 0: there was none
	Span    time.Duration // 0: nothing can be said, as after the volume was opened anew
}

// Counters reads those of a volume's mapping: what is waited for by who uses the volume, encryption included. It fails when the volume is
// locked. It takes no root.
func (h Host) Counters(v Volume) (Counters, error) {
	m, open, err := h.opened(v)
	if err != nil {
		return Counters{}, err
	}
	if !open {
		return Counters{}, holdfast.WithHint(fmt.Errorf("volume %s is locked: nothing is counted", v.Name), "unlock it first")
	}
	text, err := os.ReadFile(h.path("/sys/class/block/" + m.kernel + "/stat"))
	if err != nil {
		return Counters{}, fmt.Errorf("counters of volume %s: %w", v.Name, err)
	}
	c, err := parseCounters(string(text))
	if err != nil {
		return Counters{}, fmt.Errorf("counters of volume %s: %w", v.Name, err)
	}
	c.At = h.Now()
	return c, nil
}

func parseCounters(text string) (Counters, error) {
	const reads, readWait, writes, writeWait, busy, least = 0, 3, 4, 7, 9, 11
	fields := strings.Fields(text)
	if len(fields) < least {
		return Counters{}, fmt.Errorf("%q has %d numbers, at least %d are due", strings.TrimSpace(text), len(fields), least)
	}
	var n [least]int64
	for i := range n {
		number, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil || number < 0 {
			return Counters{}, fmt.Errorf("%q is no count", fields[i])
		}
		n[i] = number
	}
	return Counters{
		Requests: n[reads] + n[writes],
		Waited:   time.Duration(n[readWait]+n[writeWait]) * time.Millisecond,
		Busy:     time.Duration(n[busy]) * time.Millisecond,
	}, nil
}

// Since is what happened from before to c. Counters that went back are of a volume that was opened anew: its load is zero.
func (c Counters) Since(before Counters) Load {
	span := c.At.Sub(before.At)
	requests := c.Requests - before.Requests
	if span <= 0 || requests < 0 || c.Busy < before.Busy || c.Waited < before.Waited {
		return Load{}
	}
	load := Load{Busy: min(1, float64(c.Busy-before.Busy)/float64(span)), Span: span}
	if requests > 0 {
		load.Latency = (c.Waited - before.Waited) / time.Duration(requests)
	}
	return load
}
