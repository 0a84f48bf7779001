package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/seal"
	"holdfast/internal/store"
	"holdfast/internal/survey"
)

// stateOf finds out what is known of every job, store and key of the configuration. It only reads.
func (a *app) stateOf(ctx context.Context, cfg *config.Config, keys []seal.PublicKey, l *lookout) (health.State, error) {
	state := health.State{At: a.Now(), Host: cfg.Host}
	places, jobs, err := a.placesOf(ctx, cfg, keys)
	if err != nil {
		return state, err
	}
	var found survey.Found
	if len(jobs) > 0 {
		if found, err = l.survey.Look(ctx, places, jobs); err != nil {
			return state, err
		}
	}
	if err := l.readJournal(ctx, a, cfg); err != nil {
		return state, err
	}
	state.Audit = l.audit
	service, runs, err := loadService(cfg)
	if err != nil {
		return state, err
	}
	if runs {
		state.Service = service.state()
		if service.Config == "" && service.File == cfg.File && service.Sum != sumOf(cfg) {
			state.Service.Config = fileDiffers
		}
	}
	for i, job := range found.Jobs {
		l.records.Complete(&job)
		addSchedule(&job, cfg, cfg.Jobs[i], state.At)
		job.Recipient = strangersAmong(cfg, found.Keys[job.Name])
		for t := range job.Tasks {
			job.Tasks[t].Since = service.Running[string(job.Name)+"/"+string(job.Tasks[t].Task)]
		}
		state.Jobs = append(state.Jobs, job)
	}
	for _, place := range places {
		s := a.spaceOf(ctx, cfg, place.Store, &l.records)
		s.Down = found.Down[place.Store]
		state.Stores = append(state.Stores, s)
	}
	state.Keys, err = a.keysOf(ctx, cfg, keys)
	return state, err
}

// placesOf opens every store of every job.
func (a *app) placesOf(ctx context.Context, cfg *config.Config, keys []seal.PublicKey) ([]survey.Place, []survey.Job, error) {
	var jobs []survey.Job
	var stores []config.Store
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
	return a.openPlaces(ctx, stores, keys), jobs, nil
}

func (a *app) openPlaces(ctx context.Context, stores []config.Store, keys []seal.PublicKey) []survey.Place {
	places := make([]survey.Place, len(stores))
	done := make(chan struct{})
	for i, place := range stores {
		go func() {
			repo, err := a.repository(ctx, place, access{trusted: keys})
			places[i] = survey.Place{Store: place.Name, Archive: repo, Err: err}
			done <- struct{}{}
		}()
	}
	for range stores {
		<-done
	}
	return places
}

// lookout is what is remembered from one look to the next. Its zero value has seen nothing. It is not safe for concurrent use.
type lookout struct {
	survey  survey.Surveyor
	records survey.Records
	chain   string // whose records these are
	read    int64  // number of the last one
	audit   health.Audit
}

// auditEvery is how often the whole journal is checked by somebody who looks again and again; between two checks only what is new is read.
const auditEvery = 24 * time.Hour

// readJournal reads what this installation recorded, and whether that is what was signed. Where nothing was recorded yet, nothing is known.
func (l *lookout) readJournal(ctx context.Context, a *app, cfg *config.Config) error {
	j, err := a.ownJournal(cfg)
	if err != nil || j == nil {
		return err
	}
	if l.chain != j.Chain() || l.audit.Broken != "" || a.Now().Sub(l.audit.Checked) >= auditEvery {
		l.chain, l.read, l.records, l.audit = j.Chain(), 0, survey.Records{}, health.Audit{Checked: a.Now()}
		var trust journal.Trust
		if key, err := a.ownKey(cfg); err == nil && key != nil {
			trust = journal.Trust{*key}
		}
		if _, err := j.Verify(ctx, trust, nil); err != nil {
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
	return ctx.Err()
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
	job.Scheduled, job.Paused = s.Given, s.Paused
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

func (a *app) spaceOf(ctx context.Context, cfg *config.Config, name string, records *survey.Records) health.Store {
	s := health.Store{Name: name, Free: -1, Used: records.Free(name)}
	where, err := cfg.StoreNamed(name)
	if err != nil {
		return s
	}
	opened, err := a.openStore(ctx, where, false)
	if err != nil {
		return s // told as a place that is down
	}
	if spacer, knows := opened.Driver().(store.Spacer); knows {
		if free, err := spacer.Free(ctx); err == nil {
			s.Free = free
		}
	}
	return s
}

func (a *app) keysOf(ctx context.Context, cfg *config.Config, trust []seal.PublicKey) ([]health.Key, error) {
	views, err := a.keysSeen(ctx, cfg, trust, func(string, error) {}) // told as a place that is down
	if err != nil && len(views) == 0 {
		return nil, err
	}
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
	return keys, nil
}

// serveDir is the folder of the service.
func serveDir(cfg *config.Config) string { return filepath.Join(cfg.State, "serve") }

// serviceFile is what a running service tells other commands, in its folder.
type serviceFile struct {
	Started  time.Time            `json:"started"`
	File     string               `json:"config_file"`   // of the configuration in force
	Sum      string               `json:"config_sha256"` // of its content
	Config   string               `json:"config_problem,omitempty"`
	Clock    string               `json:"clock_problem,omitempty"`
	Trouble  string               `json:"queue_problem,omitempty"`
	Waiting  int                  `json:"waiting"`
	Running  map[string]time.Time `json:"running"` // since when, by JOB/TASK
	Channels []health.Channel     `json:"channels,omitempty"`
}

func serviceFileOf(cfg *config.Config) string { return filepath.Join(serveDir(cfg), "status.json") }

// loadService reads what the service tells; nothing when none runs.
func loadService(cfg *config.Config) (serviceFile, bool, error) {
	holds, err := daemon.Holds(serveDir(cfg))
	if errors.Is(err, fs.ErrPermission) {
		return serviceFile{}, false, nil // whoever may not look at it does not know
	}
	if err != nil || !holds {
		return serviceFile{}, false, err
	}
	data, err := os.ReadFile(serviceFileOf(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return serviceFile{}, true, nil // it has just begun
	}
	var f serviceFile
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	return f, true, err
}

// state is the file as others judge it.
func (f serviceFile) state() health.Service {
	return health.Service{
		Running: true, Started: f.Started, Config: f.Config, Clock: f.Clock, Queue: f.Trouble, Waiting: f.Waiting, Busy: len(f.Running), Channels: f.Channels,
	}
}

const fileDiffers = "the file was changed, and the service still runs with the one before"

// sumOf tells contents of configurations apart.
func sumOf(cfg *config.Config) string { return fmt.Sprintf("%x", sha256.Sum256(cfg.Content())) }
