package health

import (
	"fmt"
	"time"
)

// places judges each store of a job.
func (j *judge) places(job Job) {
	for _, place := range job.Places {
		with := func(alarm Alarm, what string, since time.Time, text, hint string) {
			j.add(Finding{Alarm: alarm, Job: job.Name, Store: place.Store, What: what, Since: since, Text: text, Hint: hint})
		}
		if place.Down != "" {
			with(StoreDown, "", time.Time{}, "it cannot be looked at: "+place.Down, "`holdfast doctor "+string(job.Name)+"` tries it")
		} else if since, lacking := j.lacking(job, place); lacking > 0 {
			text := "it has no copy of any complete backup"
			if !place.Newest.IsZero() {
				text = fmt.Sprintf("it lacks %s; its own newest is %s old", count(lacking, "newer backup"), Span(j.At.Sub(place.Newest)))
			}
			with(CopyMissing, "", since, text, "`holdfast mirror "+string(job.Name)+"` copies what is missing, and says why it does not")
		}
		if place.Damaged > 0 {
			with(VerifyFailed, "", time.Time{}, count(place.Damaged, "copy")+" did not stand the last check", "`holdfast list` names them; a mirror may have a good copy: docs/verify.md")
		}
		if place.Hidden > 0 {
			with(VerifyFailed, "hidden", time.Time{}, "the manifest of "+count(place.Hidden, "copy")+" was deleted or written again by something else, and is there only in the store's history",
				"`holdfast list` names them; find out who may delete in that store: docs/verify.md")
		}
		if place.Blocked != "" {
			with(PruneBlocked, "", place.Since, "nothing is deleted: "+place.Blocked, "mend that first: docs/retention.md")
		}
	}
}

// lacking counts the complete backups that are newer than all that a place has, and tells since when the first of them is missed. A job
// that backs up every hour always has one that is too new to be there.
func (j *judge) lacking(job Job, place Place) (since time.Time, n int) {
	late := j.GraceFor(max(job.Interval, day))
	for _, b := range job.Backups {
		if !b.Complete || !b.Time.After(place.Newest) {
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
	if store.Free == 0 {
		j.add(Finding{Alarm: DiskFull, Store: store.Name, Text: "it is full", Hint: hint})
		return
	}
	if days, span, filling := slope(store); filling && days < float64(j.DiskDays) {
		j.add(Finding{Alarm: DiskFull, Store: store.Name, Text: fmt.Sprintf("it is full in %s, if it goes on as in the last %s", count(int(days), "day"), Span(span)), Hint: hint})
	}
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
