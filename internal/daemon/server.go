package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"holdfast"
)

const (
	// beat is how often the connection that holds a lock is asked whether it still stands, and how long it may take to answer.
	beat = 10 * time.Second
	// sweepEvery is how often rows are looked for whose process is gone.
	sweepEvery = 15 * time.Second
	// settled is how often it is looked whether what a run came to is written.
	settled = 50 * time.Millisecond
	// young is how long after it was fetched a row may be without its lock.
	young = 20 * time.Second
	// takeover is longer than it takes to notice that a connection broke, twice beat, and to end a run, which a program has a minute for.
	takeover = 2*beat + time.Minute + 10*time.Second
	// turnedAway is how long it may take until a row is put back that was fetched, and whose locks somebody else holds.
	turnedAway = 5 * time.Second
	// unknownFor is how long another machine may have a task in its configuration that this one has not.
	unknownFor = 24 * time.Hour
)

var (
	errLockLost  = errors.New("the connection to the queue's server broke, and with it the lock on this run")
	errGivenBack = errors.New("the run was given back meanwhile, because it had no lock")
)

// onServer opens a queue on a PostgreSQL server that daemons on many machines share.
func onServer(ctx context.Context, server string, password holdfast.Secret) (*database, error) {
	config, err := pgxpool.ParseConfig(server)
	if err != nil {
		why := "the connection text is not readable"
		if file := new(fs.PathError); errors.As(err, &file) {
			why = file.Error() // of sslrootcert, sslcert or sslkey; anything else might show the text itself
		}
		return nil, holdfast.WithHint(fmt.Errorf("%w: the queue's server: %s", holdfast.ErrUsage, why), "write service.queue.url as postgres://user@host/database")
	}
	if !password.IsZero() {
		config.ConnConfig.Password = password.Reveal()
	}
	config.ConnConfig.RuntimeParams["application_name"] = "holdfast queue"
	// A machine that vanishes must not keep its locks for the hours that TCP would wait.
	for name, value := range map[string]string{"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"} {
		config.ConnConfig.RuntimeParams[name] = value
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, unreachable(err)
	}
	driver := riverpgxv5.New(pool)
	db := stdlib.OpenDBFromPool(pool)
	d := &database{
		db: db, exec: driver.GetExecutor(), client: clientOn(driver), locks: &serverLocks{config.ConnConfig}, poll: time.Second, shared: true,
		close: func() error {
			err := db.Close()
			pool.Close()
			return err
		},
	}
	// Two machines that start at once would both make the tables.
	grip, err := waitFor(ctx, d.locks, "tables")
	if err == nil {
		err = errors.Join(migrate(ctx, driver), d.makeTable(ctx))
		grip.release()
	}
	if err != nil {
		return nil, errors.Join(unreachable(err), d.close())
	}
	return d, nil
}

func unreachable(err error) error {
	return holdfast.WithHint(fmt.Errorf("open the queue on its server: %w", attempts{err}), "look at service.queue, and whether the server is up")
}

// attempts is an error that has a line for each address and each kind of encryption that was tried. It tells each cause once, in one line.
type attempts struct{ error }

func (a attempts) Error() string {
	var causes []string
	for line := range strings.Lines(a.error.Error()) {
		if line = strings.TrimSpace(line); !slices.Contains(causes, line) {
			causes = append(causes, line)
		}
	}
	return strings.Replace(strings.Join(causes, "; "), ":; ", ": ", 1)
}

func (a attempts) Unwrap() error { return a.error }

// waitFor tries to get a lock until it does.
func waitFor(ctx context.Context, l locks, name string) (*grip, error) {
	for {
		grip, err := l.try(ctx, name)
		if err != nil || grip != nil {
			return grip, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// serverLocks are advisory locks of a PostgreSQL server, each hold on a connection of its own: it ends with the connection, whatever became
// of the machine, so that there is no stale lock (https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS).
type serverLocks struct{ config *pgx.ConnConfig }

func (l *serverLocks) try(ctx context.Context, names ...string) (*grip, error) {
	conn, err := pgx.ConnectConfig(ctx, l.config.Copy())
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var got bool
		err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended($1, 4711))", "holdfast/"+name).Scan(&got)
		if err != nil || !got {
			return nil, errors.Join(err, closeConn(conn))
		}
	}
	lost, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			asking, cancel := context.WithTimeout(context.Background(), beat)
			err := conn.Ping(asking)
			cancel()
			if err != nil {
				close(lost)
				return
			}
		}
	}()
	return &grip{lost: lost, release: func() {
		close(done)
		<-ended
		_ = closeConn(conn) // the server lets go of the locks of a connection that broke, too
	}}, nil
}

func closeConn(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), beat)
	defer cancel()
	return conn.Close(ctx)
}

// rowLock is the lock that whoever runs a row holds.
func rowLock(id int64) string { return "row/" + strconv.FormatInt(id, 10) }

// exclusive are the locks that a run of a row needs.
func (d *Daemon) exclusive(task Task, id int64) []string {
	var names []string
	if task.Alone != "" {
		names = append(names, "alone/"+task.Alone)
	}
	if d.data.shared {
		names = append(names, rowLock(id))
	}
	return names
}

// stillMine reports whether a row is still the try that was fetched: between fetching it and getting its lock another machine may have taken it
// for one whose process is gone.
func (d *Daemon) stillMine(ctx context.Context, job *river.Job[work]) (bool, error) {
	row, err := d.client.JobGet(ctx, job.ID)
	if err != nil {
		return false, err
	}
	return row.State == rivertype.JobStateRunning && row.Attempt == job.Attempt, nil
}

