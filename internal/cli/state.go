package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/seal"
	"holdfast/internal/store"
	"holdfast/internal/survey"
)

// stateOf finds out what is known of every job, store and key of the configuration, beside a service that tells this of itself; nil: none runs.
// It only reads. Its error is that of ctx alone: what cannot be looked at is told in the state, or warned of.
func (a *app) stateOf(ctx context.Context, cfg *config.Config, keys []seal.PublicKey, l *lookout, service *serviceFile) (health.State, error) {
	state := health.State{At: a.Now(), Host: cfg.Host}
	var places []survey.Place
	var found survey.Found
	stores, jobs := storesAndJobs(cfg)
	if len(jobs) > 0 {
		var err error
		places, found, err = look(ctx, &l.survey, jobs, func(ctx context.Context) []survey.Place { return a.openPlaces(ctx, stores, keys) })
		if err != nil {
			return state, err
		}
	}
	l.readJournal(ctx, a, cfg, slices.DeleteFunc(slices.Clone(stores), func(s config.Store) bool { return found.Down[s.Name] != "" }))
	state.Audit = l.audit
	var since map[string]time.Time
	if service != nil {
		state.Service, since = service.state(), service.Running
		if service.Config == "" && service.File == cfg.File && service.Sum != sumOf(cfg) {
			state.Service.Config = fileDiffers
		}
	}
	for i, job := range found.Jobs {
		l.records.Complete(&job)
		addSchedule(&job, cfg, cfg.Jobs[i], state.At)
		job.Recipient = strangersAmong(cfg, found.Keys[job.Name])
		for t := range job.Tasks {
			job.Tasks[t].Since = since[string(job.Name)+"/"+string(job.Tasks[t].Task)]
		}
		state.Jobs = append(state.Jobs, job)
	}
	for _, place := range places {
		s := health.Store{Name: place.Store, Free: -1, Used: l.records.Free(place.Store), Down: found.Down[place.Store]}
		if s.Down == "" {
			s.Free = a.freeIn(ctx, stores[storeAt(stores, place.Store)])
		}
		state.Stores = append(state.Stores, s)
	}
	state.Volumes = a.volumesOf(ctx, cfg, l)
	state.Keys = a.keysOf(ctx, cfg, places, keys, found.Down)
	return state, context.Cause(ctx)
}

// storesAndJobs are every store of every job, and where the copies of each job belong.
func storesAndJobs(cfg *config.Config) (stores []config.Store, jobs []survey.Job) {
	for _, job := range cfg.Jobs {
		j := survey.Job{Name: job.Name}
		for _, place := range storesOf(job) {
			j.Stores = append(j.Stores, place.Name)
			if storeAt(stores, place.Name) < 0 {
				stores = append(stores, place)
			}
		}
		jobs = append(jobs, j)
	}
	return stores, jobs
}

// look opens stores and looks at them. When that takes longer than surveyTime all of them are told as down: one that does not answer must not
// keep everything else from being judged.
func look(ctx context.Context, s *survey.Surveyor, jobs []survey.Job, open func(context.Context) []survey.Place) ([]survey.Place, survey.Found, error) {
	looking, cancel := context.WithTimeoutCause(ctx, surveyTime, fmt.Errorf("the stores were not looked at within %s", health.Span(surveyTime)))
	defer cancel()
	places := open(looking)
	found, err := s.Look(looking, places, jobs)
	if err != nil && ctx.Err() == nil {
		for i := range places {
			places[i].Archive, places[i].Err = nil, err
		}
		found, err = s.Look(ctx, places, jobs)
	}
	return places, found, err
}

func (a *app) openPlaces(ctx context.Context, stores []config.Store, keys []seal.PublicKey) []survey.Place {
	places := make([]survey.Place, len(stores))
	var group errgroup.Group
	for i, place := range stores {
		group.Go(func() error {
			repo, err := a.repository(ctx, place, access{trusted: keys})
			places[i] = survey.Place{Store: place.Name, Archive: repo, Err: err}
			return nil
		})
	}
	_ = group.Wait() // every function returns nil: places have what went wrong
	return places
}

// lookout is what is remembered from one look to the next. Its zero value has seen nothing. It is not safe for concurrent use.
type lookout struct {
	survey  survey.Surveyor
	records survey.Records
	chain   string // whose records these are
	read    int64  // number of the last one
	audit   health.Audit
	volumes map[string]volumeLook
}

