package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Decide says of every backup in every store that can be reached whether it is kept there, and why.
func Decide(in Input) Plan {
	backups := slices.Clone(in.Backups)
	slices.SortFunc(backups, older)
	d := &decider{in: in, backups: backups}
	for _, store := range in.Stores {
		d.shelves = append(d.shelves, d.shelve(store))
	}
	d.superseded = d.supersededEverywhere()
	wanted := d.wantedSomewhere()
	for i := range d.shelves {
		d.shelves[i].protect(d)
	}
	d.keepLastCopies(wanted)
	var plan Plan
	for _, shelf := range d.shelves {
		plan.Stores = append(plan.Stores, shelf.plan(d))
	}
	return plan
}

func older(x, y Backup) int { return cmp.Or(x.Time.Compare(y.Time), cmp.Compare(x.ID, y.ID)) }

type decider struct {
	in      Input
	backups []Backup // oldest first
	shelves []*shelf

	superseded map[holdfast.BackupID]bool
}

// shelf is a store with what it has.
type shelf struct {
	Store
	has     []Backup // oldest first
	reasons map[holdfast.BackupID]reason
	misses  map[holdfast.BackupID][]miss // which rules a backup fell out of
}

// reason keeps a backup.
type reason struct {
	rule  string // "" for a protection
	text  string
	until time.Time // zero: for ever, or not known
}

// miss is a rule that a backup fell out of. Its text is made only when somebody asks: there may be thousands.
type miss struct {
	rule    string
	rank, n int
	within  time.Duration // instead, of a rule by age
}

func (m miss) String() string {
	if m.within > 0 {
		return "older than " + span(m.within)
	}
	return fmt.Sprintf("%s %d of %d", m.rule, m.rank, m.n)
}

func (d *decider) shelve(store Store) *shelf {
	s := &shelf{Store: store}
	for _, b := range d.backups {
		if store.Copies[b.ID].Present {
			s.has = append(s.has, b)
		}
	}
	s.reasons, s.misses = applied(store.Policy, s.has, s.counts, s.good)
	return s
}

// counts reports whether a copy can stand in a period. Of one that is superseded its copy does, which has the same time.
func (s *shelf) counts(b Backup) bool {
	c := s.Copies[b.ID]
	return b.Complete && !c.Superseded && !c.Doubtful
}

// good reports whether a copy can be leaned on.
func (s *shelf) good(b Backup) bool {
	c := s.Copies[b.ID]
	return c.Present && !c.Damaged && !c.Doubtful && b.Complete && !b.DrillFailed
}

// wantedSomewhere are the backups that some store's policy would keep if it had them all.
func (d *decider) wantedSomewhere() map[holdfast.BackupID]string {
	wanted := map[holdfast.BackupID]string{}
	for _, store := range d.in.Stores {
		counts := func(b Backup) bool { return b.Complete && !d.superseded[b.ID] }
		reasons, _ := applied(store.Policy, d.backups, counts, func(b Backup) bool { return !b.DrillFailed })
		for id := range reasons {
			if _, known := wanted[id]; !known {
				wanted[id] = store.Name
			}
		}
	}
	return wanted
}

// supersededEverywhere are the backups for which a re-sealed copy stands in every store that has them.
func (d *decider) supersededEverywhere() map[holdfast.BackupID]bool {
	found := map[holdfast.BackupID]bool{}
	for _, s := range d.shelves {
		for id, c := range s.Copies {
			if c.Present && c.Superseded {
				found[id] = !slices.ContainsFunc(d.shelves, func(s *shelf) bool { return s.Copies[id].Present && !s.Copies[id].Superseded })
			}
		}
	}
	return found
}

// applied lets a policy choose among those backups that count, oldest first.
func applied(policy Policy, backups []Backup, counts, good func(Backup) bool) (map[holdfast.BackupID]reason, map[holdfast.BackupID][]miss) {
	c := &choice{policy: policy, good: good, reasons: map[holdfast.BackupID]reason{}, misses: map[holdfast.BackupID][]miss{}}
	groups := map[Kind][]Backup{}
	for _, b := range backups {
		if !counts(b) {
			continue
		}
		if b.Time.After(c.newest) {
			c.newest = b.Time
		}
		group := b.Kind
		if _, apart := policy.For(b.Kind); !apart {
			group = ""
		}
		groups[group] = append(groups[group], b)
	}
	for kind, group := range groups {
		rule := policy.Default
		if kind != "" {
			rule, _ = policy.For(kind)
		}
		c.apply(rule, group)
	}
	return c.reasons, c.misses
}

type choice struct {
	policy  Policy
	good    func(Backup) bool
	newest  time.Time // of the complete backups
	reasons map[holdfast.BackupID]reason
	misses  map[holdfast.BackupID][]miss
}

// add keeps the reason that holds longest.
func (c *choice) add(b Backup, r reason) {
	known, has := c.reasons[b.ID]
	if !has || known.until.Before(r.until) && !known.until.IsZero() || r.until.IsZero() && !known.until.IsZero() {
		c.reasons[b.ID] = r
	}
}

