package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// sealed tells of each job what is backed up, and how it is sealed.
func (g GDPR) sealed() GDPRSection {
	s := GDPRSection{Title: "Backups: what is sealed with what"}
	if len(g.Jobs) == 0 {
		s.Lines = append(s.Lines, GDPRLine{What: "jobs", Value: "none", Record: g.config(), Article: Resilience}.
			lacks(true, "nothing is backed up", "`holdfast init`"))
	}
	for _, job := range g.Jobs {
		name := "job " + string(job.Name)
		var sources, secret []string
		for _, src := range job.Sources {
			sources = append(sources, fmt.Sprintf("%s (%s)", src.Name, src.Kind))
			if src.Secret {
				secret = append(secret, string(src.Name))
			}
		}
		s.Lines = append(s.Lines,
			GDPRLine{What: name + ": sources", Value: or(sources, "none"), Record: g.config(), Article: Records}.
				lacks(len(sources) == 0, name+" backs up nothing", hintf("set `jobs.%s.sources`", job.Name)),
			g.seal(job))
		if len(secret) > 0 {
			s.Lines = append(s.Lines, GDPRLine{What: name + ": secrets", Value: strings.Join(secret, ", ") + ": never stored unsealed", Record: g.config(), Article: Sealing})
		}
		if job.Seal != "none" && !job.Passphrase {
			s.Lines = append(s.Lines, g.openers(job))
		}
	}
	return s
}

func (g GDPR) seal(job GDPRJob) GDPRLine {
	var names []string
	for _, key := range job.Keys {
		names = append(names, key.Name)
	}
	value := fmt.Sprintf("%s, to %s", job.Seal, or(names, "no key"))
	if job.Passphrase {
		value = job.Seal + ", by a passphrase that this host has"
	}
	if job.Seal == "none" {
		value = "not sealed"
	}
	keyPair := hintf("`holdfast key new` on another machine, then `keys` and `jobs.%s.recipients`", job.Name)
	return GDPRLine{What: fmt.Sprintf("job %s: seal", job.Name), Value: value, Record: g.config(), Article: Sealing}.
		lacks(job.Seal == "none", fmt.Sprintf("the backups of job %s are not sealed: whoever reads a store of it reads them", job.Name), keyPair).
		lacks(job.Passphrase, fmt.Sprintf("job %s has no key pair: this host can open its backups", job.Name), keyPair)
}

// openers tells who can open a job's backups.
func (g GDPR) openers(job GDPRJob) GDPRLine {
	var holders []string
	for _, key := range job.Keys {
		if key.Holder != "" && !slices.Contains(holders, key.Holder) {
			holders = append(holders, key.Holder)
		}
	}
	return GDPRLine{What: fmt.Sprintf("job %s: holders of keys", job.Name), Value: or(holders, "none written down"), Record: g.config(), Article: Resilience}.
		lacks(len(holders) < custodians, fmt.Sprintf("fewer than two people are known to be able to open the backups of job %s", job.Name),
			hintf("a second key with another holder in `jobs.%s.recipients`", job.Name))
}

// keys tells of each key that backups are sealed to, once.
func (g GDPR) keys() GDPRSection {
	s := GDPRSection{Title: "Keys of backups"}
	told := map[string]bool{}
	for _, job := range g.Jobs {
		for _, key := range job.Keys {
			if told[key.Name] {
				continue
			}
			told[key.Name] = true
			s.Lines = append(s.Lines, g.key(key)...)
		}
	}
	if len(s.Lines) == 0 {
		s.Note = "There are none."
	}
	return s
}

func (g GDPR) key(key GDPRKey) []GDPRLine {
	name := "key " + key.Name
	rotate := hintf("`holdfast key rotate %s`", key.Name)
	made := "not known"
	if !key.Created.IsZero() {
		made = g.ago(key.Created)
	}
	if !key.Expires.IsZero() {
		made += ", expires on " + key.Expires.Format(time.DateOnly)
	}
	lines := []GDPRLine{
		GDPRLine{What: name + ": holder", Value: strings.TrimSuffix(cmp.Or(key.Holder, "not written down")+", "+key.ID, ", "), Record: g.config(), Article: Records}.
			lacks(key.Holder == "", "nobody is written down as the holder of "+name, hintf("set `keys.%s.holder`", key.Name)),
		GDPRLine{What: name + ": made", Value: made, Record: g.config(), Article: Testing}.
			lacks(key.Created.IsZero(), "it is not written down when "+name+" was made", hintf("set `keys.%s.created`", key.Name)).
			lacks(!key.Expires.IsZero() && !g.now().Before(key.Expires.AddDate(0, 0, 1)), name+" has expired", rotate).
			lacks(g.yearOld(key.Created), name+" is older than 12 months", rotate),
	}
	return append(lines, GDPRLine{What: name + ": shown to open a backup", Value: g.ago(key.Checked), Record: cmp.Or(key.CheckedBy, "no record"), Article: Testing}.
		absent(key.Unread, key.Checked.IsZero(), "no identity was ever shown to open what is sealed to "+name, "`holdfast key check` where the identity is kept").
		absent(key.Unread, g.older(key.Checked, quarter), name+" was not checked for 100 days", "`holdfast key check` where the identity is kept"))
}