// auditEvery is how often the whole journal is checked by somebody who looks again and again; between two checks only what is new is read.
const auditEvery = 24 * time.Hour

// readJournal reads what this installation recorded, and whether that is what was signed. Where nothing was recorded yet, nothing is known;
// what cannot be read is told like what was changed, and so is what stores have and the journal has not.
func (l *lookout) readJournal(ctx context.Context, a *app, cfg *config.Config, stores []config.Store) {
	j, err := a.ownJournal(cfg)
	if err != nil {
		l.audit = health.Audit{Records: l.read, Checked: a.Now(), Broken: holdfast.Sentence(err)}
		return
	}
	chain := ""
	if j != nil {
		chain = j.Chain()
	}
	due := chain == "" || l.chain != chain || l.audit.Broken != "" || a.Now().Sub(l.audit.Checked) >= auditEvery
	var carried map[string][]journal.ChainInfo
	if due {
		carried = a.carried(ctx, cfg, stores)
	}
	if j == nil {
		l.audit = health.Audit{}
		if why := survey.Lost(cfg.Host, "", 0, carried); why != "" {
			l.audit = health.Audit{Checked: a.Now(), Broken: why}
		}
		return
	}
	if due {
		l.chain, l.read, l.records, l.audit = j.Chain(), 0, survey.Records{}, health.Audit{Checked: a.Now()}
		var trust journal.Trust
		if key, err := a.ownKey(cfg); err == nil && key != nil {
			trust = journal.Trust{*key}
		}
		waiting, cancel := context.WithTimeout(ctx, noteTime)
		defer cancel()
		switch _, err := j.Verify(waiting, trust, nil); {
		case errors.Is(err, context.DeadlineExceeded):
			l.audit.Checked = time.Time{} // by the next look
			a.printer.warn("the journal was not checked: " + holdfast.Sentence(err))
		case err != nil:
			l.audit.Broken = holdfast.Sentence(err)
		}
	}
	if err := j.Read(journal.Filter{After: l.read}, func(r journal.Record) error {
		l.records.Add(r)
		l.read, l.audit.Records = r.Seq, r.Seq
		return nil
	}); err != nil {
		l.audit.Broken = holdfast.Sentence(err)
	}
	if l.audit.Broken == "" {
		l.audit.Broken = survey.Lost(cfg.Host, chain, l.read, carried)
	}
}

// carried lists the chains in stores, if this installation carries its journal there: it does when it has a key to sign it.
func (a *app) carried(ctx context.Context, cfg *config.Config, stores []config.Store) map[string][]journal.ChainInfo {
	if key, err := a.ownKey(cfg); err != nil || key == nil {
		return nil
	}
	all := map[string][]journal.ChainInfo{}
	for _, place := range stores {
		if there, err := a.chainsIn(ctx, place); err == nil {
			all[place.Name] = there.chains
		}
	}
	return all
}

// ownJournal opens the journal of this installation for reading; nil when nothing was recorded yet.
func (a *app) ownJournal(cfg *config.Config) (*journal.Journal, error) {
	dir := filepath.Join(cfg.State, "journal")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return journal.Open(journal.Options{Dir: dir, Host: cfg.Host, Version: a.Version, Now: a.Now})
}

func eachOf(j *journal.Journal, do func(journal.Record)) error {
	return j.Read(journal.Filter{}, func(r journal.Record) error {
		do(r)
		return nil
	})
}

// eachRecord tells every record of the journal of this installation, oldest first.
func (a *app) eachRecord(cfg *config.Config, do func(journal.Record)) error {
	j, err := a.ownJournal(cfg)
	if err != nil || j == nil {
		return err
	}
	return eachOf(j, do)
}

