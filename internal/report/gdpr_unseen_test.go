package report_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/journal"
	"holdfast/internal/report"
)

// TestGDPRUnseenIsNotMissing: what could not be looked at is told as not seen, and never as missing; what was seen to be wrong stays missing.
func TestGDPRUnseenIsNotMissing(t *testing.T) {
	drop := func(g *report.GDPR, events ...string) {
		g.Records = slices.DeleteFunc(g.Records, func(r report.GDPRRecord) bool { return slices.Contains(events, r.Event) })
	}
	box := []string{"store box"}
	for _, c := range []struct {
		name          string
		change        func(*report.GDPR)
		open, missing []string // some of the lines that are open; all that is missing
	}{
		{"no backup", func(g *report.GDPR) {
			g.Jobs[0].Backups, g.Jobs[0].Oldest, g.Jobs[0].Newest, g.Jobs[0].Unread = 0, report.GDPRBackup{}, report.GDPRBackup{}, box
		}, []string{"job app: backups"}, nil},
		{"an old backup", func(g *report.GDPR) { g.Jobs[0].Newest.Time, g.Jobs[0].Unread = day("2026-11-01"), box }, []string{"job app: backups"}, nil},
		{"maybe more backups", func(g *report.GDPR) { g.Jobs[0].Unread = box }, []string{"job app: backups"}, nil},
		{"key never checked", func(g *report.GDPR) { g.Jobs[0].Keys[0].Checked, g.Jobs[0].Keys[0].Unread = time.Time{}, box }, []string{"key ops: shown to open a backup"}, nil},
		{"key checked long ago", func(g *report.GDPR) { g.Jobs[0].Keys[0].Checked, g.Jobs[0].Keys[0].Unread = day("2026-08-20"), box }, []string{"key ops: shown to open a backup"}, nil},
		{"key checked in time", func(g *report.GDPR) { g.Jobs[0].Keys[0].Unread = box }, nil, nil},
		{"header", func(g *report.GDPR) { g.Volumes[0].Error, g.Volumes[0].Slots = "permission denied", nil }, []string{"volume pg-data: header"}, nil},
		{"header, an emergency before", func(g *report.GDPR) {
			g.Volumes[0].Error, g.Volumes[0].Slots = "permission denied", nil
			g.Records = append(g.Records, record("10", "2026-11-20", "VOLUME_EMERGENCY", "pg-data"))
		}, []string{"volume pg-data: header", "VOLUME_EMERGENCY volume pg-data"}, nil},
		{"guard", func(g *report.GDPR) { g.Volumes[0].Guarded, g.Volumes[0].GuardError = false, "it takes root" }, []string{"volume pg-data: guard"}, nil},
		{"no header backup", func(g *report.GDPR) { g.Volumes[0].Headers, g.Volumes[0].Unread = nil, box }, []string{"volume pg-data: backup of the header"}, nil},
		{"an old header backup", func(g *report.GDPR) { g.Volumes[0].Headers, g.Volumes[0].Unread = g.Volumes[0].Headers[:1], box }, []string{"volume pg-data: backup of the header"}, nil},
		{"chain in no store", func(g *report.GDPR) { g.Chains[0].Stores, g.Chains[0].Unread = nil, box }, []string{"chain web1-abc: in stores"}, nil},
		{"chain not verified", func(g *report.GDPR) {
			g.Chains[0] = report.GDPRChain{Name: "web1-abc", Last: 9, Error: "permission denied", Own: true}
		}, []string{"chain web1-abc", "chain web1-abc: in stores", "chain web1-abc: verified"}, nil},
		{"no journal", func(g *report.GDPR) { g.Chains, g.JournalError = nil, "permission denied" }, []string{"the journal of this host"}, nil},
		{"no record that could be read", func(g *report.GDPR) { g.Records, g.Chains, g.JournalError = nil, nil, "permission denied" }, []string{
			"volume pg-data: data is on it, and not readable on the device", "volume pg-data: keys tried", "job app: last drill", "job app: last proven", "job app: time to restore", "job app: deletions", "review",
			"volume pg-data: custodians asked", "rotations", "openings", "incidents",
		}, nil},
		{"records of other hosts", func(g *report.GDPR) {
			g.Unread = box
			drop(g, "DRILL", "PRUNE_DONE", "REVIEW")
		}, []string{"job app: drills", "job app: last proven", "job app: time to restore", "job app: deletions", "review", "more rotations"}, nil},
		{"records of other hosts do not tell of this one's volumes", func(g *report.GDPR) {
			g.Unread = box
			drop(g, "VOLUME_VERIFIED", "VOLUME_KEY_CHECK", "CUSTODIANS_CHECKED")
		}, nil, []string{
			"it was never verified that the data of volume pg-data is sealed on its device", "nobody ever tried whether the keys of volume pg-data open it", "the custodians of volume pg-data were never checked",
		}},
		{"records of a chain that is not whole", func(g *report.GDPR) {
			g.Chains[0].Own, g.Chains[0].Problem = true, "record 3 was changed"
			drop(g, "VOLUME_VERIFIED")
		}, []string{"volume pg-data: data is on it, and not readable on the device"}, []string{"chain web1-abc is not whole"}},
		{"records of another host's chain that is not whole", func(g *report.GDPR) {
			g.Chains = append(g.Chains, report.GDPRChain{Name: "desk-x", Records: 2, Signed: 2, Last: 2, Stores: []string{"s3"}, Checked: day("2026-11-30"), Problem: "record 1 was changed"})
			drop(g, "DRILL")
		}, []string{"job app: last proven"}, []string{"chain desk-x is not whole"}},
		{"a verification that failed", func(g *report.GDPR) { g.Records[2].Result, g.JournalError = "difference", "half of it" }, nil, []string{"the last verification of volume pg-data failed"}},
	} {
		g := site()
		c.change(&g)
		if got := texts(g); !slices.Equal(got, append([]string{}, c.missing...)) {
			t.Errorf("%s: missing %q, want %q", c.name, got, c.missing)
		}
		open := g.Open()
		for _, what := range c.open {
			if !slices.Contains(open, what) {
				t.Errorf("%s: %q is not open: %q", c.name, what, open)
			}
		}
		for _, s := range g.Sections() {
			for _, l := range s.Lines {
				if l.Unseen != "" && slices.Contains([]string{"none", "never", "not measured"}, l.Value) {
					t.Errorf("%s: of %q it is said %q, which was not seen", c.name, l.What, l.Value)
				}
			}
		}
	}
}

