package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Alarm is a condition that somebody must hear of. Each word has a page in docs/runbooks.
type Alarm string

// The alarms.
const (
	Stale            Alarm = "stale"             // no complete backup for longer than its interval and the grace
	RunFailed        Alarm = "failed"            // the newest run made no backup
	Incomplete       Alarm = "incomplete"        // the newest backup lacks a source
	CopyMissing      Alarm = "copy_missing"      // a store lacks the newest backup
	StoreDown        Alarm = "store_down"        // a store could not be looked at
	SizeOdd          Alarm = "size"              // an item is much larger or smaller than usual
	DurationOdd      Alarm = "duration"          // the run took much longer than usual
	DrillOverdue     Alarm = "drill_overdue"     // nothing was proven for longer than the schedule says
	DrillFailed      Alarm = "drill_failed"      // a drill did not bring back what was backed up
	DrillImpossible  Alarm = "drill_impossible"  // the last drill could not test
	ObjectiveMissed  Alarm = "objective_missed"  // what was promised does not hold
	VerifyFailed     Alarm = "verify_failed"     // stored bytes are not what was signed
	PruneBlocked     Alarm = "prune_blocked"     // nothing is deleted any more
	DiskFull         Alarm = "disk_full"         // a store is full within days
	KeyDue           Alarm = "key_due"           // a key expires, is old, or was not checked
	RecipientUnknown Alarm = "recipient_unknown" // a backup is sealed to a key that nobody configured
	AuditBroken      Alarm = "audit_broken"      // the journal is not what was signed
	ClockOff         Alarm = "clock_off"
	ConfigChanged    Alarm = "config_changed" // the file is not what the service runs with
	QueueFailing     Alarm = "queue_failing"  // the service cannot write its queue, and starts nothing
	ChannelFailing   Alarm = "channel_failing"

	VolumeLocked       Alarm = "volume_locked"        // it is not mounted
	VolumeNotLUKS      Alarm = "volume_not_luks"      // it is not there, or nothing that can be opened
	VolumeElsewhere    Alarm = "volume_elsewhere"     // something else is where it is to be mounted, or may come there
	VolumeSlots        Alarm = "volume_slots"         // a role has no key, or a key has no role
	VolumeUnlockFailed Alarm = "volume_unlock_failed" // a try to unlock failed
	VolumeFull         Alarm = "volume_full"
	VolumeFilling      Alarm = "volume_filling"
	VolumeBusy         Alarm = "volume_busy"
	VolumeSlow         Alarm = "volume_slow"
	VolumeHeaderBackup Alarm = "volume_header_backup" // the backup of its header is missing or old
	VolumeKeyDue       Alarm = "volume_key_due"       // a key is old, was not checked, or is known to somebody who left
	VolumeMigration    Alarm = "volume_migration"     // it was begun and not finished
)

// Alarms are all of them, in the order of the documentation.
func Alarms() []Alarm {
	return []Alarm{
		Stale, RunFailed, Incomplete, CopyMissing, StoreDown, SizeOdd, DurationOdd, DrillOverdue, DrillFailed, DrillImpossible, ObjectiveMissed,
		VerifyFailed, PruneBlocked, DiskFull, KeyDue, RecipientUnknown, AuditBroken, ClockOff, ConfigChanged, QueueFailing, ChannelFailing,
		VolumeLocked, VolumeNotLUKS, VolumeElsewhere, VolumeSlots, VolumeUnlockFailed, VolumeFull, VolumeFilling, VolumeBusy, VolumeSlow, VolumeHeaderBackup,
		VolumeKeyDue, VolumeMigration,
	}
}

// OfVolume reports whether the alarm is about a volume.
func (a Alarm) OfVolume() bool { return strings.HasPrefix(string(a), "volume_") }

// Severity says how soon somebody must act.
type Severity int

// The severities, the lesser first.
const (
	Warning  Severity = iota + 1 // within days
	Critical                     // today
)

func (s Severity) String() string {
	if s == Critical {
		return "critical"
	}
	return "warning"
}

// Severity is that of an alarm; it never depends on the figures.
func (a Alarm) Severity() Severity {
	switch a {
	case Stale, RunFailed, DrillFailed, VerifyFailed, AuditBroken, RecipientUnknown, QueueFailing,
		VolumeLocked, VolumeNotLUKS, VolumeElsewhere, VolumeSlots, VolumeUnlockFailed, VolumeFull:
		return Critical
	}
	return Warning
}

// Finding is one thing that is wrong.
type Finding struct {
	Alarm  Alarm
	Job    holdfast.JobName // "" when it is not about one
	Store  string
	Volume string
	What   string    // of what else there may be several: a source and an item, a key, a channel
	Since  time.Time // zero: not known
	Text   string    // a sentence on one line, without a full stop
	Hint   string    // what to do
}

// Key tells findings apart: that of what is wrong now is the same for as long as it lasts.
func (f Finding) Key() string {
	what := f.What
	if f.Volume != "" {
		what = f.Volume + "/" + what
	}
	return strings.Join([]string{string(f.Alarm), string(f.Job), f.Store, what}, "/")
}

// About names what it is about, for the beginning of a line.
func (f Finding) About() string {
	var parts []string
	if f.Job != "" {
		parts = append(parts, "job "+string(f.Job))
	}
	if f.Store != "" {
		parts = append(parts, "store "+f.Store)
	}
	if f.Volume != "" {
		parts = append(parts, "volume "+f.Volume)
	}
	return strings.Join(parts, ", ")
}

// sorted puts what is worst first, and what began first before what began later. What began nobody knows when comes before both.
func sorted(all []Finding) []Finding {
	slices.SortStableFunc(all, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(y.Alarm.Severity(), x.Alarm.Severity()), x.Since.Compare(y.Since))
	})
	return all
}

// Sentence tells the worst state in one sentence.
func Sentence(s State, findings []Finding) string {
	jobs := len(s.Jobs)
	switch {
	case jobs == 0 && len(findings) == 0:
		return "there is no job to look at"
	case len(findings) == 0:
		proven := 0
		for _, job := range s.Jobs {
			if _, is := job.Proven(); is {
				proven++
			}
		}
		return fmt.Sprintf("all is well: %s, %d of them proven by a drill", count(jobs, "job", "jobs"), proven)
	}
	worst := findings[0]
	text := strings.ToUpper(worst.Alarm.Severity().String()) + ": "
	if about := worst.About(); about != "" {
		text += about + ": "
	}
	text += worst.Text
	if more := len(findings) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// Span writes a duration as a person would say it: 40 min, 26 h, 9 days. Below zero it is "0 s".
func Span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