// addSchedule adds to a job what is due when, and what was promised.
func addSchedule(job *health.Job, all *config.Config, cfg config.Job, at time.Time) {
	job.RPO, job.RTO = cfg.Objectives.RPO, cfg.Objectives.RTO
	s := cfg.Schedule
	job.Scheduled, job.Paused = s.Given, s.Paused || all.Service.Paused
	if !s.Given {
		// Whoever runs it says with keep.interval how often that is.
		job.Interval = cfg.Keep.Policy.Interval
		if job.Interval == 0 && len(job.Backups) > 0 {
			job.Interval = 24 * time.Hour
		}
		drill := health.Task{Task: holdfast.TaskDrill}
		if known, is := job.Task(holdfast.TaskDrill); is {
			drill = known
		}
		drill.Interval = cfg.Drill.Every
		if last, ever := job.Proven(); ever {
			drill.Next = last.Time.Add(drill.Interval)
		}
		setTask(job, drill)
		return
	}
	addDue(job, all, s, at)
	for _, task := range holdfast.Tasks() {
		t, _ := job.Task(task)
		t.Task = task
		if s.Times[task].IsZero() {
			if !t.Attempt.IsZero() {
				setTask(job, t)
			}
			continue
		}
		t.Interval = s.Gap(task, at)
		_, t.Next = s.At(job.Name, task, at)
		setTask(job, t)
	}
}

// addDue says how far apart backups are expected, and since when the newest one is: before the grace, so that one that is being made is not
// late yet. What was due in a maintenance window is made afterwards, and expected then.
func addDue(job *health.Job, cfg *config.Config, s config.Schedule, at time.Time) {
	most := s.Kind(at)
	if most == "" {
		return
	}
	grace := limitsOf(cfg).GraceFor(s.Gap(most, at))
	job.Interval = s.Gap(most, at.Add(-grace))
	for _, task := range []holdfast.Task{holdfast.TaskBackup, holdfast.TaskHourly} {
		due, _ := s.At(job.Name, task, at.Add(-grace))
		if due.After(job.Due) && !heldBack(config.Service{Windows: cfg.Service.Windows}, config.Schedule{Windows: s.Windows, Zone: s.Zone}, due) {
			job.Due = due
		}
	}
}

func setTask(job *health.Job, t health.Task) {
	if at := slices.IndexFunc(job.Tasks, func(other health.Task) bool { return other.Task == t.Task }); at >= 0 {
		job.Tasks[at] = t
		return
	}
	job.Tasks = append(job.Tasks, t)
}

// strangersAmong lists the IDs that no key of the configuration has, or ever had.
func strangersAmong(cfg *config.Config, ids []string) []string {
	known := map[string]bool{}
	for _, key := range cfg.Keys {
		for _, info := range keyInfos(key, time.Time{}) {
			known[info.ID] = true
		}
		for _, old := range key.Retired {
			for _, id := range old.IDs {
				known[id] = true
			}
		}
	}
	var strangers []string
	for _, id := range ids {
		if !known[id] {
			strangers = append(strangers, id)
		}
	}
	return strangers
}

// freeIn is how many bytes are free in a store; -1: it does not tell.
func (a *app) freeIn(ctx context.Context, where config.Store) int64 {
	opened, err := a.openStore(ctx, where, false)
	if err != nil {
		return -1
	}
	if spacer, knows := opened.Driver().(store.Spacer); knows {
		if free, err := spacer.Free(ctx); err == nil {
			return free
		}
	}
	return -1
}

// keysOf tells of every key what is known in the places, of which some are down, and in stores that no job uses.
func (a *app) keysOf(ctx context.Context, cfg *config.Config, places []survey.Place, trust []seal.PublicKey, down map[string]string) []health.Key {
	open := func(where config.Store) (*archive.Archive, error) {
		at := slices.IndexFunc(places, func(p survey.Place) bool { return p.Store == where.Name })
		switch {
		case at < 0:
			return a.repository(ctx, where, access{trusted: trust})
		case down[where.Name] != "":
			return nil, errors.New(down[where.Name])
		}
		return places[at].Archive, nil
	}
	// What cannot be looked at is told as a place that is down, and a record that is not what was signed is none.
	views, _ := a.keysSeen(ctx, cfg, open, func(string, error) {})
	var keys []health.Key
	for _, v := range views {
		key := health.Key{Name: v.key.Name, Created: v.created, Needed: len(v.jobs) > 0}
		if !v.expires.IsZero() {
			key.Expires = v.expires.AddDate(0, 0, 1) // its last day is a good one
		}
		if len(v.checks) > 0 {
			key.Checked = v.last().Time
		}
		keys = append(keys, key)
	}
	return keys
}
