package daemon

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
	_ "modernc.org/sqlite" // the driver of the queue's database

	"holdfast"
	"holdfast/internal/durable"
)

// work is a row of the queue. Both fields together are its key: what was due once is never there twice, for as long as rows are kept.
type work struct {
	Task string    `json:"task" river:"unique"`
	Due  time.Time `json:"due"  river:"unique"`
}

// Kind is what River calls all of our rows.
func (work) Kind() string { return "task" }

const (
	// rowsKept is how long rows that ended are kept, and so how far back a clock may be set without running twice what it already ran.
	rowsKept = 8 * 24 * time.Hour
	// longest is how long a row may be running as far as River is concerned. Runs that hang are ended by whoever runs them, and those of
	// a process that is gone are found by their locks.
	longest = 10 * 365 * 24 * time.Hour
	// busyWait is how long a task waits for another one that it must not run beside.
	busyWait = 15 * time.Second

	mostRows = 10_000
)

// database is where the queue is kept.
type database struct {
	db     *sql.DB
	driver riverdriver.Driver[*sql.Tx]
	locks  locks
	poll   time.Duration
	moved  string // where a damaged database was put aside; "" when there was none
}

// embedded opens the queue's own SQLite file in dir, whose lock is held. A file that is damaged is put aside and begun anew: what is due
// follows from the schedule, and what was done from the journal.
func embedded(ctx context.Context, dir string, now time.Time) (*database, error) {
	path := filepath.Join(dir, "queue.db")
	d, err := openSQLite(ctx, path)
	if err == nil {
		return d, nil
	}
	if !damaged(err) {
		return nil, err
	}
	aside, nameErr := durable.FreeName(path + ".damaged-" + now.UTC().Format("20060102T150405Z"))
	if nameErr != nil {
		return nil, errors.Join(err, nameErr)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if moveErr := os.Rename(path+suffix, aside+suffix); moveErr != nil && !errors.Is(moveErr, os.ErrNotExist) {
			return nil, errors.Join(err, moveErr)
		}
	}
	if d, err = openSQLite(ctx, path); err != nil {
		return nil, err
	}
	d.moved = aside
	return d, nil
}

// errDamaged marks a database file that says of itself that it is not whole.
var errDamaged = errors.New("the queue's database is damaged")

func damaged(err error) bool {
	if errors.Is(err, errDamaged) {
		return true
	}
	var coded interface{ Code() int } // SQLite's result codes: https://www.sqlite.org/rescode.html
	if !errors.As(err, &coded) {
		return false
	}
	const corrupt, notADatabase = 11, 26
	return coded.Code()&0xff == corrupt || coded.Code()&0xff == notADatabase
}

func openSQLite(ctx context.Context, path string) (*database, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("open the queue: %w", err), "choose another state folder with --state or HOLDFAST_STATE")
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	db.SetMaxOpenConns(1) // SQLite has one writer; more connections would only meet each other's locks
	// What this process puts into the queue is fetched at once; only what waited for its next try must be looked for.
	d := &database{db: db, driver: riversqlite.New(db), locks: newOwnLocks(), poll: 5 * time.Second}
	err = d.prepare(ctx)
	if err == nil {
		// Whoever leads is gone, for this process has the file alone; under a clock that was set back its lease would last.
		_, err = db.ExecContext(ctx, "DELETE FROM river_leader")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the queue %s: %w", path, err), db.Close())
	}
	return d, nil
}

// prepare checks the file and brings its tables to what this version needs.
func (d *database) prepare(ctx context.Context) error {
	var whole string
	if err := d.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&whole); err != nil {
		return err
	}
	if whole != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, whole)
	}
	return d.migrate(ctx)
}

func (d *database) migrate(ctx context.Context) error {
	migrator, err := rivermigrate.New(d.driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	_, err = d.db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS holdfast_due (task text PRIMARY KEY, due bigint NOT NULL)")
	return err
}

// client makes River's client for runs by work, at most workers at once.
func (d *database) client(opt Options, do *worker) (*river.Client[*sql.Tx], error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, do); err != nil {
		return nil, err
	}
	return river.NewClient(d.driver, &river.Config{
		FetchPollInterval:           d.poll,
		Queues:                      map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: opt.Workers}},
		Workers:                     workers,
		Logger:                      slog.New(quieter{opt.Log.With("part", "queue").Handler()}),
		JobTimeout:                  -1,
		RescueStuckJobsAfter:        longest,
		CompletedJobRetentionPeriod: rowsKept, CancelledJobRetentionPeriod: rowsKept, DiscardedJobRetentionPeriod: rowsKept,
	})
}

