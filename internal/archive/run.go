package archive

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"holdfast"
)

const (
	runFormat    = "holdfast-run-1"
	runNamespace = "holdfast-run"
	runFailed    = "failed"
)

// RunEntry is what a listing tells of one run that made no backup. Nothing in it is authenticated.
type RunEntry struct {
	Job  holdfast.JobName
	Time time.Time
	ID   holdfast.BackupID
}

// Run is the plain, signed record of a run that made no backup.
type Run struct {
	Format   string            `json:"format"`
	ID       holdfast.BackupID `json:"id"`
	Job      holdfast.JobName  `json:"job"`
	Result   string            `json:"result"`
	Time     time.Time         `json:"time"` // when it began
	Finished time.Time         `json:"finished"`
	Host     string            `json:"host"`
	Who      string            `json:"who"`
	Version  string            `json:"version"`
	Exit     int               `json:"exit"`
	Signer   string            `json:"signer"`
}

func (r RunEntry) name(suffix string) string {
	return fmt.Sprintf("%s%s/%s.%s.%s.%s", runPrefix, r.Job, r.Time.Format(timeLayout), runFailed, r.ID, suffix)
}

func (r RunEntry) record() signedRecord {
	return signedRecord{"run " + string(r.ID), runNamespace, r.name}
}

var runRule = regexp.MustCompile(`^runs/([^/]+)/(\d{8}T\d{6}Z)\.failed\.([a-z0-9]+)\.json$`)

func parseRun(name string) (RunEntry, bool) {
	m := runRule.FindStringSubmatch(name)
	if m == nil {
		return RunEntry{}, false
	}
	job, jobErr := holdfast.ParseJobName(m[1])
	at, timeErr := time.Parse(timeLayout, m[2])
	id, idErr := holdfast.ParseBackupID(m[3])
	return RunEntry{Job: job, Time: at, ID: id}, errors.Join(jobErr, timeErr, idErr) == nil
}

// PutFailedRun stores that a run of job, which began at r.Time, ended without a backup.
func (a *Archive) PutFailedRun(ctx context.Context, job holdfast.JobName, r Run) (Run, error) {
	if a.opt.Signer == nil {
		return Run{}, errNoSigner()
	}
	r.Format, r.ID, r.Job, r.Result, r.Version = runFormat, holdfast.NewBackupID(), job, runFailed, a.opt.Version
	r.Time, r.Finished = r.Time.UTC().Truncate(time.Second), r.Finished.UTC().Truncate(time.Second)
	r.Signer = a.opt.Signer.PublicKey().Fingerprint()
	return r, a.putRecord(ctx, RunEntry{Job: job, Time: r.Time, ID: r.ID}.record(), &r)
}

// FailedRun returns the newest run of job that made no backup, by the names of the records alone, and false when there is
// none. Whoever adds a name here can only keep things from being deleted.
func (a *Archive) FailedRun(ctx context.Context, job holdfast.JobName) (RunEntry, bool, error) {
	var newest RunEntry
	found := false
	for object, err := range a.store.List(ctx, runPrefix+string(job)+"/") {
		if err != nil {
			return RunEntry{}, false, fmt.Errorf("list failed runs: %w", err)
		}
		if run, ok := parseRun(object.Name); ok && (!found || run.Time.After(newest.Time)) {
			newest, found = run, true
		}
	}
	return newest, found, nil
}

// FailedRuns tells for each job when its newest run began that made no backup, as [Archive.FailedRun] does.
func (a *Archive) FailedRuns(ctx context.Context) (map[holdfast.JobName]time.Time, error) {
	newest := map[holdfast.JobName]time.Time{}
	for object, err := range a.store.List(ctx, runPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list failed runs: %w", err)
		}
		if run, ok := parseRun(object.Name); ok && run.Time.After(newest[run.Job]) {
			newest[run.Job] = run.Time
		}
	}
	return newest, nil
}

// ReadRun reads a record, checks that it is signed and says what its name says, and reports whether its signer is trusted.
func (a *Archive) ReadRun(ctx context.Context, entry RunEntry) (Run, bool, error) {
	var r Run
	trusted, err := a.readRecord(ctx, entry.record(), &r)
	if err != nil {
		return Run{}, false, err
	}
	if r.Format != runFormat || r.ID != entry.ID || r.Job != entry.Job || !r.Time.Equal(entry.Time) || r.Result != runFailed {
		return Run{}, false, fmt.Errorf("%w: run %s says other things than its name", holdfast.ErrDifference, entry.ID)
	}
	return r, trusted, nil
}
