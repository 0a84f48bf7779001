package health

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"holdfast"
)

type itemName struct {
	source holdfast.SourceName
	name   string
}

func (n itemName) order(other itemName) int {
	return cmp.Or(cmp.Compare(n.source, other.source), cmp.Compare(n.name, other.name))
}

// history is what the items of a job were in the days before its newest complete backup.
type history struct {
	backups int // whose items are known
	stored  map[itemName][]int64
	plain   map[itemName][]int64
	took    []int64
}

func (j *judge) history(job Job, newest Backup) history {
	h := history{stored: map[itemName][]int64{}, plain: map[itemName][]int64{}}
	for _, b := range job.Backups {
		if !b.Complete || b.Kind != newest.Kind || !b.Time.Before(newest.Time) || newest.Time.Sub(b.Time) > lookBack {
			continue
		}
		if b.Took > 0 {
			h.took = append(h.took, int64(b.Took))
		}
		if len(b.Items) > 0 {
			h.backups++
		}
		for _, item := range b.Items {
			of := itemName{item.Source, item.Name}
			h.stored[of], h.plain[of] = append(h.stored[of], item.Stored), append(h.plain[of], item.Plain)
		}
	}
	return h
}

// sizes compares each item of the newest complete backup with the median of those of the same kind in the days before.
func (j *judge) sizes(job Job) {
	newest, some := job.Newest()
	if !some || len(newest.Items) == 0 {
		return
	}
	h := j.history(job, newest)
	add := func(of itemName, text string) {
		j.add(Finding{Alarm: SizeOdd, Job: job.Name, What: string(of.source) + "/" + of.name, Since: newest.Time,
			Text: "source " + string(of.source) + ": " + of.name + " " + text,
			Hint: "`holdfast show` of both backups has the figures; a drill of the newest one says whether it restores"})
	}
	there := map[itemName]bool{}
	for _, item := range newest.Items {
		of := itemName{item.Source, item.Name}
		there[of] = true
		usual, known := median(h.stored[of])
		if !known {
			continue
		}
		plain, _ := median(h.plain[of])
		off := math.Abs(float64(item.Stored) - float64(usual))
		switch {
		case item.Plain == 0 && plain > 0:
			add(of, "is empty, and was not in the last 7 days")
		case off < leastBytes || off <= j.Size*float64(usual):
		case usual == 0:
			add(of, "was empty in the last 7 days, and is not any more")
		case item.Stored < usual:
			add(of, fmt.Sprintf("is %.0f %% smaller than the median of the last 7 days", math.Floor(100*off/float64(usual))))
		default:
			add(of, fmt.Sprintf("is %.0f %% larger than the median of the last 7 days", math.Floor(100*off/float64(usual))))
		}
	}
	// What is gone is the smallest of all. It is told for as long as a median would take to follow.
	for _, of := range slices.SortedFunc(maps.Keys(h.stored), itemName.order) {
		if n := len(h.stored[of]); !there[of] && n >= leastHistory && 2*n > h.backups {
			add(of, "is gone, and was there in the last 7 days")
		}
	}
}

func (j *judge) durations(job Job) {
	newest, some := job.Newest()
	if !some || newest.Took <= 0 {
		return
	}
	usual, known := median(j.history(job, newest).took)
	if known && newest.Took-time.Duration(usual) >= leastTook && float64(newest.Took) > j.Duration*float64(usual) {
		j.add(Finding{Alarm: DurationOdd, Job: job.Name, Since: newest.Time,
			Text: fmt.Sprintf("the last run took %s, and the median of the last 7 days is %s", Span(newest.Took), Span(time.Duration(usual))),
			Hint: "`holdfast show " + string(newest.ID) + "` tells the time of each item"})
	}
}

// median is known of at least leastHistory values.
func median(values []int64) (int64, bool) {
	if len(values) < leastHistory {
		return 0, false
	}
	slices.Sort(values)
	low, high := values[(len(values)-1)/2], values[len(values)/2]
	return low + (high-low)/2, true
}