// apply lets one rule choose among the complete backups of one group, oldest first.
func (c *choice) apply(rule Rule, group []Backup) {
	times := make([]time.Time, len(group))
	for i, b := range group {
		times[i] = b.Time.In(c.policy.zone())
	}
	if rule.Forever {
		for _, b := range group {
			c.add(b, reason{"forever", "everything is kept, for ever", time.Time{}})
		}
		return
	}
	for _, p := range periods() {
		if n := p.count(rule); n != 0 {
			c.firsts(p, n, group, times)
		}
	}
	c.last(rule.Last, group)
	if rule.Within > 0 {
		for _, b := range group {
			if c.newest.Sub(b.Time) <= rule.Within {
				c.add(b, reason{"within", "within " + span(rule.Within), b.Time.Add(rule.Within)})
			} else {
				c.misses[b.ID] = append(c.misses[b.ID], miss{within: rule.Within})
			}
		}
	}
}

// firsts keeps the first good backup of each of the newest n periods that have one, and where none is good the first. times are
// those of the backups in the policy's zone.
func (c *choice) firsts(p period, n int, group []Backup, times []time.Time) {
	type slot struct {
		start time.Time
		first int // in group
		good  bool
	}
	var slots []slot
	for i, b := range group {
		start := p.start(times[i])
		good := c.good(b)
		last := len(slots) - 1
		switch {
		case last < 0 || !slots[last].start.Equal(start):
			slots = append(slots, slot{start, i, good})
		case good && !slots[last].good:
			slots[last].first, slots[last].good = i, true
		}
	}
	for i, s := range slots {
		rank, first := len(slots)-i, group[s.first] // rank 1 is the newest
		switch {
		case n < 0:
			c.add(first, reason{p.name, p.name + ", for ever", time.Time{}})
		case rank <= n:
			until := p.add(slots[len(slots)-1].start, n-rank+1)
			c.add(first, reason{p.name, fmt.Sprintf("%s %d of %d", p.name, rank, n), until})
		default:
			c.misses[first.ID] = append(c.misses[first.ID], miss{p.name, rank, n, 0})
		}
	}
}

// last keeps the newest n good backups; -1 all.
func (c *choice) last(n int, group []Backup) {
	rank := 0
	for _, b := range slices.Backward(group) {
		if n == 0 || n > 0 && rank == n {
			return
		}
		if !c.good(b) {
			continue
		}
		rank++
		text := fmt.Sprintf("last %d of %d", rank, n)
		if n < 0 {
			text = "last, for ever"
		}
		c.add(b, reason{"last", text, time.Time{}})
	}
}

// protect keeps what no rule may take: it goes before whatever reason a rule had.
func (s *shelf) protect(d *decider) {
	keep := func(b Backup, text string) { s.reasons[b.ID] = reason{text: text, until: s.reasons[b.ID].until} }
	once := func(b Backup, text string) {
		if _, kept := s.reasons[b.ID]; !kept {
			keep(b, text)
		}
	}
	newest := s.newestComplete()
	for _, b := range s.has {
		age := d.in.Now.Sub(b.Time)
		if newest != nil {
			age = min(age, newest.Time.Sub(b.Time))
		}
		if age < s.Policy.minAge() {
			once(b, "younger than "+span(s.Policy.minAge()))
		}
	}
	for _, b := range s.newestOf(s.counts) {
		once(b, "protected: the newest complete one")
	}
	for _, b := range s.newestOf(func(b Backup) bool { return b.Proven }) {
		once(b, "protected: the newest proven one")
	}
	for _, b := range s.has {
		if b.Pinned {
			text := "pinned"
			if !b.PinnedUntil.IsZero() {
				text += " until " + b.PinnedUntil.In(s.Policy.zone()).Format(time.DateOnly)
			}
			keep(b, text)
		}
		switch c := s.Copies[b.ID]; {
		case c.Doubtful:
			once(b, "its manifest cannot be accepted, so that it counts for nothing and is left to you")
		case c.Locked && c.LockedUntil.IsZero():
			once(b, "locked by the store")
		case c.Locked && c.LockedUntil.After(d.in.Now):
			once(b, "locked by the store until "+c.LockedUntil.In(s.Policy.zone()).Format(time.DateOnly))
		}
	}
}

// newestOf returns the newest backups that match: of runs and of all kinds, whole ones and whichever there are. Each of them may be
// the one that somebody needs.
func (s *shelf) newestOf(match func(Backup) bool) []Backup {
	var found []Backup
	for _, also := range []func(Backup) bool{
		func(Backup) bool { return true }, s.good, regular, func(b Backup) bool { return regular(b) && s.good(b) },
	} {
		for _, b := range slices.Backward(s.has) {
			if match(b) && also(b) {
				found = append(found, b)
				break
			}
		}
	}
	return found
}