// TestGDPRNotSeen: each thing stands once, with why and what to do.
func TestGDPRNotSeen(t *testing.T) {
	g := site()
	g.Unseen = []report.GDPRUnseen{{What: "store box", Why: "no route", Fix: "wait"}}
	g.JournalError, g.Chains[0].Error, g.Volumes[0].Error, g.Volumes[0].GuardError = "denied", "locked", "no header", "no root"
	g.Volumes = append(g.Volumes, report.GDPRVolume{Name: "b", Error: "no user", GuardError: "no user"})
	want := []report.GDPRUnseen{
		{What: "store box", Why: "no route", Fix: "wait"}, {What: "the journal of this host", Why: "denied", Fix: "`holdfast audit verify` as root"},
		{What: "chain web1-abc", Why: "locked", Fix: "`holdfast audit verify`"}, {What: "header of volume pg-data", Why: "no header", Fix: "`holdfast volume status pg-data` as root"},
		{What: "guard of volume pg-data", Why: "no root", Fix: "`holdfast volume status pg-data` as root"}, {What: "header and guard of volume b", Why: "no user", Fix: "`holdfast volume status b` as root"},
	}
	if got := g.NotSeen(); !slices.Equal(got, want) {
		t.Errorf(" got %q\nwant %q", got, want)
	}
}

// TestGDPRLongSections: the newest 50 records are told, and those that lack something; of the others, how many there are and what shows them.
func TestGDPRLongSections(t *testing.T) {
	section := func(g report.GDPR, title string) report.GDPRSection {
		for _, s := range g.Sections() {
			if s.Title == title {
				return s
			}
		}
		t.Fatalf("there is no section %q", title)
		return report.GDPRSection{}
	}
	g := site()
	g.Records = append(g.Records, record("10", "2026-11-06", "VOLUME_EMERGENCY", "pg-data"))
	for i := range 52 {
		at := func(r *report.GDPRRecord) { r.Time = r.Time.Add(time.Duration(i) * time.Minute) }
		g.Records = append(g.Records, record(fmt.Sprint("r", i), "2026-11-20", "EMERGENCY_ACCESS", "", at), record(fmt.Sprint("k", i), "2026-11-20", "KEY_RESEAL", "", at))
	}
	for _, c := range []struct {
		title, note string
		first       []string
		count       int
	}{
		{"Who opened backups and volumes", "3 older records are not shown. `holdfast audit show --since 2026-09-01 --until 2026-11-30 --event RESTORE,DECRYPT,", []string{"web1-abc r2"}, 50},
		{"Incidents", "2 older records are not shown. `holdfast audit show --since 2026-09-01 --until 2026-11-30 --event EMERGENCY_ACCESS,", []string{"web1-abc 10", "web1-abc r2"}, 51},
		{"Keys that were replaced", "3 older records are not shown. `holdfast audit show --since 2026-09-01 --until 2026-11-30 --event KEY_ROTATION,", []string{"web1-abc k2"}, 50},
	} {
		s := section(g, c.title)
		var got []string
		for _, l := range s.Lines {
			got = append(got, l.Record)
		}
		if len(got) != c.count || !slices.Equal(got[:len(c.first)], c.first) || got[c.count-1] != c.first[len(c.first)-1][:10]+"51" || !strings.Contains(s.Note, c.note) {
			t.Errorf("%s: %d lines from %q, %q", c.title, len(got), got[:min(2, len(got))], s.Note)
		}
	}
	if s := section(site(), "Incidents"); strings.Contains(s.Note, "not shown") {
		t.Errorf("nothing is left out, and the note says %q", s.Note)
	}
}

// TestGDPRCommandShowsAll: the command for what is left out asks for each event that the part tells.
func TestGDPRCommandShowsAll(t *testing.T) {
	many := func(event string, result, reason string) report.GDPR {
		g := site()
		g.Volumes[0].Slots[0].Created, g.Volumes[0].Slots[1].Created = day("2026-11-20"), day("2026-11-20")
		g.Records = nil
		for range 51 {
			g.Records = append(g.Records, record("x", "2026-11-20", event, "pg-data", func(r *report.GDPRRecord) { r.Result, r.Reason = result, reason }))
		}
		return g
	}
	left := 0
	for _, event := range journal.Events() {
		for _, result := range []string{"good", "failed", "difference", string(holdfast.Proven)} {
			for _, reason := range []string{"", "stolen"} {
				for _, s := range many(string(event), result, reason).Sections() {
					if !strings.Contains(s.Note, "not shown") {
						continue
					}
					if left++; !strings.Contains(s.Note, "1 older record is not shown.") || !strings.Contains(strings.NewReplacer(",", " ", "`", " ").Replace(s.Note)+" ", " "+string(event)+" ") {
						t.Errorf("%s %s: %q", event, result, s.Note)
					}
				}
			}
		}
	}
	if left < 30 {
		t.Errorf("only %d parts leave something out: this test looks at nothing", left)
	}
}
