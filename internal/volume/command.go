package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"holdfast"
)

// searchPath is where programs are looked for, and the PATH that they get: who starts holdfast does not choose what root runs.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command is one program to run, without a shell.
type Command struct {
	Args    []string          // the program's name, and its arguments
	Secrets []holdfast.Secret // each can be read once, at the path that SecretPath says
	Input   []byte            // its standard input
	Line    func(string)      // is told each line of its standard output as it comes; Output has none of them then
}

// SecretPath is the argument by which a command's program finds its secret number i, from 0.
func SecretPath(i int) string { return fmt.Sprintf("/dev/fd/%d", 3+i) }

// Output is what came of a program that ran to its end.
type Output struct {
	Stdout, Stderr []byte
	Code           int // its exit status
}

// Runner runs a program to its end. An exit status other than 0 is in the output and no error; an error means that it could not be
// started, was ended by a signal, or by ctx.
type Runner func(ctx context.Context, c Command) (Output, error)

// patience is how long a program has to end after ctx has.
const patience = 30 * time.Second

// mostSecret is what fits into a pipe that nobody reads yet.
const mostSecret = 32 << 10

// run runs a command, and makes an exit status other than 0 an error that has what the program said.
func (h Host) run(ctx context.Context, c Command) (Output, error) {
	out, err := h.try(ctx, c)
	if err == nil && out.Code != 0 {
		err = out.failed(c)
	}
	return out, err
}

// try runs a command whose exit status says something.
func (h Host) try(ctx context.Context, c Command) (Output, error) {
	run := h.Run
	if run == nil {
		run = runProgram
	}
	out, err := run(ctx, c)
	switch {
	case ctx.Err() != nil && (err != nil || out.Code != 0):
		// Whatever it says about it, this is why it ended.
		return out, fmt.Errorf("%s: %w", c.name(), context.Cause(ctx))
	case err != nil:
		return out, fmt.Errorf("run %s: %w", c.name(), err)
	}
	return out, nil
}

// name is the program and, where it has one, its action; arguments may be long.
func (c Command) name() string {
	if len(c.Args) > 1 && !strings.HasPrefix(c.Args[1], "-") && c.Args[0] == "cryptsetup" {
		return c.Args[0] + " " + c.Args[1]
	}
	return c.Args[0]
}

// failed is the error of an exit status. What a program says holds no secret: cryptsetup and mkfs never print passphrases.
func (o Output) failed(c Command) error {
	said := strings.Join(strings.Fields(string(bytes.TrimSpace(o.Stderr))), " ")
	if said == "" {
		said = "it said nothing"
	}
	return fmt.Errorf("%s ended with exit status %d: %s", c.name(), o.Code, said)
}

func runProgram(ctx context.Context, c Command) (out Output, err error) {
	program, err := find(c.Args[0])
	if err != nil {
		return Output{}, err
	}
	cmd := exec.CommandContext(ctx, program, c.Args[1:]...)
	// cryptsetup's words are read, so they must be English.
	cmd.Env = []string{"PATH=" + searchPath, "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(c.Input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Line != nil {
		cmd.Stdout = &lines{tell: c.Line}
	}
	// cryptsetup ends a reencryption in order at this signal; what does not end by it is killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	defer func() {
		for _, f := range cmd.ExtraFiles {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, secret := range c.Secrets {
		text := secret.Reveal()
		if len(text) > mostSecret {
			return Output{}, fmt.Errorf("%w: a passphrase has at most %d bytes", holdfast.ErrUsage, mostSecret)
		}
		r, w, err := os.Pipe()
		if err != nil {
			return Output{}, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, r)
		_, err = w.WriteString(text)
		if err := errors.Join(err, w.Close()); err != nil {
			return Output{}, err
		}
	}
	err = cmd.Run()
	out = Output{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Code: cmd.ProcessState.ExitCode()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return out, nil
	}
	return out, err
}

// lines cuts what is written into lines.
type lines struct {
	tell func(string)
	rest []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		line, rest, ended := bytes.Cut(l.rest, []byte("\n"))
		if !ended {
			return len(b), nil
		}
		l.rest = rest
		l.tell(string(line))
	}
}

// find looks a program up in the fixed path.
func find(name string) (string, error) {
	for _, dir := range strings.Split(searchPath, ":") {
		path := dir + "/" + name
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", holdfast.WithHint(fmt.Errorf("%s is not installed", name), "install the package that has it: cryptsetup-bin, e2fsprogs, xfsprogs, mount, util-linux, systemd")
}
