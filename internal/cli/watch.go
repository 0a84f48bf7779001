package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/health"
	"holdfast/internal/seal"
	"holdfast/internal/survey"
)

// watchFlags say what a watchman looks at, and what it expects.
type watchFlags struct {
	storeFlags
	stores []string
	once   bool
	every  string
	maxAge string
	drills string
}

func (a *app) watchCommand() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use: "watch", Short: "Watch stores from another machine, without any key, and raise alarms", Args: cobra.NoArgs,
		Long: "Look at stores every few minutes, with credentials that can only read, and without any key: at the names of backups, their manifests,\n" +
			"the verdicts of drills, and the journals of hosts. Raise the same alarms as the service does. It notices what a service cannot: that its whole host is gone.\n\n" +
			"Jobs need not be configured: every job that a store holds is watched, and one whose backups vanish is told. How often a backup is\n" +
			"expected follows from those of the last weeks, unless --max-age says it. The configuration gives the stores and channels.",
		Example: "  holdfast watch --store box\n  holdfast watch --store s3://acme-backups --allowed-signers allowed_signers --once",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			w, err := a.newWatchman(cfg, &f)
			if err != nil {
				return err
			}
			if f.once {
				state, err := w.look(cmd.Context())
				if len(state.Stores) == 0 {
					return err
				}
				findings := elsewhere(health.Judge(state, limitsOf(cfg)))
				return errors.Join(a.showState(state, findings), stateError(findings), err)
			}
			return w.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.stores, "store", nil, "a `STORE` to watch: a name from the configuration, a folder, s3://… or sftp://…; may be given several times (default: all of the configuration)")
	flags.BoolVar(&f.once, "once", false, "look once, print what is seen, and end with the exit code of status")
	flags.StringVar(&f.every, "every", "15m", "how often to look")
	flags.StringVar(&f.maxAge, "max-age", "", "how old the newest complete backup of a job may be, such as `26h` (default: by the backups of the last weeks)")
	flags.StringVar(&f.drills, "drills", "35d", "how old the last passing drill of a job may be")
	f.addSigners(cmd)
	return cmd
}

// watchman looks at stores again and again.
type watchman struct {
	app    *app
	cfg    *config.Config
	stores []config.Store
	keys   []seal.PublicKey
	every  time.Duration
	maxAge time.Duration // 0: by the backups there are
	drills time.Duration
	survey survey.Surveyor
	trails trails
	book   *alarmFile // nil before the first look
	said   string
}

func (a *app) newWatchman(cfg *config.Config, f *watchFlags) (*watchman, error) {
	w := &watchman{app: a, cfg: cfg, stores: cfg.Stores}
	if len(f.stores) > 0 {
		w.stores = nil
	}
	for _, text := range f.stores {
		where, err := cfg.StoreFor(text)
		if err != nil {
			return nil, err
		}
		w.stores = append(w.stores, where)
	}
	if len(w.stores) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: no store is named", holdfast.ErrUsage), "give --store, or a configuration with stores")
	}
	for _, span := range []struct {
		flag, text string
		into       *time.Duration
	}{{"--every", f.every, &w.every}, {"--max-age", f.maxAge, &w.maxAge}, {"--drills", f.drills, &w.drills}} {
		if span.text == "" {
			continue
		}
		var err error
		if *span.into, err = config.ParseSpan(span.text); err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("%w: %s: %w, not %q", holdfast.ErrUsage, span.flag, err, span.text), "write 15m, 26h or 35d")
		}
	}
	var err error
	w.keys, err = trusted(cfg, &f.storeFlags)
	return w, err
}

