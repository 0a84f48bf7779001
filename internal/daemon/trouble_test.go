package daemon_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast"
	"holdfast/internal/daemon"
	"holdfast/internal/testbed"
)

// full takes all room of a bed's folder, which is a file system of its own, until free is called.
func (b *bed) full() (free func()) {
	b.t.Helper()
	filler, err := os.Create(filepath.Join(b.dir, "filler"))
	if err != nil {
		b.t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = filler.Write(block)
	}
	if err := filler.Close(); err != nil {
		b.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler.Name()); err != nil {
			b.t.Error(err)
		}
	}
}

func newSmallBed(t *testing.T) *bed {
	b := newBed(t)
	testbed.MountTmpfs(t, b.dir, "size=4m")
	return b
}

func (b *bed) says(text string, times int) {
	b.t.Helper()
	if n := strings.Count(b.log.String(), text); n != times {
		b.t.Errorf("%q is said %d times, want %d:\n%s", text, n, times, b.log)
	}
}

// What is due while the queue has no room is run when there is some again, and that is told once.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSmallBed(t)
		l := b.start(b.options(), every("app", holdfast.TaskBackup, interval))
		want(t, b.wait(8*time.Minute))
		free := b.full()
		want(t, b.wait(time.Minute))
		if l.Status().Trouble == "" {
			t.Error("it has no trouble before anything is due")
		}
		want(t, b.wait(4*time.Minute))
		b.says("cannot be written", 1)
		b.says("level=ERROR", 1)
		free()
		want(t, b.wait(time.Minute), "app/backup 01-01T00:10 1")
		if s := l.Status(); s.Trouble != "" || s.Waiting != 0 {
			t.Errorf("status %+v", s)
		}
		b.says("can be written again", 1)
		b.end(l)
	})
}

// A run whose end could not be written is run again as its task says, and its task is not held up for ever.
func TestNoRoomForTheEnd(t *testing.T) {
	for _, c := range []struct {
		outcome daemon.Outcome
		retries int
		want    []string // once there is room again, and until it is due once more
		next    string
	}{
		{daemon.Good, 1, nil, "app/backup 01-01T00:20 1"},
		{daemon.Failed, 1, []string{"app/backup 01-01T00:10 2"}, "app/backup 01-01T00:20 1"},
		{daemon.Failed, 0, nil, "app/backup 01-01T00:20 1"},
		{daemon.Busy, 0, []string{"app/backup 01-01T00:10 2"}, "app/backup 01-01T00:20 1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newSmallBed(t)
			var free func()
			b.will(func(context.Context, daemon.Run) (daemon.Outcome, error) {
				if free == nil {
					free = b.full()
					return c.outcome, errors.New("because")
				}
				return daemon.Good, nil
			})
			task := every("app", holdfast.TaskBackup, interval)
			task.Retries = c.retries
			l := b.start(b.options(), task)
			want(t, b.wait(interval+5*time.Minute), "app/backup 01-01T00:10 1")
			free()
			want(t, b.wait(3*time.Minute), c.want...)
			want(t, b.wait(4*time.Minute), c.next)
			b.end(l)

			opt := b.options()
			opt.Interrupted = func(run daemon.Run) {
				t.Errorf("outcome %d: the next start found %s interrupted", c.outcome, run.Task.Name())
			}
			b.end(b.start(opt, task))
		})
	}
}