// regular reports whether a backup is one of the job's own runs.
func regular(b Backup) bool { return b.Kind != Safety && b.Kind != Imported }

func (s *shelf) newestComplete() *Backup {
	for i := len(s.has) - 1; i >= 0; i-- {
		if s.has[i].Complete && !s.Copies[s.has[i].ID].Doubtful && regular(s.has[i]) {
			return &s.has[i]
		}
	}
	return nil
}

// keepLastCopies keeps, wherever there is one, good copies of what some policy keeps and no store that has a good copy would.
func (d *decider) keepLastCopies(wanted map[holdfast.BackupID]string) {
	for _, b := range d.backups {
		name, is := wanted[b.ID]
		if !is || d.superseded[b.ID] {
			continue
		}
		held := slices.ContainsFunc(d.shelves, func(s *shelf) bool {
			_, kept := s.reasons[b.ID]
			return kept && s.Reachable && s.good(b)
		})
		if held {
			continue
		}
		for _, s := range d.shelves {
			if _, kept := s.reasons[b.ID]; s.Copies[b.ID].Present && !kept {
				s.reasons[b.ID] = reason{text: "protected: the last copy anywhere of a backup that store " + name + " keeps"}
			}
		}
	}
}

func (s *shelf) plan(d *decider) StorePlan {
	plan := StorePlan{Store: s.Name}
	if !s.Reachable {
		plan.Blocked = "it cannot be reached"
		return plan
	}
	if !d.in.Force {
		plan.Blocked = s.blocked(d)
	}
	for _, b := range s.has {
		decision := Decision{Backup: b}
		if r, kept := s.reasons[b.ID]; kept {
			decision.Keep, decision.Why, decision.Until, decision.Rule = true, r.text, r.until, r.rule
			if !r.until.IsZero() && r.rule != "" {
				decision.Why += ", until " + r.until.In(s.Policy.zone()).Format("2 Jan 2006")
			}
		} else {
			decision.Why = s.whyNot(b)
		}
		plan.Decisions = append(plan.Decisions, decision)
	}
	// An incomplete backup may be all there is of a time; it goes only once a complete one is newer.
	newest := s.newestComplete()
	for i := range plan.Decisions {
		if b := &plan.Decisions[i]; !b.Keep && !b.Complete && (newest == nil || !newest.Time.After(b.Time)) {
			b.Keep, b.Why = true, "incomplete, and no complete one is newer"
		}
	}
	return plan
}

func (s *shelf) whyNot(b Backup) string {
	switch {
	case !b.Complete:
		return "incomplete, and a complete one is newer"
	case s.Copies[b.ID].Superseded:
		return "a re-sealed copy stands for it"
	}
	if misses := s.misses[b.ID]; len(misses) > 0 {
		texts := make([]string, len(misses))
		for i, m := range misses {
			texts[i] = m.String()
		}
		return "not kept: " + strings.Join(texts, ", ")
	}
	rule, _ := s.Policy.For(b.Kind)
	for _, p := range periods() {
		if p.count(rule) != 0 {
			return "not the first of its " + p.of
		}
	}
	return "no rule keeps it"
}

// blocked says why nothing may be deleted from the store now.
func (s *shelf) blocked(d *decider) string {
	at := func(t time.Time) string { return t.In(s.Policy.zone()).Format("2006-01-02 15:04") }
	if run := d.in.LastRun; run != nil && run.Failed {
		return "the newest run, of " + at(run.Time) + ", failed"
	}
	for _, b := range d.backups {
		if b.Time.Sub(d.in.Now) > future {
			return "backup " + string(b.ID) + " is of " + at(b.Time) + ", which is in the future: the clock is wrong, or was"
		}
	}
	newest := s.newestComplete()
	if newest == nil {
		return "it has no complete backup"
	}
	if age := d.in.Now.Sub(newest.Time); age > 2*s.Policy.interval() {
		return fmt.Sprintf("the newest complete backup here is of %s, and one is expected every %s", at(newest.Time), span(s.Policy.interval()))
	}
	return s.jumped(d)
}

// jumped looks for a hole in the history that is longer than what came after it: either backups stopped for that long, or the
// clock jumped, and then what seems old is not.
func (s *shelf) jumped(d *decider) string {
	least := max(2*s.Policy.interval(), day)
	times := slices.Clone(d.in.Deleted)
	for _, b := range d.backups {
		if b.Complete && regular(b) {
			times = append(times, b.Time)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	var gap time.Duration
	var since time.Time
	for i := 1; i < len(times); i++ {
		hole := times[i].Sub(times[i-1])
		if hole > least && times[len(times)-1].Sub(times[i]) < hole {
			gap, since = hole, times[i]
		}
	}
	if gap == 0 {
		return ""
	}
	return fmt.Sprintf("the clock may have jumped, or backups stopped for %s before %s; nothing is deleted until they have gone on for as long",
		span(gap.Round(time.Hour)), since.In(s.Policy.zone()).Format("2006-01-02 15:04"))
}
