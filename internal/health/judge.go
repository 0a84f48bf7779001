package health

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"holdfast"
)

const day = 24 * time.Hour

// Limits are the thresholds that a configuration may set. A zero value is the default that stands beside it.
type Limits struct {
	Size     float64       // how far an item may be from the median of its last 7 days: 0.3 is 30 % (DefaultSize)
	Duration float64       // how many times the median a run may take (DefaultDuration)
	DiskDays int           // a store that is full within so many days is told (DefaultDiskDays)
	KeyDays  int           // a key that expires within so many days is told (DefaultKeyDays)
	Grace    time.Duration // added to every interval; 0: a twelfth of it, at least 30 minutes and at most 12 hours
}

// The defaults of [Limits], for whoever shows them.
const (
	DefaultSize     = 0.3
	DefaultDuration = 3
	DefaultDiskDays = 14
	DefaultKeyDays  = 30
)

func (l Limits) filled() Limits {
	return Limits{cmp.Or(l.Size, DefaultSize), cmp.Or(l.Duration, DefaultDuration), cmp.Or(l.DiskDays, DefaultDiskDays), cmp.Or(l.KeyDays, DefaultKeyDays), l.Grace}
}

const (
	// KeyAge is after how long a key is due for rotation, and KeyCheck after how long an identity is due to be tried.
	KeyAge   = 365 * day
	KeyCheck = 100 * day

	leastGrace = 30 * time.Minute
	mostGrace  = 12 * time.Hour

	// leastHistory is how many earlier backups a median needs.
	leastHistory = 3
	// lookBack is how far back they are looked for.
	lookBack = 7 * day
	// leastBytes and leastTook are differences that are never told: sealed files of a few blocks vary by themselves.
	leastBytes = 4 << 10
	leastTook  = time.Minute
	// leastSlope is for how long free space must have been followed before a line is put through it.
	leastSlope = 2 * day
	// ahead is how far in the future a backup may seem to be.
	ahead = 5 * time.Minute
)

// GraceFor is what may be added to an interval before something counts as late: for a daily job two hours.
func (l Limits) GraceFor(interval time.Duration) time.Duration {
	if l.Grace > 0 {
		return l.Grace
	}
	return min(max(interval/12, leastGrace), mostGrace)
}

// Judge tells what is wrong, the worst first.
func Judge(s State, l Limits) []Finding {
	j := judge{State: s, Limits: l.filled()}
	j.Jobs = slices.Clone(s.Jobs)
	for i := range j.Jobs {
		job := j.present(j.Jobs[i])
		j.Jobs[i] = job
		j.runs(job)
		j.chores(job)
		j.stale(job)
		j.places(job)
		j.sizes(job)
		j.durations(job)
		j.drills(job)
		j.objectives(job)
		if len(job.Recipient) > 0 {
			j.add(Finding{Alarm: RecipientUnknown, Job: job.Name, Text: "the newest backup is sealed to keys that the configuration does not know: " + strings.Join(job.Recipient, ", "),
				Hint: "if nobody of you put them there, treat the host as compromised: docs/key-compromise.md"})
		}
	}
	for _, store := range s.Stores {
		j.store(store)
	}
	for _, key := range s.Keys {
		j.key(key)
	}
	for _, v := range s.Volumes {
		j.volume(v)
	}
	j.service()
	return sorted(j.found)
}

type judge struct {
	State
	Limits
	found []Finding
}

func (j *judge) add(f Finding) {
	f.Text, f.Hint = line(f.Text), line(f.Hint)
	j.found = append(j.found, f)
}

// line keeps a text on one line: the errors of several things come on several.
func line(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }), "; ")
}

// present is the job without backups from the future, and without drills from there that say something good. Anybody who can write a name
// into a store can make such a backup, and behind it no other one would ever be too old.
func (j *judge) present(job Job) Job {
	now := j.At.Add(ahead)
	var furthest time.Time
	keep := func(t time.Time) bool {
		if t.After(now) {
			furthest = later(furthest, t)
			return false
		}
		return true
	}
	var backups []Backup
	for _, b := range job.Backups {
		if keep(b.Time) {
			backups = append(backups, b)
		}
	}
	var proofs []Proof
	for _, p := range job.Proofs {
		if keep(p.Time) || p.Verdict == holdfast.Failed {
			proofs = append(proofs, p)
		}
	}
	if !furthest.IsZero() {
		j.add(Finding{Alarm: ClockOff, Job: job.Name, Text: "a backup or a drill lies " + Span(furthest.Sub(j.At)) + " in the future",
			Hint: "look at the clock of this host, and at that of the host that made it"})
	}
	job.Backups, job.Proofs = backups, proofs
	return job
}

func later(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

// anyDown reports whether something that a store may hold is not known now.
func (j *judge) anyDown() bool {
	return slices.ContainsFunc(j.Jobs, Job.Down) || slices.ContainsFunc(j.Stores, func(s Store) bool { return s.Down != "" })
}

func (j *judge) service() {
	if j.Audit.Broken != "" {
		j.add(Finding{Alarm: AuditBroken, Text: "the journal is not what was signed: " + j.Audit.Broken, Hint: "`holdfast audit verify` says more: docs/audit.md"})
	}
	if j.Service.Config != "" {
		j.add(Finding{Alarm: ConfigChanged, Text: j.Service.Config, Hint: "`holdfast config check`, then `systemctl reload holdfast`"})
	}
	if j.Service.Queue != "" {
		j.add(Finding{Alarm: QueueFailing, Text: j.Service.Queue, Hint: "make room in the state folder, or mend it: nothing is started until then"})
	}
	if j.Service.Clock != "" {
		j.add(Finding{Alarm: ClockOff, What: "service", Text: j.Service.Clock, Hint: "look at the host's time synchronisation"})
	}
	for _, channel := range j.Service.Channels {
		if channel.Failed != "" {
			j.add(Finding{Alarm: ChannelFailing, What: channel.Name, Since: channel.Since, Text: "channel " + channel.Name + " does not take messages: " + channel.Failed, Hint: "`holdfast notify test " + channel.Name + "`"})
		}
	}
}
