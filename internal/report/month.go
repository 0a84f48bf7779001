package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Month is what was done in a month, by the records of one installation and of those that share its stores. As JSON its durations are seconds.
type Month struct {
	From    time.Time  `json:"from"`
	Until   time.Time  `json:"until"` // not included
	Host    string     `json:"host"`
	Made    time.Time  `json:"made"`
	Version string     `json:"version"`
	Unseen  []string   `json:"unseen"` // stores whose records could not be read, and why
	Jobs    []MonthJob `json:"jobs"`
}

// MonthJob is what was done with one job.
type MonthJob struct {
	Name        holdfast.JobName `json:"name"`
	Good        int              `json:"complete"` // runs that made a complete backup
	Incomplete  int              `json:"incomplete"`
	Failed      int              `json:"failed"`      // that made none
	Interrupted int              `json:"interrupted"` // of these: their process was killed
	Stored      int64            `json:"bytes_stored"`
	Gaps        []Gap            `json:"gaps"`   // in which no complete backup was made for longer than it may be
	Copies      int              `json:"copies"` // times that something was copied to another store
	CopyFailed  int              `json:"copies_failed"`
	Checked     int              `json:"checks"` // verifications that were good
	Damaged     int              `json:"checks_damaged"`
	CheckFailed int              `json:"checks_failed"` // that could not be done
	Pruned      int              `json:"pruned"`        // backups that were deleted
	Blocked     int              `json:"prunes_blocked"`
	Drills      []MonthDrill     `json:"drills"`
	Restores    []MonthRestore   `json:"opened"`
	PromisedRPO Seconds          `json:"objective_rpo_seconds"` // 0: nothing was promised
	PromisedRTO Seconds          `json:"objective_rto_seconds"` // likewise
}

// NewMonthJob is a job of which nothing was recorded yet. rpo and rto are what was promised; 0: nothing was.
func NewMonthJob(name holdfast.JobName, rpo, rto time.Duration) MonthJob {
	return MonthJob{Name: name, PromisedRPO: Seconds(rpo), PromisedRTO: Seconds(rto), Gaps: []Gap{}, Drills: []MonthDrill{}, Restores: []MonthRestore{}}
}

// Seconds is a duration that is written as seconds in JSON.
type Seconds time.Duration

// MarshalJSON writes the number of seconds.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// Exceeded reports whether something took longer than was promised, if anything was.
func (s Seconds) Exceeded(took time.Duration) bool { return s > 0 && took > time.Duration(s) }

// Gap is a time without a complete backup.
type Gap struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

// MonthDrill is one drill.
type MonthDrill struct {
	Time     time.Time         `json:"time"`
	Host     string            `json:"host"`
	Backup   holdfast.BackupID `json:"backup"`
	Verdict  holdfast.Verdict  `json:"verdict"`
	Compared int               `json:"compared"`
	Differ   int               `json:"different"`
	RTO      Seconds           `json:"rto_seconds"`
}

// MonthRestore is one restore, or another opening of a backup.
type MonthRestore struct {
	Time   time.Time         `json:"time"`
	Event  string            `json:"event"`
	Who    string            `json:"who"`
	Backup holdfast.BackupID `json:"backup"`
	Result string            `json:"result"`
	Reason string            `json:"reason"`
}

// Proven is how many drills passed.
func (j MonthJob) Proven() int {
	n := 0
	for _, d := range j.Drills {
		if d.Verdict == holdfast.Proven {
			n++
		}
	}
	return n
}

