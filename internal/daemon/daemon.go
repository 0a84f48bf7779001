// Package daemon is the long-lived part of Holdfast: it knows when what is due, keeps a durable queue of it, and runs it.
//
// It hides River, the queue's database, clocks that jump, and the order in which things stop. Its laws: what was due is run once, and what
// was due while nothing ran is made up for once; no two tasks that exclude each other run at once; a run whose process died is found, marked
// and tried again as its task says; every goroutine that it starts has ended when [Daemon.Run] returns. It is not its job to know what a
// backup is: how a task is run, when it is due, and what else runs beside it (metrics, alarms) it is given.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/riverqueue/river/rivertype"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"holdfast"
)

// Service is something that runs for as long as the daemon does. Run returns when everything that it started has ended, soon after ctx was
// cancelled; an error ends the daemon.
type Service interface {
	Run(ctx context.Context) error
}

// Options say how a daemon works. All but Beside, Seen, Interrupted and Changed must be given.
type Options struct {
	Dir     string // made with mode 0700; one daemon at a time works in it
	Workers int    // runs at once, of all queues
	// Server is the database that daemons on many machines share: a connection text of PostgreSQL, without a password. "": the queue is a
	// file in Dir, for this daemon alone.
	Server   string
	Password holdfast.Secret // of Server
	// Queues are those that this daemon works on; none: the default one.
	Queues []string
	// WorkOnly leaves it to others to put into the queue what is due.
	WorkOnly bool
	// Takeover is for how long nobody must have held the lock of a run on Server until its process counts as gone; 0: 90 s, in which a machine
	// that lost its connection has noticed it and ended its run.
	Takeover time.Duration
	Now      func() time.Time
	Run      Runner
	Log      *slog.Logger
	// Beside are started first and stopped last, so that whoever watches sees the runs end.
	Beside []Service
	// Seen tells when a task was last tried, as other records have it, for a queue that is new; zero: not known.
	Seen func(t Task) time.Time
	// Interrupted is told of each run that was found unfinished after a crash.
	Interrupted func(run Run)
	// Changed is called whenever a run began or ended or the queue changed, also from several goroutines at once. It must not block.
	Changed func()
}

func (o Options) queues() []string {
	if len(o.Queues) == 0 {
		return []string{defaultQueue}
	}
	return o.Queues
}

// Daemon schedules and runs. Run works once.
type Daemon struct {
	opt    Options
	lock   *os.File
	data   *database
	client rows
	wake   chan struct{} // a new plan, or something ended
	stops  chan struct{} // closed when nothing more is started
	slots  chan struct{} // holds an element for each run: River counts those of each queue for itself

	letting errgroup.Group // locks that are let go

	mu      sync.Mutex // guards what follows
	tasks   map[string]*scheduled
	looked  time.Time      // by the scheduler, at all of them; zero: it must compute all anew
	running map[string]Run // by the name of the task
	waiting int            // rows that nobody runs, of all machines; not of a queue that is this daemon's own
	// Of a queue that is this daemon's own alone: when the row of a task was due that is not finished, which tasks wait for another one that they
	// must not run beside, and the rows whose end River was told, and may not have written yet.
	open    map[string]time.Time
	blocked map[string]bool
	over    map[int64]over
	trouble string // why the queue could not be written; "" when it could
	suspect string // what River last said went wrong, since it was last tried whether the queue can be written
}

// ErrRunning says that another daemon works in the folder.
var ErrRunning = errors.New("another holdfast serve works here")

// Open takes the folder, opens the queue, and marks what a crash left unfinished. Close what it returns.
func Open(ctx context.Context, opt Options) (*Daemon, error) {
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("make the service's folder: %w", err), elsewhere)
	}
	lock, err := hold(opt.Dir)
	if err != nil {
		return nil, err
	}
	// The wall clock alone counts: differences between monotonic readings would hide that it was set.
	now := opt.Now
	opt.Now = func() time.Time { return now().Round(0) }
	opt.Takeover = cmp.Or(opt.Takeover, takeover)
	d := &Daemon{
		opt: opt, lock: lock, wake: make(chan struct{}, 1), stops: make(chan struct{}), slots: make(chan struct{}, max(1, opt.Workers)),
		tasks: map[string]*scheduled{}, running: map[string]Run{}, open: map[string]time.Time{}, blocked: map[string]bool{}, over: map[int64]over{},
	}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// elsewhere is what to do about a folder that cannot be used.
const elsewhere = "choose another state folder with --state or HOLDFAST_STATE"

// hold locks the folder for as long as the file is open. The lock is of a kind that others can ask for without taking it (fcntl(2), open
// file description locks): whoever only wants to know keeps no daemon from starting.
func hold(dir string) (*os.File, error) {
	file, err := os.OpenFile(lockFile(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("lock the service's folder: %w", err), elsewhere)
	}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		closeErr := file.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, holdfast.WithHint(fmt.Errorf("%w: %w, in %s", holdfast.ErrBusy, ErrRunning, dir), "stop it first (`systemctl stop holdfast`), or give this one another --state")
		}
		return nil, errors.Join(fmt.Errorf("lock the service's folder: %w", err), closeErr)
	}
	return file, nil
}

func lockFile(dir string) string { return filepath.Join(dir, "lock") }

