package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
)

// searchPath is where programs without a folder are looked for, and the PATH that they get. It is fixed: who starts
// holdfast does not choose what root runs.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const (
	// DefaultTimeout is how long a program may take when nothing else is said.
	DefaultTimeout = time.Minute
	// grace is how long a program has from SIGTERM to SIGKILL.
	grace = 5 * time.Second
	// lag is how long the output of a program that has ended may still come, from what it piped it through.
	lag = time.Second
)

// Command is a step that runs a program, without a shell.
type Command struct {
	Args    []string      // the program, as an absolute path or a name to be found in the fixed path, and its arguments
	Dir     string        // working folder, absolute; "" is /
	Env     []string      // NAME=value; goes before everything else that the program gets
	User    string        // whom to run it as, which takes root; "" is the user that runs holdfast
	Timeout time.Duration // 0: DefaultTimeout

	grace time.Duration // of tests; 0: the constant
}

func (c Command) String() string { return strings.Join(c.Args, " ") }

// Check tells what would keep the program from being run, or make it dangerous to: it must be there, executable, and
// not to be changed by others than root and the user that it runs as.
func (c Command) Check() error {
	_, _, err := c.look()
	return err
}

// look finds out whom to run as, and what.
func (c Command) look() (account, string, error) {
	who, err := c.account()
	if err != nil {
		return who, "", err
	}
	path, err := program(c.Args[0], who.uid)
	if err != nil {
		return who, "", err
	}
	return who, path, c.checkDir()
}

func (c Command) checkDir() error {
	if c.Dir == "" {
		return nil
	}
	info, err := os.Stat(c.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is no folder")
	}
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("cannot work in folder %s: %w", c.Dir, cause(err)), "make the folder, or name another in the hook")
	}
	return nil
}

// Run runs the program by itself, around nothing. What it printed, masked and cut, is returned, and is part of the error too.
func (c Command) Run(ctx context.Context, mask *Mask) ([]string, error) {
	var warned []string
	said, err := c.do(ctx, world{mask: mask, warn: func(message string) { warned = append(warned, message) }})
	if err != nil {
		err = fmt.Errorf("%s %w", c, err)
		if len(said) > 0 {
			err = fmt.Errorf("%w: %s", err, said[len(said)-1])
		}
	}
	return append(said, warned...), err
}

// account is a user that programs run as.
type account struct {
	name, home string
	uid, gid   int
	groups     []uint32
	other      bool // not the user that runs holdfast
}

func (c Command) account() (account, error) {
	if c.User == "" {
		self := account{uid: os.Geteuid(), gid: os.Getegid(), name: strconv.Itoa(os.Geteuid()), home: "/"}
		// A user without an entry is one all the same, as in a container.
		if entry, err := user.LookupId(self.name); err == nil {
			self.name, self.home = entry.Username, entry.HomeDir
		}
		return self, nil
	}
	entry, err := user.Lookup(c.User)
	if err != nil {
		return account{}, holdfast.WithHint(fmt.Errorf("there is no user %q", c.User), "make the user, or name another in the hook")
	}
	who := account{name: entry.Username, home: entry.HomeDir}
	if who.uid, err = strconv.Atoi(entry.Uid); err == nil {
		who.gid, err = strconv.Atoi(entry.Gid)
	}
	if err != nil {
		return account{}, fmt.Errorf("look up user %s: %w", c.User, err)
	}
	if who.uid == os.Geteuid() {
		return who, nil
	}
	if os.Geteuid() != 0 {
		return account{}, holdfast.WithHint(fmt.Errorf("only root can run a program as user %s", c.User), "run holdfast as root, or take the user out of the hook")
	}
	who.other = true
	groups, err := entry.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("look up the groups of user %s: %w", c.User, err)
	}
	for _, group := range groups {
		id, err := strconv.ParseUint(group, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("look up the groups of user %s: %w", c.User, err)
		}
		who.groups = append(who.groups, uint32(id))
	}
	return who, nil
}

