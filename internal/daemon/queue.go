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
	"strings"
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
	// slotWait is how long a task waits that was fetched from one queue while runs of the others take all workers.
	slotWait = 5 * time.Second

	mostRows = 10_000
)

// database is where the queue is kept: a file of this process alone, or a server that many share.
type database struct {
	db     *sql.DB // for our own table
	exec   riverdriver.Executor
	client func(*river.Config) (rows, error)
	locks  locks
	poll   time.Duration
	shared bool
	moved  string // where a damaged file was put aside; "" when there was none
	close  func() error
}

// rows is what of River's client is used, whose type depends on the database.
type rows interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	StopAndCancel(ctx context.Context) error
	InsertMany(ctx context.Context, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error)
	JobList(ctx context.Context, params *river.JobListParams) (*river.JobListResult, error)
	JobGet(ctx context.Context, id int64) (*rivertype.JobRow, error)
	JobRetry(ctx context.Context, id int64) (*rivertype.JobRow, error)
}

// clientOn makes River's client on a driver.
func clientOn[T any](driver riverdriver.Driver[T]) func(*river.Config) (rows, error) {
	return func(config *river.Config) (rows, error) { return river.NewClient(driver, config) }
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
		return nil, holdfast.WithHint(fmt.Errorf("open the queue: %w", err), elsewhere)
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	db.SetMaxOpenConns(1) // SQLite has one writer; more connections would only meet each other's locks
	driver := riversqlite.New(db)
	// What this process puts into the queue is fetched at once; only what waited for its next try must be looked for.
	d := &database{db: db, exec: driver.GetExecutor(), client: clientOn(driver), locks: newOwnLocks(), poll: 5 * time.Second, close: func() error { return closeIdle(db) }}
	err = d.prepare(ctx, driver)
	if err == nil {
		err = d.unlead(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the queue %s: %w", path, err), db.Close())
	}
	return d, nil
}

// closeWait bounds how long the end of the last statement is waited for.
const closeWait = 10 * time.Second

// closeIdle closes a database. A connection that is still in use would be closed by itself only later, and would write the file then.
func closeIdle(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	last, err := db.Conn(ctx)
	if err == nil {
		err = last.Close()
	}
	return errors.Join(err, db.Close())
}

// unlead takes back the lease of River's leader, by whom retries come. This process has the file alone, so that whoever had the lease is gone
// or bids for it again in a moment; a lease that a full disk, or a clock that was set back, kept from its end would hold up all retries.
func (d *database) unlead(ctx context.Context) error {
	_, err := d.db.ExecContext(ctx, "DELETE FROM river_leader")
	return err
}

// prepare checks the file and brings its tables to what this version needs.
func (d *database) prepare(ctx context.Context, driver *riversqlite.Driver) error {
	var whole string
	if err := d.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&whole); err != nil {
		return err
	}
	if whole != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, whole)
	}
	if err := migrate(ctx, driver); err != nil {
		return err
	}
	return d.makeTable(ctx)
}