// run looks until ctx is cancelled.
func (w *watchman) run(ctx context.Context) error {
	for {
		if err := w.lookAndTell(ctx); err != nil && ctx.Err() == nil {
			text := holdfast.Sentence(err)
			if hint := holdfast.Hint(err); hint != "" {
				text += ": " + hint
			}
			w.app.printer.warn(text)
		}
		timer := time.NewTimer(w.every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// lookAndTell looks with stores that are opened anew and closed again.
func (w *watchman) lookAndTell(ctx context.Context) (err error) {
	defer func() {
		err = errors.Join(err, w.app.closeStores())
		w.app.stores = openStores{}
	}()
	state, err := w.look(ctx)
	if len(state.Stores) == 0 {
		return err
	}
	if w.book == nil {
		w.book = w.app.openAlarms(w.cfg)
	}
	findings := elsewhere(w.book.judge(w.cfg, &state))
	err = errors.Join(err, w.app.tellAlarms(ctx, w.cfg, w.book, findings))
	if text := health.Sentence(state, findings); text != w.said {
		w.said = text
		if w.app.flags.json {
			w.app.printJSON(stateJSON(state, findings))
		} else {
			w.app.result("%s  %s", w.app.Now().UTC().Format("2006-01-02 15:04:05"), text)
		}
	}
	return err
}

// look finds out how things stand, as far as stores tell. The state has no stores when the look came to nothing; with others, the error is about
// what is remembered.
func (w *watchman) look(ctx context.Context) (health.State, error) {
	state := health.State{At: w.app.Now(), Host: w.cfg.Host}
	open := func(ctx context.Context) []survey.Place { return w.app.openPlaces(ctx, w.stores, w.keys) }
	places, found, err := look(ctx, &w.survey, nil, open)
	if err != nil {
		return state, err
	}
	known, before, err := w.remembered()
	broken := w.follow(ctx, found.Down, known.Chains)
	state.Audit = w.trails.audit(state.At, broken)
	state.Jobs = withKnown(found.Jobs, known.Jobs, places, found.Down)
	if len(state.Jobs) == 0 && len(found.Down) == 0 {
		return state, errors.Join(holdfast.WithHint(fmt.Errorf("%w: no store holds any backup", holdfast.ErrIncomplete), "name the right store"), err)
	}
	for i := range state.Jobs {
		job := &state.Jobs[i]
		w.trails.complete(job)
		gap := known.add(job, state.At)
		job.Interval = w.maxAge
		if w.maxAge == 0 {
			job.Interval = gap
		} else if grace := limitsOf(w.cfg).GraceFor(w.maxAge); job.Interval > grace {
			job.Interval -= grace // the age that was given is all that is allowed
		}
		if newest, some := job.Newest(); some {
			backup, _ := job.Task(holdfast.TaskBackup)
			backup.Task, backup.Next = holdfast.TaskBackup, newest.Time.Add(job.Interval)
			setTask(job, backup)
		}
		drill, _ := job.Task(holdfast.TaskDrill)
		drill.Task, drill.Interval = holdfast.TaskDrill, w.drills
		setTask(job, drill)
	}
	if err == nil {
		err = w.remember(known, before)
	}
	for i, place := range places {
		s := health.Store{Name: place.Store, Free: -1, Down: found.Down[place.Store]}
		if s.Down == "" {
			s.Free = w.app.freeIn(ctx, w.stores[i])
		}
		state.Stores = append(state.Stores, s)
	}
	state.Stores = append(state.Stores, w.trails.disks(state.At)...)
	return state, err
}

// elsewhere says of hints that name a command where it can be run: a watchman has neither jobs nor keys. It has channels, and reads journals.
func elsewhere(findings []health.Finding) []health.Finding {
	for i, f := range findings {
		if strings.Contains(f.Hint, "`") && f.Alarm != health.ChannelFailing && f.Alarm != health.AuditBroken {
			findings[i].Hint = "on the host that backs up: " + f.Hint
		}
	}
	return findings
}

// usualGap is how far apart the newest backups were: the median of the last gaps. With too few of them it is a day.
func usualGap(backups []health.Backup) time.Duration {
	const most = 15
	var gaps []time.Duration
	var last time.Time
	for _, b := range backups {
		if !b.Complete {
			continue
		}
		if !last.IsZero() {
			gaps = append(gaps, b.Time.Sub(last))
		}
		last = b.Time
	}
	gaps = gaps[max(0, len(gaps)-most):]
	if len(gaps) < 3 {
		return 24 * time.Hour
	}
	slices.Sort(gaps)
	return max(gaps[len(gaps)/2], time.Minute)
}

// withKnown adds jobs that were seen before and are gone, and to each job the stores that held it and are down now.
func withKnown(jobs []health.Job, known map[holdfast.JobName][]string, places []survey.Place, down map[string]string) []health.Job {
	for _, name := range slices.Sorted(maps.Keys(known)) {
		at := slices.IndexFunc(jobs, func(j health.Job) bool { return j.Name == name })
		if at < 0 {
			jobs, at = append(jobs, health.Job{Name: name}), len(jobs)
		}
		job := &jobs[at]
		for _, place := range places {
			has := slices.ContainsFunc(job.Places, func(p health.Place) bool { return p.Store == place.Store })
			if has || !slices.Contains(known[name], place.Store) {
				continue
			}
			job.Places = append(job.Places, health.Place{Store: place.Store, Down: down[place.Store]})
		}
	}
	return jobs
}

// watchMemory is what a watchman has seen, so that what is gone is noticed.
type watchMemory struct {
	Jobs   map[holdfast.JobName][]string `json:"jobs"`   // the stores that held each
	Chains map[string]map[string]int64   `json:"chains"` // the number of the newest record of each journal, by the store that had it
	Newest map[holdfast.JobName]made     `json:"newest"`
}

// made is when the newest complete backup of a job was made, and how far apart they were.
type made struct {
	Time time.Time     `json:"time"`
	Gap  time.Duration `json:"gap"`
}

func newWatchMemory() watchMemory {
	return watchMemory{map[holdfast.JobName][]string{}, map[string]map[string]int64{}, map[holdfast.JobName]made{}}
}

// add takes down where a job is and when it was last backed up, adds to the job what its stores do not tell while they are down, and returns how
// far apart its backups are.
func (m watchMemory) add(job *health.Job, at time.Time) (gap time.Duration) {
	for _, place := range job.Places {
		if place.Down == "" && !slices.Contains(m.Jobs[job.Name], place.Store) {
			m.Jobs[job.Name] = append(m.Jobs[job.Name], place.Store)
		}
	}
	was, ever := m.Newest[job.Name]
	now := made{job.LastGood(at), usualGap(job.Backups)}
	if ever && job.Down() {
		if now.Gap = was.Gap; was.Time.After(now.Time) {
			now.Time = was.Time
		}
		if backup, _ := job.Task(holdfast.TaskBackup); now.Time.After(backup.Success) {
			backup.Task, backup.Success = holdfast.TaskBackup, now.Time
			setTask(job, backup)
		}
	}
	if !now.Time.IsZero() {
		m.Newest[job.Name] = now
	}
	return now.Gap
}

func (w *watchman) file() string { return filepath.Join(w.cfg.State, "watch.json") }

// remembered is what was seen before, and the text that says so; with an error it is nothing.
func (w *watchman) remembered() (watchMemory, []byte, error) {
	known := newWatchMemory()
	data, err := os.ReadFile(w.file())
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &known)
	}
	if err != nil || known.Jobs == nil || known.Chains == nil {
		err = cmp.Or(err, errors.New("it is not what a watchman writes"))
		return newWatchMemory(), nil, holdfast.WithHint(fmt.Errorf("read what was seen before: %w", err), "remove "+w.file()+"; jobs that vanished before are then not told")
	}
	return known, data, nil
}

// remember writes what was seen, unless before says it already.
func (w *watchman) remember(known watchMemory, before []byte) error {
	data, err := json.Marshal(known)
	if err != nil || bytes.Equal(data, before) {
		return err
	}
	if err := os.MkdirAll(w.cfg.State, 0o700); err != nil {
		return holdfast.WithHint(fmt.Errorf("make the state folder: %w", err), "choose another with --state or HOLDFAST_STATE")
	}
	if err := durable.WriteFile(w.file(), data, 0o600); err != nil {
		return holdfast.WithHint(fmt.Errorf("remember what was seen: %w", err), "choose another state folder with --state or HOLDFAST_STATE")
	}
	return nil
}
