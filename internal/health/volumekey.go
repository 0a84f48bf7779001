package health

import "time"

// volumeHeader judges the backup of the header: without a header nothing opens the volume.
func (j *judge) volumeHeader(v Volume) {
	made := j.past(v.HeaderBackup)
	hint := "`holdfast volume header backup " + v.Name + "`"
	tell := func(since time.Time, text string) { j.ofVolume(v, VolumeHeaderBackup, "", since, text, hint) }
	switch age := j.At.Sub(made); {
	case v.HeaderBackup.IsZero() && j.anyDown(): // one may be in a store that cannot be looked at, and that is told
	case made.IsZero():
		tell(time.Time{}, "there is no backup of its header: if that is damaged, nothing opens it again")
	case made.Before(v.HeaderChanged.Truncate(time.Second)): // as the times of backups are
		tell(v.HeaderChanged, "its keys were changed after the newest backup of its header, which opens with the old passphrases")
	case age > VolumeHeaderAge:
		tell(v.HeaderDue(), "the newest backup of its header is "+Span(age)+" old")
	}
}

// volumeKeys judges the age of each key, and whether anybody knows that it still opens its slot.
func (j *judge) volumeKeys(v Volume) {
	for _, role := range VolumeRoles() {
		key, found := v.Key(role)
		if !found {
			continue
		}
		tell := func(what string, since time.Time, text, hint string) {
			j.ofVolume(v, VolumeKeyDue, role+"/"+what, since, "its "+role+" key "+text, hint)
		}
		rotate := "`holdfast volume key rotate " + v.Name + " --role " + role + "`: docs/volume-keys.md"
		created, checked := j.past(key.Created), j.past(key.Checked)
		if due := key.Due(); !due.IsZero() && j.At.After(due) {
			tell("age", due, "is "+Span(j.At.Sub(created))+" old and due for rotation", rotate)
		}
		left := 0
		var first time.Time
		for _, h := range v.Holders {
			if h.Role == role && h.gone(j.At) && created.Before(h.Left) {
				if left++; left == 1 || h.Left.Before(first) {
					first = h.Left
				}
			}
		}
		if left > 0 { // who it is stands in the configuration, and is not told to everybody
			tell("holder", first, "is known to "+count(left, "holder", "holders")+" who left", rotate)
		}
		try := "whoever holds it runs `holdfast volume key check " + v.Name + " --role " + role + "`"
		switch since := later(checked, created); {
		case since.IsZero():
			tell("check", time.Time{}, "was never tried: nobody knows whether it opens anything", try)
		case j.At.Sub(since) > KeyCheck:
			tell("check", since.Add(KeyCheck), "was not tried for "+Span(j.At.Sub(since))+": nobody knows whether it still opens anything", try)
		}
	}
}

// volumeHolders judges who can open it.
func (j *judge) volumeHolders(v Volume) {
	stay := 0
	for _, h := range v.Holders {
		if !h.gone(j.At) {
			stay++
		}
	}
	if stay < leastHolders {
		j.ofVolume(v, VolumeKeyDue, "holders", time.Time{}, "it has "+count(stay, "holder", "holders")+", and needs two", "name them in the configuration: holders, of volume "+v.Name)
	}
	// Those of a new volume are as well known as its keys are new.
	since := j.past(v.HoldersChecked)
	for _, role := range VolumeRoles() {
		key, _ := v.Key(role)
		since = later(since, j.past(key.Created))
	}
	confirm := "ask them, then `holdfast volume holders check " + v.Name + "`, with --present for each"
	switch age := j.At.Sub(since); {
	case since.IsZero():
		j.ofVolume(v, VolumeKeyDue, "holders checked", since, "nobody ever confirmed who holds its keys", confirm)
	case age > KeyCheck:
		j.ofVolume(v, VolumeKeyDue, "holders checked", since.Add(KeyCheck), "who holds its keys was not confirmed for "+Span(age), confirm)
	}
}

func (h VolumeHolder) gone(at time.Time) bool { return !h.Left.IsZero() && !h.Left.After(at) }

func (j *judge) ofVolume(v Volume, alarm Alarm, what string, since time.Time, text, hint string) {
	j.add(Finding{Alarm: alarm, Volume: v.Name, What: what, Since: since, Text: text, Hint: hint})
}

// past is a moment, unless it lies in the future: what was good then counts for nothing.
func (j *judge) past(t time.Time) time.Time {
	if t.After(j.At.Add(ahead)) {
		return time.Time{}
	}
	return t
}