// Holds reports whether a daemon works in the folder. It changes nothing there.
func Holds(dir string) (bool, error) {
	file, err := os.Open(lockFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the service's lock: %w", err)
	}
	asked := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &asked); err != nil {
		return false, errors.Join(fmt.Errorf("look at the service's lock: %w", err), file.Close())
	}
	return asked.Type != unix.F_UNLCK, file.Close()
}

func (d *Daemon) start(ctx context.Context) error {
	var err error
	if d.opt.Server == "" {
		d.data, err = embedded(ctx, d.opt.Dir, d.opt.Now())
	} else {
		d.data, err = onServer(ctx, d.opt.Server, d.opt.Password)
	}
	if err != nil {
		return err
	}
	if d.data.moved != "" {
		d.opt.Log.Error("the queue's database was damaged and was begun anew; what is due follows from the schedule", "aside", d.data.moved)
	}
	if d.client, err = d.data.newClient(d.opt, &worker{d: d}, d.suspects); err != nil {
		return fmt.Errorf("open the queue: %w", err)
	}
	if d.data.shared {
		return nil // others may be at it: the sweeper finds out
	}
	rows, err := unfinished(ctx, d.client)
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	for _, row := range rows {
		args, err := argsOf(row)
		if err != nil {
			return fmt.Errorf("read the queue: row %d: %w", row.ID, err)
		}
		d.open[args.Task] = args.Due
	}
	// Nobody else works in this folder: whoever ran something is gone.
	for _, row := range rows {
		if row.State == rivertype.JobStateRunning {
			if err := d.giveBack(ctx, row); err != nil {
				return fmt.Errorf("mark what was interrupted: %w", err)
			}
		}
	}
	return nil
}

// giveBack marks a row whose process is gone, and tells of it.
func (d *Daemon) giveBack(ctx context.Context, row *rivertype.JobRow) error {
	args, err := argsOf(row)
	if err != nil {
		return err
	}
	if err := d.data.giveBack(ctx, []ended{{JobRow: row}}); err != nil {
		return err
	}
	if row.Attempt >= row.MaxAttempts {
		d.finished(args.Task)
	}
	d.opt.Log.Warn("a run was interrupted by the end of its process", "task", args.Task, "due", args.Due, "attempt", row.Attempt, "of", row.MaxAttempts)
	if d.opt.Interrupted != nil {
		run := Run{Due: args.Due, Attempt: row.Attempt, Task: parseName(args.Task)}
		if row.AttemptedAt != nil {
			run.Began = *row.AttemptedAt
		}
		d.opt.Interrupted(run)
	}
	return nil
}

// Close lets go of the folder and the database. Nothing runs any more by then.
func (d *Daemon) Close() error {
	var err error
	if d.data != nil {
		err = d.data.close()
	}
	return errors.Join(err, d.lock.Close())
}

// Run schedules and runs tasks until ctx is cancelled; then it starts nothing more and waits for what runs. When abort is closed it ends
// what runs, too.
func (d *Daemon) Run(ctx context.Context, abort <-chan struct{}) error {
	beside, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeside()
	var group errgroup.Group
	failed := make(chan struct{}) // closed when a service ended by itself
	var once sync.Once
	for _, service := range d.opt.Beside {
		group.Go(func() error {
			err := service.Run(beside)
			if beside.Err() == nil {
				once.Do(func() { close(failed) })
			}
			return err
		})
	}
	err := d.work(ctx, abort, failed)
	stopBeside()
	return errors.Join(err, group.Wait())
}

func (d *Daemon) work(ctx context.Context, abort, failed <-chan struct{}) error {
	// River's own context outlives ctx: its cancellation would end the runs.
	if err := d.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the queue: %w", err)
	}
	scheduling, stop := context.WithCancel(ctx)
	defer stop()
	var loops errgroup.Group
	if !d.opt.WorkOnly {
		loops.Go(func() error {
			d.schedule(scheduling)
			return nil
		})
	}
	if d.data.shared {
		loops.Go(func() error {
			d.sweep(scheduling)
			return nil
		})
	}
	select {
	case <-ctx.Done():
	case <-abort:
	case <-failed:
	}
	stop()
	_ = loops.Wait() // no loop fails
	close(d.stops)
	if n := len(d.Status().Running); n > 0 {
		d.opt.Log.Info("waiting for what runs", "runs", n)
	}
	soft, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() { // ends with this function, by cancel
		select {
		case <-abort:
			cancel()
		case <-soft.Done():
		}
	}()
	defer func() { _ = d.letting.Wait() }() // none of them fails
	if err := d.client.Stop(soft); err != nil {
		d.opt.Log.Warn("ending what runs")
		if err := d.client.StopAndCancel(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("stop the queue: %w", err)
		}
	}
	return nil
}

// Status is what the daemon does right now.
type Status struct {
	Waiting int   // rows that wait for a worker or for their next try; of a shared queue those of all machines, as of the last quarter of a minute
	Running []Run // without order
	Trouble string
}

// Status says what the daemon does right now.
func (d *Daemon) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Status{Waiting: d.waiting, Trouble: d.trouble}
	if !d.data.shared {
		s.Waiting = len(d.open) - len(d.running)
	}
	for _, run := range d.running {
		s.Running = append(s.Running, run)
	}
	return s
}

func (d *Daemon) changed() {
	if d.opt.Changed != nil {
		d.opt.Changed()
	}
}
