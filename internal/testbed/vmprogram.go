package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/internal/testbed/vmwire"
)

// ErrVMOff is what a program ends with that ran when its machine went off.
var ErrVMOff = errors.New("the machine went off")

// VMCommand is a program to run in a machine, as root.
type VMCommand struct {
	Args  []string
	Env   []string // NAME=value, beside PATH, HOME, LC_ALL and TZ
	Stdin []byte   // all of its standard input
}

// VMProgram is a program that runs in a machine, or has run. Its methods may be called at once.
type VMProgram struct {
	session *session
	number  uint32

	mu     sync.Mutex // guards all below
	news   sync.Cond  // of any of it
	output []byte
	ended  bool
	status int
	err    error
}

// Start starts a program; any number may run at once. What goes wrong is told by Wait.
func (v *VM) Start(c VMCommand) *VMProgram { return v.now.start(c) }

// Run runs a program to its end, and returns what it wrote to standard output and standard error, and its exit status. It fails the
// test only if the program could not be started, was ended by a signal, or the machine went off.
func (v *VM) Run(t testing.TB, args ...string) (output string, exit int) {
	t.Helper()
	return v.run(t, VMCommand{Args: args})
}

func (v *VM) run(t testing.TB, c VMCommand) (string, int) {
	t.Helper()
	output, exit, err := v.Start(c).Wait()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(c.Args, " "), err, output, v.Console())
	}
	return output, exit
}

// Must runs a program as Run does, and fails the test if its exit status is not 0.
func (v *VM) Must(t testing.TB, args ...string) string {
	t.Helper()
	return v.must(t, VMCommand{Args: args})
}

func (v *VM) must(t testing.TB, c VMCommand) string {
	t.Helper()
	output, exit := v.run(t, c)
	if exit != 0 {
		t.Fatalf("%s: exit status %d\n%s", strings.Join(c.Args, " "), exit, output)
	}
	return output
}

// Put writes a file of root's there, and makes its folder if it is missing.
func (v *VM) Put(t testing.TB, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	v.must(t, VMCommand{Args: []string{"install", "-D", "-m", fmt.Sprintf("%04o", mode.Perm()), "/dev/stdin", path}, Stdin: data})
}

// Get reads a file there.
func (v *VM) Get(t testing.TB, path string) []byte {
	t.Helper()
	return []byte(v.Must(t, "cat", "--", path))
}

// Booted waits until systemd has started all that it is to start, and returns its word for how that went: running, or degraded if a
// unit failed.
func (v *VM) Booted(t testing.TB) string {
	t.Helper()
	output, _ := v.Run(t, "systemctl", "is-system-running", "--wait") // its status says no more than its word
	return strings.TrimSpace(output)
}

// Wait waits for a program's end. A status of -1 has an error: [ErrVMOff], or the words of the machine about a program that could not
// be started or was ended by a signal. Output is there in any case, as far as it came.
func (p *VMProgram) Wait() (output string, exit int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended {
		p.news.Wait()
	}
	return string(p.output), p.status, p.err
}

// Await waits until a program has written text, and fails the test if it ends without.
func (p *VMProgram) Await(t testing.TB, text string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !bytes.Contains(p.output, []byte(text)) {
		if p.ended {
			t.Fatalf("it ended (%d, %v) and never wrote %q:\n%s", p.status, p.err, text, p.output)
		}
		p.news.Wait()
	}
}

// Kill ends a program with SIGKILL and leaves what it started, as a crash of it would.
func (p *VMProgram) Kill() { p.signal(syscall.SIGKILL, false) }

// Signal sends a signal to a program and to what it started, as a terminal would.
func (p *VMProgram) Signal(signal syscall.Signal) { p.signal(signal, true) }

func (p *VMProgram) signal(signal syscall.Signal, group bool) {
	// A link that fails is a machine that goes off, and the program with it.
	_ = p.session.link.Send(vmwire.Message{Kind: vmwire.Signal, Program: p.number, Signal: int(signal), Group: group})
}

// session is one run of a machine, from power on to power off.
type session struct {
	cmd   *exec.Cmd
	conn  net.Conn
	link  *vmwire.Link
	ready chan struct{} // closed when the agent is there
	ended chan struct{} // closed when the machine is off, and every program has heard of it

	mu       sync.Mutex // guards all below; a program's comes after it
	off      bool
	last     uint32
	programs map[uint32]*VMProgram // those that run
}

func newSession(cmd *exec.Cmd, conn net.Conn) *session {
	s := &session{
		cmd: cmd, conn: conn, link: vmwire.New(conn), ready: make(chan struct{}), ended: make(chan struct{}), programs: map[uint32]*VMProgram{},
	}
	go s.serve()
	return s
}

// serve hands out what the agent says, until the machine is off.
func (s *session) serve() {
	defer close(s.ended)
	for {
		m, err := s.link.Receive()
		if err != nil {
			break // qemu is gone, or goes
		}
		if m.Kind == vmwire.Hello {
			close(s.ready)
			continue
		}
		s.mu.Lock()
		p := s.programs[m.Program]
		if m.Kind == vmwire.Exit {
			delete(s.programs, m.Program)
		}
		s.mu.Unlock()
		p.hear(m)
	}
	_ = s.conn.Close()       // nothing more can be said
	_ = s.cmd.Process.Kill() // it may have gone by itself
	_ = s.cmd.Wait()         // as above: how it went is on the console
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	for _, p := range s.programs {
		p.end(-1, ErrVMOff)
	}
}

// kill cuts the power.
func (s *session) kill() {
	_ = s.cmd.Process.Kill() // it may be off already
	<-s.ended
}

func (s *session) start(c VMCommand) *VMProgram {
	p := &VMProgram{session: s}
	p.news.L = &p.mu
	s.mu.Lock()
	if s.off {
		s.mu.Unlock()
		p.end(-1, ErrVMOff)
		return p
	}
	s.last++
	p.number = s.last
	s.programs[p.number] = p
	s.mu.Unlock()
	// A link that fails is a machine that goes off: all its programs hear of that.
	_ = s.link.Send(vmwire.Message{Kind: vmwire.Start, Program: p.number, Args: c.Args, Environ: c.Env, Input: c.Stdin})
	return p
}

func (p *VMProgram) hear(m vmwire.Message) {
	if m.Kind == vmwire.Exit {
		var err error
		if m.Reason != "" {
			err = errors.New(m.Reason)
		}
		p.end(m.Status, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output = append(p.output, m.Output...)
	p.news.Broadcast()
}

func (p *VMProgram) end(status int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.status, p.err = true, status, err
	p.news.Broadcast()
}
