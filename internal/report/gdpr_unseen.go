package report

import (
	"slices"
	"strings"
)

// ownJournal is what the journal here is called where it could not be read.
const ownJournal = "the journal of this host"

// NotSeen is everything that could not be looked at for the report, once, and why.
func (g GDPR) NotSeen() []GDPRUnseen {
	all := slices.Clone(g.Unseen)
	if g.JournalError != "" {
		all = append(all, GDPRUnseen{ownJournal, g.JournalError, "`holdfast audit verify` as root"})
	}
	for _, c := range g.Chains {
		if c.Error != "" {
			all = append(all, GDPRUnseen{c.name(), c.Error, "`holdfast audit verify`"})
		}
	}
	for _, v := range g.Volumes {
		fix := hintf("`holdfast volume status %s` as root", v.Name)
		switch {
		case v.Error != "" && v.Error == v.GuardError:
			all = append(all, GDPRUnseen{"header and guard of " + v.name(), v.Error, fix})
			continue
		case v.Error != "":
			all = append(all, GDPRUnseen{"header of " + v.name(), v.Error, fix})
		}
		if v.GuardError != "" {
			all = append(all, GDPRUnseen{"guard of " + v.name(), v.GuardError, fix})
		}
	}
	return all
}

// Open names the lines that are not known, or not all of them is, for what could not be seen.
func (g GDPR) Open() []string {
	var open []string
	for _, line := range g.lines(func(l GDPRLine) bool { return l.Unseen != "" }) {
		open = append(open, line.What)
	}
	return open
}

// unreadHere is what says that records of this host were not all read.
func (g GDPR) unreadHere() []string {
	var unread []string
	if g.JournalError != "" || g.Lost != "" {
		unread = append(unread, ownJournal)
	}
	for _, c := range g.Chains {
		if c.Own && (c.Error != "" || c.Problem != "") {
			unread = append(unread, c.name())
		}
	}
	return unread
}

// unread is what says that records were not all read, of this host or of another.
func (g GDPR) unread() []string {
	unread := append(g.unreadHere(), g.Unread...)
	for _, c := range g.Chains {
		if !c.Own && c.Problem != "" {
			unread = append(unread, c.name())
		}
	}
	return unread
}

// unsure marks a line that what could not be read may have more for. That nothing was found is not said of it then.
func (l GDPRLine) unsure(unread []string) GDPRLine {
	if len(unread) == 0 || l.Missing != "" {
		return l
	}
	l.Unseen = "some of what tells of it: " + strings.Join(unread, ", ")
	if slices.Contains([]string{"none", "never", "not measured"}, l.Value) {
		l.Value = "none seen"
	}
	return l
}

// absent is lacks for what is missing only if it was looked for everywhere.
func (l GDPRLine) absent(unread []string, when bool, missing, fix string) GDPRLine {
	if when && len(unread) > 0 {
		return l.unsure(unread)
	}
	return l.lacks(when, missing, fix)
}