// places tells where backups are, and how they get there.
func (g GDPR) places() GDPRSection {
	s := GDPRSection{Title: "Where backups are"}
	if len(g.Stores) == 0 && len(g.Jobs) == 0 {
		s.Note = "There is no store, and no job."
	}
	for _, store := range g.Stores {
		name := "store " + store.Name
		where := "on this machine"
		if store.OffSite {
			where = "off-site"
		}
		s.Lines = append(s.Lines,
			GDPRLine{What: name, Value: fmt.Sprintf("%s, %s, %s", store.Kind, store.Where, where), Record: g.config(), Article: Resilience},
			GDPRLine{What: name + ": deletion", Value: cmp.Or(store.Lock, "whoever has this host's access can delete there"), Record: g.config(), Article: Resilience})
		if store.OffSite {
			s.Lines = append(s.Lines, GDPRLine{What: name + ": on the way", Value: cmp.Or(store.Transit, "not encrypted"), Record: g.config(), Article: Sealing}.
				lacks(store.Transit == "", "what is sent to "+name+" is not encrypted on the way", hintf("an address with TLS or SSH in `stores.%s`", store.Name)))
		}
	}
	for _, job := range g.Jobs {
		away := g.storesOf(job, func(s GDPRStore) bool { return s.OffSite })
		locked := g.storesOf(job, func(s GDPRStore) bool { return s.Lock != "" })
		s.Lines = append(s.Lines,
			GDPRLine{What: fmt.Sprintf("job %s: copies off-site", job.Name), Value: or(away, "none"), Record: g.config(), Article: Resilience}.
				lacks(len(away) == 0, fmt.Sprintf("all copies of job %s are on this machine", job.Name), hintf("a store elsewhere in `jobs.%s.mirrors`", job.Name)),
			GDPRLine{What: fmt.Sprintf("job %s: copies that this host cannot delete", job.Name), Value: or(locked, "none"), Record: g.config(), Article: Resilience}.
				lacks(len(locked) == 0, fmt.Sprintf("whoever takes over this host can delete every copy of job %s", job.Name), "a bucket with a lock, or credentials that cannot delete"))
	}
	return s
}

func (g GDPR) storesOf(job GDPRJob, match func(GDPRStore) bool) []string {
	var found []string
	for _, store := range g.Stores {
		if slices.Contains(job.Stores, store.Name) && match(store) {
			found = append(found, store.Name)
		}
	}
	return found
}

// retention tells how long backups are kept, and whether the rules are carried out.
func (g GDPR) retention() GDPRSection {
	s := GDPRSection{Title: "How long backups are kept", Note: g.noJob()}
	for _, job := range g.Jobs {
		name := "job " + string(job.Name)
		of := func(r GDPRRecord) bool { return r.Job == job.Name }
		pruned := g.within(func(r GDPRRecord) bool { return of(r) && r.is("PRUNED") })
		blocked := g.within(func(r GDPRRecord) bool { return of(r) && r.is("PRUNE_BLOCKED") })
		last := g.last(func(r GDPRRecord) bool { return of(r) && r.is("PRUNE_DONE") && r.good() })
		prune := hintf("`holdfast prune %s`", job.Name)
		s.Lines = append(s.Lines,
			GDPRLine{What: name + ": rules", Value: or(job.Keep, "everything is kept, for ever"), Record: g.config(), Article: Records}.
				lacks(len(job.Keep) == 0, "no rule says how long backups of "+name+" are kept", hintf("set `jobs.%s.keep`", job.Name)),
			g.newest(job))
		if len(job.Keep) > 0 {
			s.Lines = append(s.Lines, GDPRLine{
				What:   name + ": deletions",
				Value:  fmt.Sprintf("%s in this span, %s blocked; last prune: %s", plural(len(pruned), "backup"), plural(len(blocked), "prune"), g.ago(last.Time)),
				Record: cmp.Or(last.ID, g.chains()), Article: Records,
			}.absent(g.unread(), last.ID == "", "the rules of "+name+" were never carried out", prune).
				absent(g.unread(), g.older(last.Time, quarter), "no prune of "+name+" went through for 100 days", prune))
		}
	}
	return s
}

