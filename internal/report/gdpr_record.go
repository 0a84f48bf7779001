package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// rotations tells which keys were replaced.
func (g GDPR) rotations() GDPRSection {
	events := []string{"KEY_ROTATION", "KEY_RESEAL", "VOLUME_KEY_ROTATED", "VOLUME_KEY_REMOVED", "VOLUME_REENCRYPTED"}
	var lines []GDPRLine
	for _, r := range g.within(func(r GDPRRecord) bool { return r.is(events...) }) {
		lines = append(lines, r.line(Sealing))
	}
	return g.told(GDPRSection{Title: "Keys that were replaced"}, lines, "rotations", Sealing, events)
}

// mostTold is how many records one part tells, the newest, beside those that lack something.
const mostTold = 50

// told is a part that tells records, oldest first. events are all that it may have.
func (g GDPR) told(s GDPRSection, lines []GDPRLine, what string, article Article, events []string) GDPRSection {
	for i, line := range lines {
		if i >= len(lines)-mostTold || line.Missing != "" || line.Unseen != "" {
			s.Lines = append(s.Lines, line)
		}
	}
	if more := len(lines) - len(s.Lines); more > 0 {
		s.Note = strings.TrimSpace(fmt.Sprintf("%s %s not shown. `holdfast audit show --since %s --until %s --event %s` shows all of this host, and with `--store NAME` those of others.",
			s.Note, plural(more, "older record")+map[bool]string{true: " is", false: " are"}[more == 1], g.From.Format(time.DateOnly), g.Until.Add(-1).Format(time.DateOnly), strings.Join(events, ",")))
	}
	unread, rest := g.unread(), GDPRLine{What: what, Value: "none", Record: g.chains(), Article: article}
	switch {
	case len(unread) > 0:
		if len(lines) > 0 {
			rest.What = "more " + what
		}
		s.Lines = append(s.Lines, rest.unsure(unread))
	case len(lines) == 0:
		rest.Value = "none recorded in this span"
		s.Lines = append(s.Lines, rest)
	}
	return s
}

// audit tells how whole the trail is that the other parts lean on.
func (g GDPR) audit() GDPRSection {
	s := GDPRSection{Title: "The audit trail"}
	if !g.recorded() {
		s.Lines = append(s.Lines, GDPRLine{What: ownJournal, Value: cmp.Or(g.Lost, "none"), Record: g.chains(), Article: Records}.
			lacks(g.Lost != "", ownJournal+" is gone, and was there", "`holdfast audit verify`, then `holdfast audit rebuild`").
			absent(g.unreadHere(), true, "nothing was recorded on this host", "run the commands on the host whose state folder is kept"))
	}
	for _, c := range g.Chains {
		s.Lines = append(s.Lines, g.chain(c)...)
	}
	reviewed := g.last(func(r GDPRRecord) bool { return r.is("REVIEW") })
	review := GDPRLine{What: "review", Value: g.ago(reviewed.Time), Record: cmp.Or(reviewed.ID, "no record"), Article: Testing}
	if reviewed.ID != "" {
		review.Value += fmt.Sprintf(", by %s: %s", reviewed.who(), cmp.Or(reviewed.Reason, reviewed.Detail, "no note"))
	}
	fix := "`holdfast audit review --note TEXT`"
	s.Lines = append(s.Lines, review.absent(g.unread(), reviewed.ID == "", "nobody ever looked at the audit trail", fix).
		absent(g.unread(), g.older(reviewed.Time, quarter), "nobody looked at the audit trail for 100 days", fix))
	return s
}

// recorded reports whether there is a journal of this host.
func (g GDPR) recorded() bool {
	return slices.ContainsFunc(g.Chains, func(c GDPRChain) bool { return c.Own })
}

func (c GDPRChain) name() string { return "chain " + c.Name }

func (g GDPR) chain(c GDPRChain) []GDPRLine {
	name := c.name()
	verify := "`holdfast audit verify`"
	unsigned := fmt.Sprintf("the last record of %s is not signed", name)
	if n := c.Last - c.Signed; n > 1 {
		unsigned = fmt.Sprintf("the last %d records of %s are not signed", n, name)
	}
	var here []string
	if c.Error != "" {
		here = []string{name}
	}
	unread := append(here, c.Unread...)
	none := "none"
	if c.Problem != "" {
		none = "none that has it whole" // which is what is missing then
	}
	return []GDPRLine{
		GDPRLine{What: name, Value: fmt.Sprintf("%s, signed up to number %d of %d", plural(c.Records, "record"), c.Signed, c.Last), Record: "journal " + c.Name, Article: Records}.
			absent(here, c.Signed < c.Last, unsigned, "`holdfast audit verify` says why"),
		GDPRLine{What: name + ": in stores", Value: or(c.Stores, none), Record: "journal " + c.Name, Article: Resilience}.
			absent(unread, len(c.Stores) == 0 && c.Problem == "", name+" is in no store: losing the host loses it", "`holdfast audit verify` says why"),
		GDPRLine{What: name + ": verified", Value: strings.TrimSuffix(g.ago(c.Checked)+": "+c.Problem, ": "), Record: "journal " + c.Name, Article: Testing}.
			lacks(c.Problem != "", name+" is not whole", verify).
			absent(unread, c.Checked.IsZero(), name+" was not verified", verify),
	}
}

