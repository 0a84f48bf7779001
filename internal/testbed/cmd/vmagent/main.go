// Command vmagent runs inside a test's virtual machine and starts programs there, as the test says over a serial port. What they
// write goes back as it comes.
//
// It is no shell: a program is an argument vector. It ends when the port fails, and the machine with it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/testbed/vmwire"
)

// searchPath is where programs are looked for, by the agent and by what it starts.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func main() {
	fmt.Fprintln(os.Stderr, "vmagent:", run())
	os.Exit(1)
}

// run serves until something fails.
func run() error {
	if err := os.Setenv("PATH", searchPath); err != nil {
		return err
	}
	port, err := open()
	if err != nil {
		return err
	}
	a := &agent{link: vmwire.New(port), running: map[uint32]*os.Process{}}
	if err := a.link.Send(vmwire.Message{Kind: vmwire.Hello}); err != nil {
		return err
	}
	for {
		m, err := a.link.Receive()
		if err != nil {
			return err
		}
		switch m.Kind {
		case vmwire.Start:
			a.start(m)
		case vmwire.Signal:
			a.signal(m)
		}
	}
}

// open finds the port by its name: without udev, nothing has made links.
func open() (*os.File, error) {
	ports, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, name := range ports {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(text)) == vmwire.Port {
			return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("no serial port %s: %w", vmwire.Port, fs.ErrNotExist)
}

type agent struct {
	link *vmwire.Link

	mu      sync.Mutex // guards running
	running map[uint32]*os.Process
}

// start starts a program before the next message is looked at, which may be a signal for it.
func (a *agent) start(m vmwire.Message) {
	p, err := a.command(m)
	if err != nil {
		a.exited(m.Program, -1, err)
		return
	}
	a.mu.Lock()
	a.running[m.Program] = p.cmd.Process
	a.mu.Unlock()
	go func() {
		status, err := p.wait()
		a.mu.Lock()
		delete(a.running, m.Program)
		a.mu.Unlock()
		a.exited(m.Program, status, err)
	}()
}

// exited tells the end of a program. A link that fails ends the agent, where it receives.
func (a *agent) exited(number uint32, status int, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	_ = a.link.Send(vmwire.Message{Kind: vmwire.Exit, Program: number, Status: status, Reason: reason})
}

// program is one that runs.
type program struct {
	cmd    *exec.Cmd
	pipe   *os.File // what it writes
	output output
}

func (a *agent) command(m vmwire.Message) (*program, error) {
	cmd := exec.Command(m.Args[0], m.Args[1:]...)
	cmd.Env = append([]string{"PATH=" + searchPath, "HOME=/root", "LC_ALL=C.UTF-8", "TZ=UTC"}, m.Environ...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if len(m.Input) > 0 {
		cmd.Stdin = bytes.NewReader(m.Input)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &program{cmd, r, output{a.link, m.Program}}, nil
}

// wait waits for a program, and for all that it wrote to be sent.
func (p *program) wait() (status int, err error) {
	defer p.pipe.Close() // it was read to its end
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(p.output, p.pipe)
		copied <- err
	}()
	ended := p.cmd.Wait()

	// A server that it left behind keeps the pipe open: what counts is what was written until now.
	if err := p.pipe.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return -1, err
	}
	if err := <-copied; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return -1, err
	}
	if err := drain(p.pipe, p.output); err != nil {
		return -1, err
	}
	if exit := (*exec.ExitError)(nil); errors.As(ended, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if ended != nil {
		return -1, ended
	}
	return 0, nil
}

// drain copies what is in a pipe, and waits for no more.
func drain(r *os.File, w io.Writer) error {
	if err := r.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	raw, err := r.SyscallConn()
	if err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, failed = syscall.Read(int(fd), buffer)
			return true // even if nothing is there
		})
		switch {
		case err != nil:
			return err
		case errors.Is(failed, syscall.EINTR):
		case errors.Is(failed, syscall.EAGAIN) || failed == nil && n == 0:
			return nil
		case failed != nil:
			return failed
		default:
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
		}
	}
}

// signal reaches a program that runs; one that has ended needs none.
func (a *agent) signal(m vmwire.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	process := a.running[m.Program]
	if process == nil {
		return
	}
	if m.Group {
		_ = syscall.Kill(-process.Pid, syscall.Signal(m.Signal)) // it may be gone by now
		return
	}
	_ = process.Signal(syscall.Signal(m.Signal)) // as above
}

// output sends what is written to it.
type output struct {
	link    *vmwire.Link
	program uint32
}

func (o output) Write(p []byte) (int, error) {
	if err := o.link.Send(vmwire.Message{Kind: vmwire.Output, Program: o.program, Output: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}