func (g GDPR) newest(job GDPRJob) GDPRLine {
	name := "job " + string(job.Name)
	line := GDPRLine{What: name + ": backups", Value: "none", Record: "stores " + or(job.Stores, "none"), Article: Recovery}
	backup := hintf("`holdfast backup %s`", job.Name)
	if job.Newest.ID == "" {
		return line.absent(job.Unread, true, name+" has no complete backup", backup)
	}
	line.Value = fmt.Sprintf("%s; oldest %s (%s), newest %s (%s)", plural(job.Backups, "complete one"), g.ago(job.Oldest.Time), job.Oldest.ID, g.ago(job.Newest.Time), job.Newest.ID)
	return line.absent(job.Unread, job.RPO > 0 && g.now().Sub(job.Newest.Time) > job.RPO, fmt.Sprintf("the newest backup of %s is older than the %s that may be lost (RPO)", name, rounded(job.RPO)), backup).unsure(job.Unread)
}

// noJob is the note of a part that tells of each job, where there is none.
func (g GDPR) noJob() string {
	if len(g.Jobs) == 0 {
		return "There is no job."
	}
	return ""
}

// drills tells what was restored to prove it, and how long that took.
func (g GDPR) drills() GDPRSection {
	s := GDPRSection{Title: "What was proven by restoring it", Note: g.noJob()}
	for _, job := range g.Jobs {
		name := "job " + string(job.Name)
		drill := func(r GDPRRecord) bool { return r.Job == job.Name && r.is("DRILL") }
		count := map[holdfast.Verdict]int{}
		compared := 0
		for _, r := range g.within(drill) {
			count[r.verdict()]++
			compared += int(r.Figures["compared"])
		}
		last := g.last(drill)
		proven := g.last(func(r GDPRRecord) bool { return drill(r) && r.verdict() == holdfast.Proven })
		every := job.DrillEvery
		if every == 0 {
			every = quarter
		}
		command := hintf("`holdfast drill --job %s` where the identity is kept", job.Name)
		s.Lines = append(s.Lines,
			GDPRLine{
				What:   name + ": drills",
				Value:  fmt.Sprintf("%d passed, %d failed, %d could not test; %d facts compared", count[holdfast.Proven], count[holdfast.Failed], count[holdfast.CannotTest], compared),
				Record: g.chains(), Article: Testing,
			}.unsure(g.unread()),
			GDPRLine{What: name + ": last drill", Value: strings.TrimSuffix(fmt.Sprintf("%s: %s", g.ago(last.Time), last.verdictText()), ": "), Record: cmp.Or(last.ID, "no record"), Article: Testing}.
				lacks(last.ID != "" && last.verdict() == holdfast.Failed, "the last drill of "+name+" failed", command).unsure(g.unread()),
			GDPRLine{What: name + ": last proven", Value: g.ago(proven.Time), Record: cmp.Or(proven.ID, "no record"), Article: Testing}.
				absent(g.unread(), proven.ID == "", "no backup of "+name+" was ever proven by a drill", command).
				absent(g.unread(), g.older(proven.Time, every), fmt.Sprintf("no drill of %s passed for %s", name, Span(every)), command),
			g.promise(job, proven))
	}
	return s
}

// promise compares the time that a restore took with what was promised.
func (g GDPR) promise(job GDPRJob, proven GDPRRecord) GDPRLine {
	line := GDPRLine{What: fmt.Sprintf("job %s: time to restore", job.Name), Value: "not measured", Record: cmp.Or(proven.ID, "no record"), Article: Recovery}
	took := time.Duration(proven.Figures["rto_seconds"] * float64(time.Second))
	if proven.ID != "" {
		line.Value = Span(took) + Against(took, job.RTO)
	}
	return line.lacks(job.RTO == 0, fmt.Sprintf("nothing is promised for how long a restore of job %s may take", job.Name), hintf("set `jobs.%s.objectives.rto`", job.Name)).
		absent(g.unread(), proven.ID == "", fmt.Sprintf("how long a restore of job %s takes was never measured", job.Name), hintf("`holdfast drill --job %s` where the identity is kept", job.Name)).
		lacks(Seconds(job.RTO).Exceeded(took), fmt.Sprintf("a restore of job %s took longer than the %s that were promised", job.Name, rounded(job.RTO)), "a faster store or machine, or another promise")
}

// verdict is that of the record of a drill, whose result is difference when something did not come back as it was.
func (r GDPRRecord) verdict() holdfast.Verdict {
	switch r.Result {
	case string(holdfast.Proven):
		return holdfast.Proven
	case "difference":
		return holdfast.Failed
	}
	return holdfast.CannotTest
}

func (r GDPRRecord) verdictText() string {
	if r.ID == "" {
		return ""
	}
	return string(r.verdict())
}