// openings tells who had access to what backups and volumes hold.
func (g GDPR) openings() GDPRSection {
	s := GDPRSection{Title: "Who opened backups and volumes", Note: "By account and address, as the system told them: evidence, not proof of a person."}
	events := []string{"RESTORE", "DECRYPT", "EMERGENCY_ACCESS", "SHOW", "LINK", "KEY_EXPORT", "VOLUME_EMERGENCY", "VOLUME_UNLOCK"}
	var lines []GDPRLine
	for _, r := range g.within(func(r GDPRRecord) bool { return r.is(events...) && (r.good() || !r.is("VOLUME_UNLOCK")) }) {
		lines = append(lines, r.line(Records))
	}
	return g.told(s, lines, "openings", Records, events)
}

// incidents tells what has to be looked at before somebody can say that there was no breach.
func (g GDPR) incidents() GDPRSection {
	s := GDPRSection{Title: "Incidents", Note: "Whether one of these is a breach of personal data, and whom it must be told, is for a person to say; from when it is known there are 72 hours (article 33)."}
	var lines []GDPRLine
	for _, r := range g.within(incident) {
		line := r.line(Notice)
		if r.is("VOLUME_EMERGENCY") {
			line = g.emergency(r, line)
		}
		lines = append(lines, line)
	}
	return g.told(s, lines, "incidents", Notice, []string{
		"EMERGENCY_ACCESS", "VOLUME_EMERGENCY", "REFUSED", "VOLUME_ROLLED_BACK", "VOLUME_REENCRYPTED", "JOURNAL_REBUILT", "VOLUME_UNLOCK", "VOLUME_VERIFIED", "VOLUME_KEY_CHECK",
		"DRILL", "VERIFIED", "KEY_ROTATION", "VOLUME_KEY_ROTATED",
	})
}

func incident(r GDPRRecord) bool {
	switch {
	case r.is("EMERGENCY_ACCESS", "VOLUME_EMERGENCY", "REFUSED", "VOLUME_ROLLED_BACK", "VOLUME_REENCRYPTED", "JOURNAL_REBUILT"):
		return true
	case r.is("VOLUME_UNLOCK", "VOLUME_VERIFIED", "VOLUME_KEY_CHECK"):
		return !r.good()
	case r.is("DRILL"):
		return r.verdict() != holdfast.Proven && r.Result != "restores"
	case r.is("VERIFIED"):
		return r.Result == "difference"
	case r.is("KEY_ROTATION", "VOLUME_KEY_ROTATED"):
		return r.Reason != "" // a key that is due is replaced without one
	}
	return false
}

// emergency marks the line of an emergency after which not each role's key of the volume was made anew, on that day or later: a key's day, which the
// header has, has no hour.
func (g GDPR) emergency(r GDPRRecord, line GDPRLine) GDPRLine {
	day := r.Time.UTC().Truncate(24 * time.Hour)
	rotate := hintf("`holdfast volume key rotate %s`, for each role", r.Volume)
	at := slices.IndexFunc(g.Volumes, func(v GDPRVolume) bool { return v.Name == r.Volume })
	if at < 0 {
		return line.lacks(true, fmt.Sprintf("nothing shows that the keys of volume %s, which is not configured, were replaced after the emergency of %s", r.Volume, day.Format(time.DateOnly)), rotate)
	}
	v := g.Volumes[at]
	if v.Error != "" {
		line.Unseen = "whether both keys were replaced since is in the header of " + v.name() + ", which could not be read"
	}
	renewed := true
	for _, role := range roles() {
		slot, some := v.slotOf(role)
		renewed = renewed && some && !slot.Created.Before(day)
	}
	return line.lacks(!renewed, fmt.Sprintf("after the emergency of %s not both keys of %s were replaced", day.Format(time.DateOnly), v.name()), rotate)
}
