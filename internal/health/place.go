package health

import (
	"fmt"
	"slices"
	"time"

	"holdfast"
)

// places judges each store of a job.
func (j *judge) places(job Job) {
	for _, place := range job.Places {
		with := func(alarm Alarm, what string, since time.Time, text, hint string) {
			j.add(Finding{Alarm: alarm, Job: job.Name, Store: place.Store, What: what, Since: since, Text: text, Hint: hint})
		}
		newest := j.newestIn(place)
		if place.Down != "" {
			with(StoreDown, "", time.Time{}, "it cannot be looked at: "+place.Down, "`holdfast doctor "+string(job.Name)+"` tries it")
		} else if since, lacking := j.lacking(job, newest); lacking > 0 {
			text := "it has no copy of any complete backup"
			if !newest.IsZero() {
				text = fmt.Sprintf("it lacks %s; its own newest is %s old", count(lacking, "newer backup", "newer backups"), Span(j.At.Sub(newest)))
			}
			with(CopyMissing, "", since, text, "`holdfast mirror "+string(job.Name)+"` copies what is missing, and says why it does not")
		}
		if place.Damaged > 0 {
			with(VerifyFailed, "", time.Time{}, count(place.Damaged, "copy", "copies")+" did not stand the last check", "`holdfast list` names them; a mirror may have a good copy: docs/verify.md")
		}
		if place.Hidden > 0 {
			with(VerifyFailed, "hidden", time.Time{}, "the manifest of "+count(place.Hidden, "copy", "copies")+" was deleted or written again by something else, and is there only in the store's history",
				"`holdfast list` names them; find out who may delete in that store: docs/verify.md")
		}
		if place.Blocked != "" {
			with(PruneBlocked, "", place.Since, "nothing is deleted: "+place.Blocked, "mend that first: docs/retention.md")
		}
	}
}

// newestIn is when the newest backup was made that a place has, and that does not lie in the future: behind one that does nothing would be
// missed.
func (j *judge) newestIn(place Place) time.Time {
	now := j.At.Add(ahead)
	if !place.Newest.After(now) {
		return place.Newest
	}
	for _, at := range slices.Backward(place.Times) {
		if !at.After(now) {
			return at
		}
	}
	return time.Time{}
}

// lacking counts the complete backups that are newer than the newest of a place, and tells since when the first of them is missed. A job
// that backs up every hour always has one that is too new to be there.
func (j *judge) lacking(job Job, newest time.Time) (since time.Time, n int) {
	late := j.GraceFor(max(job.Interval, day))
	for _, b := range job.Backups {
		if !b.Complete || !b.Time.After(newest) {
			continue
		}
		if missed := b.Time.Add(b.Took + late); n > 0 || j.At.After(missed) {
			if n++; n == 1 {
				since = missed
			}
		}
	}
	return since, n
}

// store judges what is about no job.
func (j *judge) store(store Store) {
	if store.Down != "" && !j.toldDown(store.Name) {
		j.add(Finding{Alarm: StoreDown, Store: store.Name, Text: "it cannot be looked at: " + store.Down, Hint: "`holdfast doctor` tries it"})
	}
	hint := "keep less (`holdfast prune --dry-run`), or give it a larger disk"
	full := func(text string) { j.add(Finding{Alarm: DiskFull, Store: store.Name, Text: text, Hint: hint}) }
	job, size := j.largest(store.Name)
	switch days, span, filling := slope(store); {
	case store.Free == 0:
		full("it is full")
	case store.Free > 0 && store.Free < size:
		full("it has no room for another backup of job " + string(job) + " as large as its newest")
	case filling && days < float64(j.DiskDays):
		full(fmt.Sprintf("it is full in %s, if it goes on as in the last %s", count(int(days), "day", "days"), Span(span)))
	}
}

// largest is the job whose newest complete backup is the largest of those that belong into a store, and its size there.
func (j *judge) largest(store string) (name holdfast.JobName, size int64) {
	for _, job := range j.Jobs {
		newest, _ := job.Newest()
		if newest.Stored > size && slices.ContainsFunc(job.Places, func(p Place) bool { return p.Store == store }) {
			name, size = job.Name, newest.Stored
		}
	}
	return name, size
}

func (j *judge) toldDown(store string) bool {
	for _, job := range j.Jobs {
		for _, place := range job.Places {
			if place.Store == store && place.Down != "" {
				return true
			}
		}
	}
	return false
}

// slope tells in how many days a store is full, by a line through what was free in the time that it was followed.
func slope(store Store) (days float64, span time.Duration, filling bool) {
	if store.Free < 0 || len(store.Used) < leastHistory {
		return 0, 0, false
	}
	first := store.Used[0].Time
	span = store.Used[len(store.Used)-1].Time.Sub(first)
	if span < leastSlope {
		return 0, 0, false
	}
	var n, sx, sy, sxx, sxy float64
	for _, sample := range store.Used {
		x, y := sample.Time.Sub(first).Hours()/24, float64(sample.Free)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	daily := (n*sxy - sx*sy) / (n*sxx - sx*sx) // bytes
	return float64(store.Free) / -daily, span, daily < 0
}
