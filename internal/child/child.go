// Package child runs a program as a child process that is watched: it is told to end when its parent wants or dies, and ended when it hangs.
//
// It hides signals, process groups, and how a hanging process is told from one that is busy. Its laws: Run returns only when the child has
// ended; a child never outlives its parent; one that works is never ended, however long it takes and however silent it is: what counts is that
// it, or a process that it started, used the processor or moved bytes. It is not its job to know what the program prints.
package child

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Command is a program to run.
type Command struct {
	Path string // absolute
	Args []string
	Env  []string
	// Files are further descriptors of the child, from number 3 on.
	Files []*os.File
	// Line is called with each line that it prints on standard output, without its line break, one after another.
	Line func(line []byte)
	// Stall is how long it may show no sign of life; 0: for ever.
	Stall time.Duration
	// Look is how often signs of life are looked for; 0: every half minute, and at least ten times within Stall.
	Look time.Duration
	// Grace is how long it has to end after it was told to; 0: a minute.
	Grace time.Duration
}

// Ended is how a child ended.
type Ended struct {
	Exit   int            // -1 when a signal ended it
	Signal syscall.Signal // that ended it; 0: none did
	Errors string         // the end of what it printed on standard error
	Hung   bool           // it was ended because it showed no sign of life
}

const (
	// mostLine bounds a line; what is longer is told in pieces.
	mostLine = 1 << 20
	// leftBehind is how long the rest of what it printed is waited for.
	leftBehind = 2 * time.Second
	// mostErrors is how much of standard error is kept.
	mostErrors = 4 << 10
)

// Run runs the program until it ends. When ctx is cancelled it is told to end (SIGTERM), and killed after its grace. The error says that it
// could not be run or followed; how it ended is in Ended.
func Run(ctx context.Context, c Command) (Ended, error) {
	// The kernel sends the signal of a parent's death when the thread ends that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.ExtraFiles = c.Env, c.Files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	var stderr tail
	cmd.Stderr = &stderr
	cmd.WaitDelay = leftBehind
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Ended{}, fmt.Errorf("run %s: %w", c.Path, err)
	}
	if err := cmd.Start(); err != nil {
		return Ended{}, fmt.Errorf("run %s: %w", c.Path, err)
	}
	done, read := make(chan struct{}), make(chan struct{})
	var group errgroup.Group
	var life pulse
	group.Go(func() error {
		defer close(read)
		return follow(stdout, c.Line, &life)
	})
	hung := false
	group.Go(func() error {
		hung = c.guard(ctx, cmd.Process, &life, done)
		return nil
	})
	err = waitid(cmd.Process.Pid)
	close(done)
	// What it printed is read to its end. Whoever it left behind with the other end of the pipe is not waited for.
	timer := time.NewTimer(leftBehind)
	defer timer.Stop()
	select {
	case <-read:
	case <-timer.C:
	}
	waitErr := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) || errors.Is(waitErr, exec.ErrWaitDelay) {
		waitErr = nil
	}
	if err := errors.Join(err, waitErr, group.Wait()); err != nil {
		return Ended{}, fmt.Errorf("run %s: %w", c.Path, err)
	}
	ended := Ended{Exit: cmd.ProcessState.ExitCode(), Errors: stderr.String(), Hung: hung}
	if status, is := cmd.ProcessState.Sys().(syscall.WaitStatus); is && status.Signaled() {
		ended.Signal = status.Signal()
	}
	return ended, nil
}

// follow tells the lines of out.
func follow(out io.Reader, line func([]byte), life *pulse) error {
	r := bufio.NewReaderSize(out, mostLine)
	for {
		text, err := r.ReadSlice('\n')
		if len(text) > 0 {
			life.beat()
			if line != nil {
				line(bytes.TrimSuffix(text, []byte{'\n'}))
			}
		}
		switch {
		case err == io.EOF, errors.Is(err, os.ErrClosed):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read what it prints: %w", err)
		}
	}
}

// guard ends the child when it must, and reports whether that was because it hung.
func (c Command) guard(ctx context.Context, process *os.Process, life *pulse, done <-chan struct{}) (hung bool) {
	look := c.Look
	if look == 0 {
		look = 30 * time.Second
		if c.Stall > 0 {
			look = min(look, c.Stall/10)
		}
	}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var used uint64
	last := time.Now()
	for {
		select {
		case <-done:
			return hung
		case <-ctx.Done():
			c.end(process, done)
			return hung
		case <-ticker.C:
		}
		if c.Stall == 0 {
			continue
		}
		if now := usedBy(process.Pid); now != used || life.beaten() {
			used, last = now, time.Now()
		}
		if time.Since(last) >= c.Stall {
			c.end(process, done)
			return true
		}
	}
}

// end tells the child to end, and kills it and its group when it does not.
func (c Command) end(process *os.Process, done <-chan struct{}) {
	grace := c.Grace
	if grace == 0 {
		grace = time.Minute
	}
	_ = process.Signal(syscall.SIGTERM) // it may have ended meanwhile
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		_ = syscall.Kill(-process.Pid, syscall.SIGKILL)
		<-done
	}
}

// pulse is whether something was printed since it was last asked.
type pulse struct {
	mu   sync.Mutex // guards what follows
	told bool
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = true
}

func (p *pulse) beaten() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.told
	p.told = false
	return was
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex // guards what follows
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - mostErrors; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(t.text), ""))
}
