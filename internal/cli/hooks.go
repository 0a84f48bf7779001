package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/hook"
	"holdfast/internal/joblock"
	"holdfast/internal/source"
)

// dueHooks is what is recorded while hooks after a run are still to be run.
type dueHooks struct {
	Verb   hook.Verb         `json:"verb"`
	Backup holdfast.BackupID `json:"backup,omitempty"` // that is restored
	Began  time.Time         `json:"began"`
}

// hooksOf are the hooks of a job around one verb.
func hooksOf(job config.Job, verb hook.Verb) config.HookSet {
	if verb == hook.Restore {
		return job.Hooks.Restore
	}
	return job.Hooks.Backup
}

func hasHooks(set config.HookSet) bool { return len(set.Before)+len(set.After)+len(set.Health) > 0 }

// round makes the hooks of a job ready to be run. Secrets they need are resolved here, before anything is done.
func (a *app) round(ctx context.Context, cfg *config.Config, job config.Job, verb hook.Verb) (hook.Round, error) {
	r := hook.Round{Verb: verb, Job: job.Name}
	set := hooksOf(job, verb)
	for _, list := range []struct {
		hooks []config.Hook
		into  *[]hook.Step
	}{{set.Before, &r.Before}, {set.After, &r.After}, {set.Health, &r.Health}} {
		steps, err := config.Steps(ctx, list.hooks)
		if err != nil {
			return r, fmt.Errorf("job %s: %w", job.Name, err)
		}
		*list.into = steps
	}
	r.Mask = hook.NewMask(cfg.KnownSecrets(ctx))
	return r, nil
}

// around runs do with the hooks of a job around it. backup is the one that is restored; do returns the one it made.
func (a *app) around(ctx context.Context, cfg *config.Config, job config.Job, verb hook.Verb, backup holdfast.BackupID, lock *joblock.Lock,
	do func(context.Context) (holdfast.BackupID, error)) error {
	if !hasHooks(hooksOf(job, verb)) {
		_, err := do(ctx)
		return err
	}
	r, err := a.round(ctx, cfg, job, verb)
	if err != nil {
		return err
	}
	if len(r.After) > 0 {
		r.Begun = func() error { return lock.Hooks.Begun(dueHooks{verb, backup, a.Now().UTC()}) }
		r.Ended = lock.Hooks.Ended
	}
	return r.Around(ctx, backup, a.printer.observe, do)
}

// catchUp runs the hooks that a run which was killed has left undone.
func (a *app) catchUp(ctx context.Context, cfg *config.Config, job config.Job, lock *joblock.Lock) error {
	var due dueHooks
	found, err := lock.Hooks.Left(&due)
	if err != nil || !found {
		return err
	}
	what := fmt.Sprintf("the %s of job %s that began %s was killed before its hooks could be run: the application may still be stopped",
		due.Verb, job.Name, due.Began.Format("2006-01-02 15:04:05 UTC"))
	if len(hooksOf(job, due.Verb).After) == 0 {
		a.printer.warn(what + "; no hook is configured any more to be run after it: look for yourself")
		return lock.Hooks.Ended()
	}
	a.printer.warn(what + "; they are run now")
	r, err := a.round(ctx, cfg, job, due.Verb)
	if err != nil {
		return err
	}
	r.Ended = lock.Hooks.Ended
	return r.CatchUp(ctx, due.Backup, a.printer.observe)
}

// restoreHooks finds the job whose hooks are run around a restore; nil when none are. note says so in the plan. A copy that is
// restored beside the application does not concern it.
func restoreHooks(cfg *config.Config, name holdfast.JobName, destinations []destination, f *restoreFlags) (job *config.Job, note string, err error) {
	if f.hooks && f.noHooks {
		return nil, "", holdfast.WithHint(fmt.Errorf("%w: --hooks and --no-hooks contradict each other", holdfast.ErrUsage), "give one of them")
	}
	i := slices.IndexFunc(cfg.Jobs, func(known config.Job) bool { return known.Name == name && hasHooks(known.Hooks.Restore) })
	if i < 0 && f.hooks {
		return nil, "", holdfast.WithHint(fmt.Errorf("%w: the configuration has no hooks for restores of job %s", holdfast.ErrUsage, name),
			"leave out --hooks, or name the configuration that has them with --config")
	}
	if i < 0 {
		return nil, "", nil
	}
	set := cfg.Jobs[i].Hooks.Restore
	note = fmt.Sprintf("hooks of job %s: %d before, %d after, %d health checks", name, len(set.Before), len(set.After), len(set.Health))
	switch {
	case f.noHooks:
		return nil, note + "; not run, because of --no-hooks", nil
	case !f.hooks && !f.inPlace && !slices.ContainsFunc(destinations, func(d destination) bool { return d.exists }):
		return nil, note + "; not run, since nothing is overwritten (--hooks runs them)", nil
	}
	return &cfg.Jobs[i], note, nil
}

// restoreAround restores, with the restore hooks of job around it when there is one.
func (a *app) restoreAround(ctx context.Context, cfg *config.Config, job *config.Job, backup holdfast.BackupID,
	restore func(context.Context) ([]engine.Restored, error)) (results []engine.Restored, err error) {
	if job == nil {
		return restore(ctx)
	}
	lock, err := a.holdJob(cfg, job.Store, job.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := a.catchUp(ctx, cfg, *job, lock); err != nil {
		return nil, err
	}
	err = a.around(ctx, cfg, *job, hook.Restore, backup, lock, func(ctx context.Context) (holdfast.BackupID, error) {
		var err error
		results, err = restore(ctx)
		return backup, err
	})
	if errors.Is(err, hook.ErrInPlace) {
		err = holdfast.WithHint(err, wayBack(results))
	}
	return results, err
}

// wayBack says how to give what was overwritten its place back.
func wayBack(results []engine.Restored) string {
	var commands []string
	for _, result := range results {
		if result.Undo != "" {
			commands = append(commands, result.Undo)
		}
	}
	if len(commands) == 0 {
		return "nothing was overwritten, so there is nothing to go back to; see what the application logs"
	}
	return "what stood there is kept; to go back stop the application and run: " + strings.Join(commands, " && ")
}

// hookFindings looks at the programs of a job's hooks.
func hookFindings(ctx context.Context, job config.Job) []source.Finding {
	var findings []source.Finding
	total := 0
	for _, verb := range []hook.Verb{hook.Backup, hook.Restore} {
		set := hooksOf(job, verb)
		for _, list := range []struct {
			name  string
			hooks []config.Hook
		}{{"before", set.Before}, {"after", set.After}, {"health", set.Health}} {
			for i, h := range list.hooks {
				total++
				steps, err := config.Steps(ctx, []config.Hook{h})
				if err == nil {
					err = steps[0].Check()
				}
				if err != nil {
					finding := failure(err)
					finding.Message = fmt.Sprintf("hook %s.%s[%d]: %s", verb, list.name, i, holdfast.Sentence(err))
					findings = append(findings, finding)
				}
			}
		}
		if len(set.Before) > 0 && len(set.After) == 0 {
			findings = append(findings, source.Finding{
				Severity: source.Warns, Message: fmt.Sprintf("hooks run before a %s and none after it: what they stop stays stopped", verb), Fix: fmt.Sprintf("add hooks.%s.after", verb),
			})
		}
	}
	if total > 0 && len(findings) == 0 {
		findings = []source.Finding{{Severity: source.Fine, Message: fmt.Sprintf("%d hooks can be run", total)}}
	}
	return findings
}
