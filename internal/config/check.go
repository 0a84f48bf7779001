package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

// complete looks up the names that a job refers to and checks what they make together. What is wrong is reported;
// the error returned is that of a job made of flags and variables that lack something, which only matters once that
// job is asked for.
func (r *reader) complete(d *draft, j *draftJob) error {
	path := "jobs." + string(j.Name)
	r.completeSources(d, j, path)
	if j.store.text == "" && j.adHoc && len(d.stores) == 1 {
		j.store = located{d.stores[0].Name, j.at}
	}
	if j.store.text != "" {
		store, found := named(d.stores, j.store.text, func(s Store) string { return s.Name })
		if !found {
			var known []string
			for _, s := range d.stores {
				known = append(known, s.Name)
			}
			slices.Sort(known)
			r.fault(j.store.at, "%s.store: unknown store %q; %s", path, j.store.text, allowed(j.store.text, known))
		}
		j.Store = store
		if store.Kind == StoreRsync && j.store.at.line > 0 { // a flag may name it for reading
			r.fault(j.store.at, "%s.store: %q is of kind rsync, which can only be a mirror; name another store and put this one into mirrors", path, store.Name)
		}
	}
	r.completeMirrors(d, j, path)
	r.completeKeep(j, path)
	r.completeSchedule(d.service, j)
	r.completeRecipients(d, j, path)
	r.completeLevel(j, path)
	r.completeAssertions(j, path)
	if !j.adHoc {
		return nil
	}
	var missing, hints []string
	if j.Store.Name == "" {
		missing, hints = append(missing, "store"), append(hints, "--to DIR (HOLDFAST_STORE)")
	}
	if j.Seal != SealNone && len(j.Recipients) == 0 {
		missing, hints = append(missing, "recipient"), append(hints, "--recipient age1… or --recipient FILE (HOLDFAST_RECIPIENT); `holdfast key new` makes a pair of keys")
	}
	if len(missing) == 0 {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("%w: job %s has no %s", holdfast.ErrUsage, j.Name, strings.Join(missing, " and no ")),
		"give "+strings.Join(hints, " and "))
}

func (r *reader) completeSources(d *draft, j *draftJob, path string) {
	for _, l := range j.sources {
		src, found := named(d.sources, l.text, func(s Source) string { return string(s.Name) })
		if !found {
			var known []string
			for _, s := range d.sources {
				known = append(known, string(s.Name))
			}
			slices.Sort(known)
			r.fault(l.at, "%s.sources: unknown source %q; %s", path, l.text, allowed(l.text, known))
			continue
		}
		if src.Secret && j.Seal == SealNone {
			r.fault(j.places["seal"], "%s.seal: source %q is secret and is never stored unsealed; remove seal: none, or take the source out of this job", path, src.Name)
		}
		j.Sources = append(j.Sources, src)
	}
}

func (r *reader) completeRecipients(d *draft, j *draftJob, path string) {
	var known []string
	for _, k := range d.keys {
		known = append(known, k.Name)
	}
	slices.Sort(known)
	if j.Seal == SealNone {
		if at, given := j.places["recipients"]; given {
			r.fault(at, "%s.recipients: have no meaning with seal: none; remove one of the two", path)
		}
		return
	}
	if len(j.recipients) == 0 && !j.adHoc {
		at, given := j.places["recipients"]
		if !given {
			at = j.at
		}
		r.fault(at, "%s: has no recipients; add recipients: [NAME] with the name of a key (%s), or say seal: none", path, allowed("", known))
		return
	}
	for _, l := range j.recipients {
		k, found := named(d.keys, l.text, func(k draftKey) string { return k.Name })
		if !found {
			r.fault(l.at, "%s.recipients: unknown key %q; %s", path, l.text, allowed(l.text, known))
			continue
		}
		if r.hasExpired(k) {
			text := fmt.Sprintf("keys.%s.expires: the key expired on %s, and job %s seals to it; replace the key (`holdfast key rotate %s`) or extend the date",
				k.Name, k.Expires.Format(time.DateOnly), j.Name, k.Name)
			j.expired = append(j.expired, Mistake{k.at.String(), text, k.at.line, k.at.column})
		}
		if !k.Passphrase.IsZero() && k.Format != seal.OpenPGP && len(j.recipients) > 1 {
			r.fault(l.at, "%s.recipients: key %q is a passphrase, which must be the only key of a job", path, k.Name)
			return
		}
		j.Recipients = append(j.Recipients, k.Key)
	}
	r.completeSeal(j, path)
}

func (r *reader) completeLevel(j *draftJob, path string) {
	at, given := j.places["level"]
	switch {
	case j.Compression == seal.None:
		if given && at.line > 0 && r.origins[path+".compression"].line > 0 {
			r.fault(at, "%s.level: has no meaning with compression: none", path)
		}
		j.Level = 0
	case j.Compression == seal.Gzip && j.Level > maxGzipLevel:
		r.fault(at, "%s.level: must be between 1 and %d for gzip, not %d", path, maxGzipLevel, j.Level)
	}
}

func (r *reader) completeAssertions(j *draftJob, path string) {
	var askable []string
	for _, src := range j.Sources {
		if src.Kind != holdfast.KindFiles {
			askable = append(askable, string(src.Name))
		}
	}
	for i, a := range j.Drill.Assertions {
		if a.Source != "" && !slices.Contains(askable, string(a.Source)) {
			r.fault(j.sourceOf[i], "%s.source: %q is no database of this job; %s",
				element(path+".drill", "assertions", i), a.Source, allowed(string(a.Source), askable))
		}
	}
}

// idle warns of sources that no job of the file takes.
func idle(d draft) []string {
	used := map[string]bool{}
	for _, j := range d.jobs {
		for _, l := range j.sources {
			used[l.text] = true
		}
	}
	var warnings []string
	for _, src := range d.sources {
		if !used[string(src.Name)] {
			warnings = append(warnings, fmt.Sprintf("source %s is in no job, so it is not backed up", src.Name))
		}
	}
	return warnings
}

// hasExpired reports whether the last day of a key is over.
func (r *reader) hasExpired(k draftKey) bool {
	return !k.Expires.IsZero() && !r.now.Before(k.Expires.Add(day))
}

// expired warns of every key that has expired.
func (r *reader) expired(d *draft) []string {
	var warnings []string
	for _, k := range d.keys {
		if r.hasExpired(k) {
			warnings = append(warnings, fmt.Sprintf("key %s expired on %s", k.Name, k.Expires.Format(time.DateOnly)))
		}
	}
	return warnings
}

// soon is how long before its end a key is warned about: enough for a monthly look at the logs.
const soon = 30 * day

// expiring warns of keys that will soon expire.
func (r *reader) expiring(d *draft) []string {
	var warnings []string
	for _, k := range d.keys {
		if end := k.End(); !end.IsZero() && !r.hasExpired(k) && r.now.Before(end.Add(day)) && r.now.Add(soon).After(end) {
			warnings = append(warnings, fmt.Sprintf("key %s expires on %s; make its successor now", k.Name, end.Format(time.DateOnly)))
		}
	}
	return warnings
}
