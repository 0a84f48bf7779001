package migration

import (
	"fmt"
	"time"

	"holdfast"
)

// What the way back after writes is expected to take.
const (
	leastWayBack = 30 * time.Minute
	mostWayBack  = 60 * time.Minute
)

// Phase is one step that was taken.
type Phase struct {
	Step  Step          `json:"step"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
}

// Report is what was done, also by earlier runs of the same migration.
type Report struct {
	Volume, From, To string
	Step             Step  // where it stands; "": there is none
	UnderWay         bool  // a death or an error left it: it is to be resumed or rolled back
	Size             int64 // bytes
	Phases           []Phase
	Downtime         time.Duration // from shutting out to healthy; 0: not reached
	ShutOut          time.Duration // from shutting out to letting in, which is what applications feel
	WayBack          time.Duration // how long a roll back took
	Before, After    time.Duration // the fixed queries on the old directory and on the volume; 0: not measured
	Rate             time.Duration // per GB (10^9 bytes) of the first copy; 0: not measured
	Reason           string        // why it was rolled back or finished
	Backup           holdfast.BackupID
	Lost             []string // what the old directory lacks; names of tables, so it is not kept
	Notes            []string
}

// Report says where the migration stands, by its state file alone.
func (m Migration) Report() (Report, error) {
	s, _, err := m.load()
	if err != nil {
		return Report{}, err
	}
	return (&run{Migration: m, s: s}).report(), nil
}

func (r *run) report() Report {
	s := r.s
	report := Report{Volume: r.o.Volume, From: r.o.From, To: r.o.To, Step: s.Done, Size: s.Size, Phases: s.Phases,
		Downtime: s.Downtime, ShutOut: s.ShutOut, WayBack: s.WayBack, Before: s.Before, After: s.After, Rate: s.Rate,
		Reason: s.Reason, Backup: s.Backup, Lost: r.lost, Notes: s.Notes}
	report.UnderWay = s.Course != "" && s.Course != ended && !(s.Course == moving && s.Done == Watched)
	return report
}

// Lines tell the report to a person.
func (r Report) Lines() []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch {
	case r.Step == "":
		add("There is no migration to volume %s.", r.Volume)
	case r.UnderWay:
		add("The migration of %s to volume %s is under way; the last step that ended is: %s.", r.From, r.Volume, r.Step)
	case r.Step == Watched:
		add("%s was moved to %s. The old directory is kept until finish.", r.From, r.To)
	case r.Step == RolledBack:
		add("The server has its old directory, as it was. Reason: %s.", r.Reason)
	case r.Step == WentBack:
		add("The server has a directory restored from backup %s, with all that was written. The old directory is kept. Reason: %s.", r.Backup, r.Reason)
	case r.Step == Finished:
		add("The old directory was removed, after backup %s was proven. Reason: %s.", r.Backup, r.Reason)
	}
	for _, p := range r.Phases {
		add("  %-14s %s", p.Step, rounded(p.Took))
	}
	if r.Downtime > 0 {
		add("Downtime, from shutting applications out to a healthy server: %s.", rounded(r.Downtime))
	}
	if r.ShutOut > 0 {
		add("Applications were shut out for %s.", rounded(r.ShutOut))
	}
	if r.After > 0 {
		add("The fixed queries take %s, and took %s before: %+.1f %%.", r.After, r.Before, overhead(r.Before, r.After)*100)
	}
	if r.Rate > 0 {
		add("The copy took %s per GB.", rounded(r.Rate))
	}
	if r.WayBack > 0 {
		add("The way back took %s; %.0f to %.0f minutes are expected.", rounded(r.WayBack), leastWayBack.Minutes(), mostWayBack.Minutes())
	}
	for _, lost := range r.Lost {
		add("The old directory lacks: %s.", lost)
	}
	return append(lines, r.Notes...)
}

// count is a number of things.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// rounded is a duration in the units that matter.
func rounded(d time.Duration) time.Duration {
	if d >= 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// size is a number of bytes for a person.
func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}