// do runs the program to its end, or to the end of its time. What it printed is masked and cut.
func (c Command) do(ctx context.Context, w world) ([]string, error) {
	who, path, err := c.look()
	if err != nil {
		return nil, fmt.Errorf("cannot be run: %w", err)
	}
	limit := c.Timeout
	if limit == 0 {
		limit = DefaultTimeout
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	cmd := exec.Command(path, c.Args[1:]...)
	cmd.Args[0] = c.Args[0]
	if cmd.Dir = c.Dir; cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = slices.Concat([]string{
		"PATH=" + searchPath, "HOME=" + who.home, "USER=" + who.name, "LOGNAME=" + who.name, "LANG=C.UTF-8", "PWD=" + cmd.Dir,
	}, c.Env, w.env)
	// A group of its own is ended as a whole, and keeps the terminal's Ctrl-C from it: the run decides how to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if who.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid), Groups: who.groups}
	}
	out, err := newOutput(w.mask)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = out.write, out.write
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot be run: %w", cause(err)), out.close())
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	out.begin()

	var ended error
	select {
	case ended = <-exited:
	case <-timed.Done():
		c.end(cmd.Process.Pid, exited)
		if ended = context.Cause(ctx); ended == nil {
			ended = fmt.Errorf("did not end within %s, and was ended with all that it started in its group", limit)
		}
	}
	held, err := out.end()
	if held && ended == nil {
		w.warn(c.String() + " left a program running that still holds its output; what that prints is lost from now on, and may end it: let systemd start it, or send its output to a file")
	}
	return out.kept.lines(), errors.Join(exitSentence(ended), err)
}

// end ends a process group: SIGTERM, and SIGKILL for what is left of it after the grace. exited tells that its leader ended.
func (c Command) end(group int, exited <-chan error) {
	patience := grace
	if c.grace != 0 {
		patience = c.grace
	}
	// The group may be gone by now, which is what is wanted.
	_ = unix.Kill(-group, unix.SIGTERM)
	over := time.After(patience)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	leader := exited
	for waiting := true; waiting; {
		select {
		case <-leader:
			leader = nil
		case <-again.C:
			waiting = unix.Kill(-group, 0) == nil
		case <-over:
			waiting = false
		}
	}
	_ = unix.Kill(-group, unix.SIGKILL)
	if leader != nil {
		<-leader
	}
}

// exitSentence says how a program ended, in words.
func exitSentence(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Errorf("was ended by signal %d (%s)", int(status.Signal()), status.Signal())
	}
	return fmt.Errorf("ended with exit status %d", exit.ExitCode())
}

// cause takes from an error of starting a program the parts that repeat what the step is called.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// output is a pipe that a program and what it starts write to, and what is kept of it.
type output struct {
	read, write *os.File
	kept        excerpt
	filter      *filter
	copied      chan error // how copying ended
}

func newOutput(mask *Mask) (*output, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	o := &output{read: read, write: write, copied: make(chan error, 1)}
	o.filter = mask.filter(&o.kept)
	return o, nil
}

func (o *output) close() error { return errors.Join(o.write.Close(), o.read.Close()) }

// begin copies until the pipe has no writer, or end is called.
func (o *output) begin() {
	closeErr := o.write.Close()
	go func() {
		_, err := io.Copy(o.filter, o.read)
		o.copied <- errors.Join(err, closeErr)
	}()
}

// end takes what was printed until now, and reports whether somebody still holds the other end.
func (o *output) end() (held bool, err error) {
	if err := o.read.SetReadDeadline(time.Now().Add(lag)); err != nil {
		return false, errors.Join(err, o.read.Close())
	}
	err = <-o.copied
	if held = errors.Is(err, os.ErrDeadlineExceeded); held {
		err = o.drain()
	}
	o.filter.flush()
	return held, errors.Join(err, o.read.Close())
}

// drain takes what lies in the pipe, without waiting for more.
func (o *output) drain() error {
	if err := o.read.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	raw, err := o.read.SyscallConn()
	if err != nil {
		return err
	}
	rest := make([]byte, 64<<10) // all that a pipe holds
	return raw.Read(func(fd uintptr) bool {
		if n, err := unix.Read(int(fd), rest); err == nil && n > 0 {
			_, _ = o.filter.Write(rest[:n])
		}
		return true
	})
}
