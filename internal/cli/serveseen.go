package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
	"holdfast/internal/health"
	"holdfast/internal/survey"
)

// seenTime bounds how long the start waits for what stores tell.
const seenTime = time.Minute

// seen returns what tells when a task was last tried, for a queue that is new: the journal here knows or, where there is none either, as on a host
// that was built anew, the stores do of backups, drills and verifications.
func (s *server) seen(ctx context.Context, cfg *config.Config) func(daemon.Task) time.Time {
	var records survey.Records
	if err := s.app.eachRecord(cfg, records.Add); err != nil {
		s.log.Error("the journal is not readable", "error", holdfast.Sentence(err))
	} else if slices.ContainsFunc(cfg.Jobs, func(job config.Job) bool {
		return slices.ContainsFunc(holdfast.Tasks(), func(task holdfast.Task) bool { return !records.Task(job.Name, task).Attempt.IsZero() })
	}) {
		return func(t daemon.Task) time.Time { return records.Task(t.Job, t.Task).Attempt }
	}
	jobs, err := s.inStores(ctx, cfg)
	if err != nil {
		s.log.Error("what was missed is not made up for: the stores do not tell", "error", holdfast.Sentence(err))
	}
	return func(t daemon.Task) time.Time { return lastDone(jobs[t.Job], t.Task) }
}

// inStores is what stores have of each job. One that is down tells nothing.
func (s *server) inStores(ctx context.Context, cfg *config.Config) (jobs map[holdfast.JobName]health.Job, err error) {
	keys, err := trusted(cfg, &storeFlags{allowedSigners: s.signers})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, seenTime, fmt.Errorf("it took longer than %s", health.Span(seenTime)))
	defer cancel()
	defer func() {
		err = errors.Join(err, s.app.closeStores())
		s.app.stores = openStores{}
	}()
	stores, of := storesAndJobs(cfg)
	found, err := (&survey.Surveyor{}).Look(ctx, s.app.openPlaces(ctx, stores, keys), of)
	if err != nil {
		return nil, err
	}
	jobs = map[holdfast.JobName]health.Job{}
	for _, job := range found.Jobs {
		jobs[job.Name] = job
	}
	return jobs, nil
}

// lastDone is when a task was last done, by what stores have of a job; zero: they do not tell.
func lastDone(job health.Job, task holdfast.Task) time.Time {
	var last time.Time
	at := func(t time.Time, is bool) {
		if is && t.After(last) {
			last = t
		}
	}
	for _, b := range job.Backups {
		at(b.Time, task == holdfast.TaskHourly && b.Kind == "hourly" || task == holdfast.TaskBackup && b.Kind == "full")
	}
	for _, p := range job.Proofs {
		away := p.Store != "" && len(job.Places) > 0 && p.Store != job.Places[0].Store
		at(p.Time, task == holdfast.TaskDrill || task == holdfast.TaskDrillCopy && away || task == holdfast.TaskDrillOld && p.Time.Sub(p.Of) >= health.Old)
	}
	for _, p := range job.Places {
		at(p.Verified, task == holdfast.TaskVerify)
	}
	return last
}