func migrate[T any](ctx context.Context, driver riverdriver.Driver[T]) error {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// makeTable makes the table of what was put into the queue last.
func (d *database) makeTable(ctx context.Context) error {
	_, err := d.db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS holdfast_due (task text PRIMARY KEY, due bigint NOT NULL)")
	return err
}

// newClient makes River's client for runs by do. What goes wrong with the database is told to suspects.
func (d *database) newClient(opt Options, do *worker, suspects func(string)) (rows, error) {
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, do); err != nil {
		return nil, err
	}
	queues := map[string]river.QueueConfig{}
	for _, name := range opt.queues() {
		queues[name] = river.QueueConfig{MaxWorkers: opt.Workers}
	}
	return d.client(&river.Config{
		FetchPollInterval:           d.poll,
		Queues:                      queues,
		Workers:                     workers,
		Logger:                      slog.New(quieter{opt.Log.With("part", "queue").Handler(), suspects}),
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
func (d *database) insert(ctx context.Context, client rows, due []pair) ([]string, error) {
	rows := make([]river.InsertManyParams, len(due))
	for i, p := range due {
		rows[i] = river.InsertManyParams{
			Args: work{Task: p.task.Name(), Due: p.due.UTC()},
			InsertOpts: &river.InsertOpts{
				Queue: p.task.queue(), Priority: priority(p.task.Task), MaxAttempts: p.task.Retries + 1,
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
func unfinished(ctx context.Context, client rows) ([]*rivertype.JobRow, error) {
	list, err := client.JobList(ctx, river.NewJobListParams().First(mostRows).States(
		rivertype.JobStateAvailable, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled))
	if err != nil {
		return nil, err
	}
	return list.Jobs, nil
}

// hurry makes ready what waits for a time that is far off only because the clock was set back. What waits for its next try is tried early.
func (d *database) hurry(ctx context.Context, client rows, now time.Time) error {
	if err := d.unlead(ctx); err != nil {
		return err
	}
	rows, err := unfinished(ctx, client)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.State == rivertype.JobStateRunning || !row.ScheduledAt.After(now) {
			continue
		}
		if _, err := client.JobRetry(ctx, row.ID); err != nil && !errors.Is(err, rivertype.ErrNotFound) {
			return err
		}
	}
	return nil
}

func argsOf(row *rivertype.JobRow) (work, error) {
	var w work
	err := json.Unmarshal(row.EncodedArgs, &w)
	return w, err
}

// ended is a row that the queue believes to run, and that does not.
type ended struct {
	*rivertype.JobRow
	over
}

// final reports whether the row is not run any more.
func (e ended) final() bool { return e.done || !e.again && e.Attempt >= e.MaxAttempts }

// giveBack marks rows that do not run: as done, to be tried again, or for good when they were tried often enough.
func (d *database) giveBack(ctx context.Context, rows []ended) error {
	if len(rows) == 0 {
		return nil
	}
	now := time.Now().UTC() // by the clock that River has
	var params riverdriver.JobRescueManyParams
	for _, row := range rows {
		note, err := json.Marshal(rivertype.AttemptError{At: now, Attempt: row.Attempt, Error: "the queue did not hear of its end"})
		if err != nil {
			return err
		}
		state, finalized := rivertype.JobStateRetryable, (*time.Time)(nil)
		switch {
		case row.done:
			state, finalized = rivertype.JobStateCompleted, &now
		case row.final():
			state, finalized = rivertype.JobStateDiscarded, &now
		}
		params.ID = append(params.ID, row.ID)
		params.Error = append(params.Error, note)
		params.FinalizedAt = append(params.FinalizedAt, finalized)
		params.ScheduledAt = append(params.ScheduledAt, now)
		params.State = append(params.State, string(state))
	}
	_, err := d.exec.JobRescueMany(ctx, &params)
	return err
}

// probe finds out whether the queue can be written.
func (d *database) probe(ctx context.Context) error {
	err := setDue(ctx, d.db, "", time.Now()) // no task has that name
	if err != nil || d.shared {
		return err
	}
	return d.unlead(ctx)
}

// quieter keeps back what River says of its daily life, and of runs that failed, which the daemon says better. What its parts say of a
// database that fails they say every few seconds: that is told to suspects alone.
type quieter struct {
	slog.Handler
	suspects func(text string)
}

func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && q.Handler.Enabled(ctx, level)
}

// Handle passes on what is about single rows and is no run's own error.
func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	if what, of := strings.CutPrefix(r.Message, "jobexecutor.JobExecutor: "); of {
		if what == "Job errored" {
			return nil
		}
		return q.Handler.Handle(ctx, r)
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" || a.Key == "error" {
			text += ": " + a.Value.String()
		}
		return true
	})
	q.suspects(text)
	return nil
}

func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs), q.suspects}
}

func (q quieter) WithGroup(name string) slog.Handler {
	return quieter{q.Handler.WithGroup(name), q.suspects}
}
