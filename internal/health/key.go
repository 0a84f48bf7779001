package health

import "time"

// Rotation is when a key is due to be replaced: when it expires, or when it is as old as it may be, whichever is earlier; zero: not known.
func (k Key) Rotation() time.Time {
	if k.Created.IsZero() {
		return k.Expires
	}
	if old := k.Created.Add(KeyAge); k.Expires.IsZero() || old.Before(k.Expires) {
		return old
	}
	return k.Expires
}

func (j *judge) key(key Key) {
	if !key.Needed {
		return
	}
	with := func(what, text, hint string) {
		j.add(Finding{Alarm: KeyDue, What: key.Name + "/" + what, Text: "key " + key.Name + " " + text, Hint: hint})
	}
	const rotate = "`holdfast key rotate`: docs/keys.md"
	if left := key.Expires.Sub(j.At); !key.Expires.IsZero() && left < time.Duration(j.KeyDays)*day {
		if left <= 0 {
			with("expires", "has expired: nothing is backed up for it any more", rotate)
		} else {
			with("expires", "expires in "+Span(left), rotate)
		}
	}
	if !key.Created.IsZero() && j.At.Sub(key.Created) > KeyAge {
		with("age", "is "+Span(j.At.Sub(key.Created))+" old and due for rotation", rotate)
	}
	if key.Checked.IsZero() && j.anyDown() {
		return // the record of a check may be in a store that cannot be looked at, and that is told
	}
	const try = "whoever holds the identity runs `holdfast key check`"
	switch since := later(key.Checked, key.Created); {
	case since.IsZero():
		with("check", "was never tried: nobody knows whether its identity opens anything", try)
	case j.At.Sub(since) > KeyCheck:
		with("check", "was not tried for "+Span(j.At.Sub(since))+": nobody knows whether its identity still opens anything", try)
	}
}
