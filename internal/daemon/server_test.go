package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"holdfast"
	"holdfast/internal/daemon"
	"holdfast/internal/testbed"
)

const serverVariable = "DAEMON_TEST_SERVER"

// TestMain is also a worker on a machine of its own: it works until it is killed, or until its standard input ends.
func TestMain(m *testing.M) {
	if server := os.Getenv(serverVariable); server != "" {
		if err := workOn(server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const fleet = 40

// fleetTasks are drills that were due a while ago, and are due no more.
func fleetTasks(due time.Time) []daemon.Task {
	var tasks []daemon.Task
	for i := range fleet {
		tasks = append(tasks, daemon.Task{
			Job: holdfast.JobName(fmt.Sprintf("job%02d", i)), Task: holdfast.TaskDrill, Retries: 2, RetryWait: time.Second,
			Due: func(at time.Time) (time.Time, time.Time) {
				if at.Before(due) {
					return time.Time{}, due
				}
				return due, time.Time{}
			},
		})
	}
	return tasks
}

// workOn takes part in the fleet. Each run writes when it begins and when it ends, and who it is.
func workOn(server string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "worker")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	turn := make(chan struct{}, 1)
	say := func(sql string, args ...any) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		_, err := conn.Exec(ctx, sql, args...)
		return err
	}
	d, err := daemon.Open(ctx, daemon.Options{
		Dir: dir, Workers: 3, Now: time.Now, Server: server, Takeover: time.Second, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Run: func(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
			if err := say("INSERT INTO said (task, attempt, pid, word) VALUES ($1, $2, $3, 'begins')", run.Task.Name(), run.Attempt, os.Getpid()); err != nil {
				return daemon.Failed, err
			}
			select {
			case <-ctx.Done():
				return daemon.Cancelled, nil
			case <-time.After(300 * time.Millisecond): // the work, which takes its time
			}
			return daemon.Good, say("INSERT INTO said (task, attempt, pid, word) VALUES ($1, $2, $3, 'ends')", run.Task.Name(), run.Attempt, os.Getpid())
		},
	})
	if err != nil {
		return err
	}
	if err := d.Plan(ctx, fleetTasks(time.Now().Add(-time.Hour).Truncate(24*time.Hour))); err != nil {
		return err
	}
	go func() { // until the process ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return errors.Join(d.Run(ctx, nil), d.Close())
}

type fleetWorker struct {
	*exec.Cmd
	stdin io.Closer
	log   strings.Builder
}

func startWorker(t *testing.T, server string) *fleetWorker {
	t.Helper()
	w := &fleetWorker{Cmd: exec.Command(os.Args[0])}
	w.Env = append(os.Environ(), serverVariable+"="+server)
	w.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.Stderr = &w.log
	stdin, err := w.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.stdin = stdin
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// Three machines share forty drills; one of them is killed in the middle. Every drill is done, and no two machines are at one at the same time.
// None is done twice, but what the one that was killed had done and could not say any more.
func TestFleet(t *testing.T) {
	pg := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server := pg.URL("postgres")
	pg.Exec(t, "postgres", "CREATE TABLE said (n bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), task text, attempt int, pid int, word text)")
	// What was due before anybody heard of the tasks is not made up for: somebody heard of them long ago.
	seed(t, server)
	workers := []*fleetWorker{startWorker(t, server), startWorker(t, server), startWorker(t, server)}
	victim := workers[0]
	until(t, workers, func() bool {
		return pg.Value(t, "postgres", fmt.Sprintf("SELECT count(*) > 3 FROM said WHERE pid = %d AND word = 'begins'", victim.Process.Pid)) == "t"
	})
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	until(t, workers[1:], func() bool {
		return pg.Value(t, "postgres", "SELECT count(*) FROM river_job WHERE state = 'completed'") == fmt.Sprint(fleet)
	})
	for _, w := range workers[1:] {
		if err := w.stdin.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.Wait(); err != nil {
			t.Errorf("a worker ended with %v: %s", err, w.log.String())
		}
	}
	for what, sql := range map[string]string{
		"were done twice":                 fmt.Sprintf("SELECT count(*) FROM (SELECT task FROM said WHERE word = 'ends' AND pid <> %d GROUP BY task HAVING count(*) > 1) AS x", victim.Process.Pid),
		"were never done":                 fmt.Sprintf("SELECT %d - count(DISTINCT task) FROM said WHERE word = 'ends'", fleet),
		"were begun before another ended": fmt.Sprintf("SELECT count(*) FROM said AS a JOIN said AS b ON a.task = b.task AND a.pid <> b.pid AND a.word = 'begins' AND b.word = 'begins' AND a.n < b.n WHERE a.pid <> %d AND NOT EXISTS (SELECT FROM said AS e WHERE e.task = a.task AND e.pid = a.pid AND e.word = 'ends' AND e.n < b.n)", victim.Process.Pid),
	} {
		if n := pg.Value(t, "postgres", sql); n != "0" {
			t.Errorf("%s drills %s", n, what)
		}
	}
	if n := pg.Value(t, "postgres", "SELECT count(*) FROM said WHERE attempt > 1 AND word = 'ends'"); n == "0" {
		t.Error("no drill was taken over from the worker that was killed")
	}
	if n := pg.Value(t, "postgres", "SELECT count(DISTINCT pid) FROM said WHERE word = 'ends'"); n == "1" {
		t.Error("one worker did it all")
	}
}

// seed lets the queue know the tasks from the day before.
func seed(t *testing.T, server string) {
	t.Helper()
	b := newBed(t)
	opt := b.options()
	opt.Server, opt.WorkOnly = server, true
	opt.Seen = func(daemon.Task) time.Time { return time.Now().Add(-48 * time.Hour) }
	d, err := daemon.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Plan(t.Context(), fleetTasks(time.Now().Add(-time.Hour).Truncate(24*time.Hour))), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition, for as long as the workers live.
func until(t *testing.T, workers []*fleetWorker, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			for _, w := range workers {
				t.Log(w.log.String())
			}
			t.Fatal("it never came true")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	b := newBed(t)
	opt := b.options()
	opt.Server, opt.Password = "postgres://u@127.0.0.1:1/none?connect_timeout=2", holdfast.NewSecret("canary-secret")
	_, err := daemon.Open(t.Context(), opt)
	if err == nil || holdfast.Hint(err) == "" || strings.ContainsAny(err.Error(), "\n\t") || strings.Count(err.Error(), "connection refused") != 1 || strings.Contains(err.Error(), "canary-secret") {
		t.Errorf("%v, hint %q", err, holdfast.Hint(err))
	}
	opt.Server = "postgres://%zz"
	if _, err := daemon.Open(t.Context(), opt); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a text that cannot be read: %v", err)
	}
	opt.Server = "postgres://u@db1/h?sslmode=verify-full&sslrootcert=/none/ca.pem"
	if _, err := daemon.Open(t.Context(), opt); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "/none/ca.pem: no such file") {
		t.Errorf("a certificate that is not there: %v", err)
	}
}

// member is a daemon of a shared queue. It is never closed: its test's server ends before.
func member(t *testing.T, server string, change func(*daemon.Options), tasks ...daemon.Task) (*bed, *living) {
	t.Helper()
	b := newBed(t)
	opt := b.options()
	opt.Server, opt.Now = server, time.Now
	opt.Seen = func(daemon.Task) time.Time { return time.Now().Add(-72 * time.Hour) }
	change(&opt)
	l := b.start(opt, tasks...)
	t.Cleanup(func() {
		l.stop()
		close(l.abort)
		if err := errors.Join(<-l.ended, l.Close()); err != nil {
			t.Error(err)
		}
	})
	return b, l
}

// becomes waits until something is true.
func becomes(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// The server of the queue is started again while two machines are at a run each. All locks are free at once then, and the runs need a while to end:
// until they have, nobody else is at them, nor at another task that one of them excludes.
func TestServerStartedAgain(t *testing.T) {
	pg := testbed.Postgres(t, 15, testbed.ServerOptions{})
	now := time.Now()
	once := func(job string, task holdfast.Task, due time.Time) daemon.Task {
		return daemon.Task{Job: holdfast.JobName(job), Task: task, Alone: job, Retries: 3, RetryWait: time.Second, Due: func(at time.Time) (time.Time, time.Time) {
			if at.Before(due) {
				return time.Time{}, due
			}
			return due, time.Time{}
		}}
	}
	var mu sync.Mutex // guards what follows
	running, most, cut := map[string]int{}, map[string]int{}, map[string]int{}
	for range 2 {
		b, _ := member(t, pg.URL("postgres"), func(opt *daemon.Options) {
			opt.Workers, opt.Takeover = 1, time.Minute
			opt.Run = func(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
				job := run.Task.Alone
				mu.Lock()
				running[job]++
				most[job] = max(most[job], running[job])
				first := run.Task.Task == holdfast.TaskBackup && cut[job] == 0
				mu.Unlock()
				defer func() {
					mu.Lock()
					running[job]--
					mu.Unlock()
				}()
				if !first {
					return daemon.Good, nil
				}
				<-ctx.Done()
				mu.Lock()
				cut[job]++
				mu.Unlock()
				<-time.After(20 * time.Second) // a program that takes its time to end, longer than others take to look
				return daemon.Cancelled, nil
			}
		}, once("app", holdfast.TaskBackup, now.Add(-time.Hour)), once("shop", holdfast.TaskBackup, now.Add(-time.Hour)), once("app", holdfast.TaskPrune, now.Add(10*time.Second)))
		defer func() {
			if t.Failed() {
				t.Log(b.log)
			}
		}()
	}
	becomes(t, "both machines are at a backup", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return running["app"] == 1 && running["shop"] == 1
	})
	pg.Stop(t)
	pg.Start(t)
	becomes(t, "all is done", func() bool {
		return pg.Value(t, "postgres", "SELECT count(*) FROM river_job WHERE state = 'completed'") == "3"
	})
	for _, job := range []string{"app", "shop"} {
		if most[job] != 1 || cut[job] != 1 {
			t.Errorf("of job %s %d ran at once, and %d were cut off, want 1 and 1", job, most[job], cut[job])
		}
	}
}

// What becomes due while another machine is still at the time before is run when that has ended.
func TestDueWhileAnotherIsAtIt(t *testing.T) {
	pg := testbed.Postgres(t, 15, testbed.ServerOptions{})
	first, second := time.Now().Add(-time.Hour), time.Now().Add(4*time.Second)
	task := daemon.Task{Job: "app", Task: holdfast.TaskBackup, Due: func(at time.Time) (time.Time, time.Time) {
		if at.Before(second) {
			return first, second
		}
		return second, time.Time{}
	}}
	held := make(chan struct{})
	works, worker := member(t, pg.URL("postgres"), func(opt *daemon.Options) { opt.WorkOnly = true }, task)
	works.will(func(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
		if run.Due.Before(second) {
			select {
			case <-held:
			case <-ctx.Done():
			}
		}
		return daemon.Good, nil
	})
	_, plans := member(t, pg.URL("postgres"), func(opt *daemon.Options) { opt.Queues = []string{"other"} }, task)
	becomes(t, "the first runs", func() bool { return len(works.took()) == 1 })
	becomes(t, "the second is due", func() bool { return time.Now().After(second.Add(time.Second)) })
	close(held)
	var then []string
	becomes(t, "the second is run", func() bool {
		for _, status := range []daemon.Status{worker.Status(), plans.Status()} {
			if status.Waiting < 0 {
				t.Fatalf("a machine says that %d wait", status.Waiting)
			}
		}
		then = append(then, works.took()...)
		return len(then) > 0
	})
	want(t, then, fmt.Sprintf("app/backup %s 1", second.UTC().Format("2006-01-02T15:04")))
}

// A row whose task no machine has in its configuration any more does not stay for ever.
func TestTaskThatIsGoneEverywhere(t *testing.T) {
	pg := testbed.Postgres(t, 15, testbed.ServerOptions{})
	due := time.Now().Add(-48 * time.Hour)
	member(t, pg.URL("postgres"), func(opt *daemon.Options) { opt.Queues = []string{"other"} }, fleetTasks(due)[0])
	becomes(t, "it is in the queue", func() bool { return pg.Value(t, "postgres", "SELECT count(*) FROM river_job") == "1" })
	b, _ := member(t, pg.URL("postgres"), func(*daemon.Options) {})
	becomes(t, "it is left out", func() bool { return pg.Value(t, "postgres", "SELECT state FROM river_job") == "cancelled" })
	b.says("left out: the configuration has no such task any more", 1)
	want(t, b.took())
}

// Of all queues together no more is run at once than there are workers.
func TestOneWorkerOfTwoQueues(t *testing.T) {
	pg := testbed.Postgres(t, 15, testbed.ServerOptions{})
	due := time.Now().Add(-time.Hour)
	tasks := fleetTasks(due)[:4]
	for i := range tasks {
		tasks[i].Queue = []string{"one", "two"}[i%2]
	}
	var running, most, ran atomic.Int32
	member(t, pg.URL("postgres"), func(opt *daemon.Options) {
		opt.Workers, opt.Queues = 1, []string{"one", "two"}
		opt.Run = func(context.Context, daemon.Run) (daemon.Outcome, error) {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer running.Add(-1)
			<-time.After(300 * time.Millisecond) // the work, which takes its time
			ran.Add(1)
			return daemon.Good, nil
		}
	}, tasks...)
	becomes(t, "all four are done", func() bool { return ran.Load() == 4 })
	if most.Load() != 1 {
		t.Errorf("%d ran at once", most.Load())
	}
}