// Missing tells what was not as it should have been, a sentence each.
func (j MonthJob) Missing() []string {
	var all []string
	add := func(n int, one, many string) {
		if n == 1 {
			all = append(all, "1 "+one)
		} else if n > 1 {
			all = append(all, fmt.Sprintf("%d %s", n, many))
		}
	}
	if j.Good == 0 {
		all = append(all, "no complete backup was made")
	}
	if j.Proven() == 0 {
		all = append(all, "nothing was proven by a drill")
	}
	for _, gap := range j.Gaps {
		text := fmt.Sprintf("no complete backup from %s to %s", gap.From.Format("2006-01-02 15:04"), gap.Until.Format("2006-01-02 15:04"))
		if j.PromisedRPO.Exceeded(gap.Until.Sub(gap.From)) {
			text += ", and at most " + rounded(time.Duration(j.PromisedRPO)) + " of work may be lost (RPO)"
		}
		all = append(all, text)
	}
	add(j.Failed, "run made no backup", "runs made no backup")
	add(j.Incomplete, "backup lacks a source", "backups lack a source")
	add(j.CopyFailed, "copy to another store failed", "copies to other stores failed")
	add(j.Damaged, "verification found damage", "verifications found damage")
	add(j.CheckFailed, "verification could not be done", "verifications could not be done")
	add(j.Blocked, "prune was blocked", "prunes were blocked")
	for _, d := range j.Drills {
		switch {
		case d.Verdict == holdfast.Failed && d.Differ > 0:
			all = append(all, fmt.Sprintf("the drill of %s on %s found %s", d.Backup, d.Time.Format(time.DateOnly), plural(d.Differ, "difference")))
		case d.Verdict == holdfast.Failed:
			all = append(all, fmt.Sprintf("the drill of %s on %s failed", d.Backup, d.Time.Format(time.DateOnly)))
		case d.Verdict == holdfast.CannotTest:
			all = append(all, fmt.Sprintf("the drill of %s on %s could not test", d.Backup, d.Time.Format(time.DateOnly)))
		case j.PromisedRTO.Exceeded(time.Duration(d.RTO)):
			all = append(all, fmt.Sprintf("the drill on %s took %s, and a restore may take %s", d.Time.Format(time.DateOnly), Span(time.Duration(d.RTO)), rounded(time.Duration(j.PromisedRTO))))
		}
	}
	return all
}

// MonthMarkdown renders the month as text that reads well as it stands.
func MonthMarkdown(m Month) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Backups from %s to %s\n\nBy the records of %s, and of the hosts that share its stores. Times are %s.\n\n", m.From.Format(time.DateOnly), m.Until.Add(-time.Second).Format(time.DateOnly), cell(m.Host), zoneOf(m.From))
	for _, text := range m.Unseen {
		fmt.Fprintf(&b, "**Not seen:** %s\n\n", cell(text))
	}
	b.WriteString("## What was not as it should have been\n\n")
	nothing := true
	for _, job := range m.Jobs {
		for _, text := range job.Missing() {
			nothing = false
			fmt.Fprintf(&b, "- **%s:** %s\n", cell(string(job.Name)), cell(text))
		}
	}
	if nothing {
		b.WriteString("Nothing.\n")
	}
	b.WriteString("\n## What ran\n\n| job | complete | incomplete | failed | stored | copied | checked | drills | proven | deleted |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, job := range m.Jobs {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %s | %d | %d | %d | %d | %d |\n", cell(string(job.Name)), job.Good, job.Incomplete, job.Failed, Size(job.Stored), job.Copies, job.Checked, len(job.Drills), job.Proven(), job.Pruned)
	}
	b.WriteString("\n## What was proven\n\n")
	monthDrills(&b, m.Jobs)
	b.WriteString("\n## Who opened backups\n\n")
	monthRestores(&b, m.Jobs)
	fmt.Fprintf(&b, "\nMade on %s by holdfast %s.\n", m.Made.UTC().Format(timeLayout), cell(m.Version))
	return []byte(b.String())
}

// zoneOf names the zone that a month's times are told in.
func zoneOf(t time.Time) string {
	if t.Location() == time.Local {
		return "those of the machine that made this"
	}
	return t.Location().String()
}

func monthDrills(b *strings.Builder, jobs []MonthJob) {
	if !slices.ContainsFunc(jobs, func(j MonthJob) bool { return len(j.Drills) > 0 }) {
		b.WriteString("Nothing: no drill was made.\n")
		return
	}
	b.WriteString("| time | job | backup | verdict | compared | differences | RTO | on |\n|---|---|---|---|---:|---:|---:|---|\n")
	for _, job := range jobs {
		for _, d := range job.Drills {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %d | %d | %s | %s |\n", d.Time.Format("2006-01-02 15:04"), cell(string(job.Name)), d.Backup, d.Verdict, d.Compared, d.Differ, Span(time.Duration(d.RTO)), cell(d.Host))
		}
	}
}

func monthRestores(b *strings.Builder, jobs []MonthJob) {
	if !slices.ContainsFunc(jobs, func(j MonthJob) bool { return len(j.Restores) > 0 }) {
		b.WriteString("Nobody.\n")
		return
	}
	b.WriteString("| time | job | backup | what | who | result | reason |\n|---|---|---|---|---|---|---|\n")
	for _, job := range jobs {
		for _, r := range job.Restores {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", r.Time.Format("2006-01-02 15:04"), cell(string(job.Name)), r.Backup, r.Event, cell(r.Who), r.Result, cell(r.Reason))
		}
	}
}