// lastDue reads what was put into the queue last, by task.
func (d *database) lastDue(ctx context.Context) (map[string]time.Time, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT task, due FROM holdfast_due")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	last := map[string]time.Time{}
	for rows.Next() {
		var task string
		var due int64
		if err := rows.Scan(&task, &due); err != nil {
			return nil, err
		}
		last[task] = time.Unix(due, 0)
	}
	return last, rows.Err()
}

// insert puts what is due into the queue, and then takes down that it did: a crash between the two puts it there again, where its key is
// already. It returns the names of those that were not there: what was run before the clock was set back is not run again.
func (d *database) insert(ctx context.Context, client *river.Client[*sql.Tx], due []pair) ([]string, error) {
	rows := make([]river.InsertManyParams, len(due))
	for i, p := range due {
		rows[i] = river.InsertManyParams{
			Args: work{Task: p.task.Name(), Due: p.due.UTC()},
			InsertOpts: &river.InsertOpts{
				Priority: priority(p.task.Task), MaxAttempts: p.task.Retries + 1,
				UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: rivertype.JobStates()},
			},
		}
	}
	results, err := client.InsertMany(ctx, rows)
	if err != nil {
		return nil, err
	}
	var fresh []string
	for i, p := range due {
		if !results[i].UniqueSkippedAsDuplicate {
			fresh = append(fresh, p.task.Name())
		}
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return fresh, err
	}
	for _, p := range due {
		if err := setDue(ctx, tx, p.task.Name(), p.due); err != nil {
			return fresh, errors.Join(err, tx.Rollback())
		}
	}
	return fresh, tx.Commit()
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func setDue(ctx context.Context, on execer, task string, due time.Time) error {
	_, err := on.ExecContext(ctx, "INSERT INTO holdfast_due (task, due) VALUES ($1, $2) ON CONFLICT (task) DO UPDATE SET due = excluded.due", task, due.Unix())
	return err
}

// unfinished lists the rows that are still to be done, or are being done.
func unfinished(ctx context.Context, client *river.Client[*sql.Tx]) ([]*rivertype.JobRow, error) {
	list, err := client.JobList(ctx, river.NewJobListParams().First(mostRows).States(
		rivertype.JobStateAvailable, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled))
	if err != nil {
		return nil, err
	}
	return list.Jobs, nil
}

func argsOf(row *rivertype.JobRow) (work, error) {
	var w work
	err := json.Unmarshal(row.EncodedArgs, &w)
	return w, err
}

// giveBack marks rows whose process is gone: to be tried again, or for good when they were tried often enough.
func (d *database) giveBack(ctx context.Context, rows []*rivertype.JobRow, now time.Time) error {
	if len(rows) == 0 {
		return nil
	}
	var params riverdriver.JobRescueManyParams
	for _, row := range rows {
		note, err := json.Marshal(rivertype.AttemptError{At: now.UTC(), Attempt: row.Attempt, Error: "interrupted: the process that ran it is gone"})
		if err != nil {
			return err
		}
		state, finalized := rivertype.JobStateRetryable, (*time.Time)(nil)
		if row.Attempt >= row.MaxAttempts {
			at := now.UTC()
			state, finalized = rivertype.JobStateDiscarded, &at
		}
		params.ID = append(params.ID, row.ID)
		params.Error = append(params.Error, note)
		params.FinalizedAt = append(params.FinalizedAt, finalized)
		params.ScheduledAt = append(params.ScheduledAt, now.UTC())
		params.State = append(params.State, string(state))
	}
	_, err := d.driver.GetExecutor().JobRescueMany(ctx, &params)
	return err
}

// quieter keeps back what River says of its daily life, and of runs that failed, which the daemon says better.
type quieter struct{ slog.Handler }

func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && q.Handler.Enabled(ctx, level)
}

func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs)}
}

func (q quieter) WithGroup(name string) slog.Handler { return quieter{q.Handler.WithGroup(name)} }