// letGo releases the locks of a run that has ended. What it came to is written a moment after its work returned: until then a lock that is free
// would say that its process is gone.
func (d *Daemon) letGo(g *grip, job *river.Job[work]) {
	if g == nil {
		return
	}
	if !d.data.shared {
		g.release()
		return
	}
	d.letting.Go(func() error {
		defer g.release()
		ctx, cancel := context.WithTimeout(context.Background(), young)
		defer cancel()
		for {
			if mine, err := d.stillMine(ctx, job); err != nil || !mine {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settled):
			}
		}
	})
}

// mayBegin reports, as an answer to River, why a run must not begin whose locks are held; nil: it may.
func (d *Daemon) mayBegin(ctx context.Context, task Task, job *river.Job[work], log *slog.Logger) error {
	mine, err := d.stillMine(ctx, job)
	if err == nil && !mine {
		return errGivenBack
	}
	busy := true
	// A row that is turned away at this moment, by the locks that are held here, seems to run too.
	for deadline := time.Now().Add(turnedAway); err == nil && busy; {
		if busy, err = d.stillAt(ctx, task.Alone, job.ID); !busy || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(settled):
		}
	}
	if err != nil {
		log.Error("the queue cannot be read", "error", sentence(err))
	}
	if err != nil || busy {
		return river.JobSnooze(busyWait)
	}
	return nil
}

// stillAt reports whether another row of tasks that share alone runs, as far as the queue knows. Whoever runs it may have lost its locks with its
// connection and need a while to end.
func (d *Daemon) stillAt(ctx context.Context, alone string, but int64) (bool, error) {
	if alone == "" {
		return false, nil
	}
	list, err := d.client.JobList(ctx, river.NewJobListParams().First(mostRows).States(rivertype.JobStateRunning))
	if err != nil {
		return false, err
	}
	for _, row := range list.Jobs {
		args, err := argsOf(row)
		if other, known := d.task(args.Task); err == nil && known && other.Alone == alone && row.ID != but {
			return true, nil
		}
	}
	return false, nil
}

// afterLoss waits, after the lock on a run was lost and the run has ended, until its row is this try's again, or nobody's: what is said of a
// row that another machine runs by now would end that run, as far as the queue knows. It returns the new hold. It waits no longer than until the
// daemon stops: then the row is, at worst, run once more.
func (d *Daemon) afterLoss(ctx context.Context, lost *grip, job *river.Job[work]) (*grip, error) {
	lost.release()
	waiting, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	defer func() {
		cancel()
		<-ended
	}()
	go func() {
		defer close(ended)
		select {
		case <-d.stops:
			cancel()
		case <-waiting.Done():
		}
	}()
	grip, err := waitFor(waiting, tolerant{d.data.locks}, rowLock(job.ID))
	if err != nil {
		return nil, err
	}
	mine, err := d.stillMine(waiting, job)
	if err == nil && !mine {
		err = errGivenBack
	}
	return grip, err
}

// tolerant are locks of a server that may be away for a while.
type tolerant struct{ locks }

func (t tolerant) try(ctx context.Context, names ...string) (*grip, error) {
	grip, err := t.locks.try(ctx, names...)
	if ctx.Err() == nil {
		err = nil
	}
	return grip, err
}

// unheld is a row that seems to run, and whose lock nobody holds.
type unheld struct {
	attempt int
	since   time.Time
}

// sweep gives back rows whose process is gone, on whichever machine it was.
func (d *Daemon) sweep(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	var seen map[int64]unheld
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var err error
		if seen, err = d.sweepOnce(ctx, seen); err != nil && ctx.Err() == nil {
			d.opt.Log.Error("what others left unfinished is not known", "error", holdfast.Sentence(err))
		}
	}
}

// sweepOnce looks at all rows once, and returns those whose lock nobody holds. seen are those of the look before.
func (d *Daemon) sweepOnce(ctx context.Context, seen map[int64]unheld) (map[int64]unheld, error) {
	rows, err := unfinished(ctx, d.client)
	if err != nil {
		return seen, err
	}
	now := map[int64]unheld{}
	waiting := 0
	for _, row := range rows {
		if row.State != rivertype.JobStateRunning {
			waiting++
			continue
		}
		free, sweepErr := d.sweepRow(ctx, row, seen[row.ID])
		err = errors.Join(err, sweepErr)
		if free.attempt > 0 {
			now[row.ID] = free
		}
	}
	d.mu.Lock()
	d.waiting = waiting
	d.mu.Unlock()
	return now, err
}

// sweepRow gives a row back if nobody has held its lock for long enough. was is what was seen of it before. Whoever has lost its lock to a break
// of the connection ends its run, which takes a while: a row that is given back at once would be run twice at once.
func (d *Daemon) sweepRow(ctx context.Context, row *rivertype.JobRow, was unheld) (unheld, error) {
	if row.AttemptedAt == nil || d.opt.Now().Sub(*row.AttemptedAt) < young {
		return unheld{}, nil
	}
	grip, err := d.data.locks.try(ctx, rowLock(row.ID))
	if err != nil {
		return was, err
	}
	if grip == nil {
		return unheld{}, nil
	}
	defer grip.release()
	now, err := d.client.JobGet(ctx, row.ID)
	switch {
	case err != nil:
		return was, err
	case now.State != rivertype.JobStateRunning || now.Attempt != row.Attempt:
		return unheld{}, nil
	case was.attempt != row.Attempt:
		return unheld{row.Attempt, time.Now()}, nil
	case time.Since(was.since) < d.opt.Takeover:
		return was, nil
	}
	return was, d.giveBack(ctx, now)
}
