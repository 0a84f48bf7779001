package rsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/store"
)

// version is that of the rsync on this host.
type version struct{ major, minor, patch int }

func (v version) atLeast(w version) bool {
	return slices.Compare([]int{v.major, v.minor, v.patch}, []int{w.major, w.minor, w.patch}) >= 0
}

var versionLine = regexp.MustCompile(`^rsync +version v?(\d+)\.(\d+)\.(\d+)`)

// findProgram looks for rsync and asks for its version.
func (d *Driver) findProgram(ctx context.Context) error {
	const install = "install rsync 3.1 or newer, and ssh, on this host"
	// Not exec.LookPath: the environment of the programs is not that of this process.
	d.program = d.opt.Program
	if !strings.Contains(d.program, "/") {
		for _, variable := range d.opt.Env {
			folders, ok := strings.CutPrefix(variable, "PATH=")
			if !ok {
				continue
			}
			for _, folder := range filepath.SplitList(folders) {
				if found, err := exec.LookPath(filepath.Join(folder, d.opt.Program)); err == nil && filepath.IsAbs(found) {
					d.program = found
					break
				}
			}
		}
	}
	cmd := exec.CommandContext(ctx, d.program, "--version")
	cmd.Env = d.opt.Env
	out, err := cmd.Output()
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("run %s: %w: %w", d.opt.Program, holdfast.ErrUsage, errors.Join(ctx.Err(), err)), install)
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return holdfast.WithHint(fmt.Errorf("%w: %s is no rsync that is known here: %.60q", holdfast.ErrUsage, d.program, out), install)
	}
	for i, part := range []*int{&d.version.major, &d.version.minor, &d.version.patch} {
		*part, _ = strconv.Atoi(string(match[i+1])) // digits alone
	}
	if !d.version.atLeast(version{3, 1, 0}) {
		return holdfast.WithHint(fmt.Errorf("%w: %s is too old: %.40q", holdfast.ErrUsage, d.program, out), install)
	}
	return nil
}

// command prepares one run of rsync. Nothing of the caller's environment leads it elsewhere.
func (d *Driver) command(ctx context.Context, stall time.Duration, args ...string) *exec.Cmd {
	all := []string{"-e", "ssh -F '" + filepath.Join(d.dir, sshConfigName) + "'"}
	if stall > 0 {
		all = append(all, "--timeout="+strconv.Itoa(seconds(stall)))
	}
	if d.opt.Bandwidth > 0 {
		all = append(all, "--bwlimit="+strconv.FormatInt(max(1, d.opt.Bandwidth/1024), 10)) // in units of 1024 bytes
	}
	cmd := exec.CommandContext(ctx, d.program, append(all, args...)...)
	cmd.Env = append(slices.Clone(d.opt.Env), "LC_ALL=C", "TZ=UTC")
	cmd.Dir = d.dir
	// With ssh in one group, so that both end; rsync then tells the far side, which removes its temporary file.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs rsync with names, separated by NULs, on its standard input, and returns what it prints.
func (d *Driver) run(ctx context.Context, names []string, args ...string) ([]byte, error) {
	return d.runWithin(ctx, d.opt.Stall, names, args...)
}

func (d *Driver) runWithin(ctx context.Context, stall time.Duration, names []string, args ...string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cmd := d.command(ctx, stall, args...)
	// One run at a time: rrsync refuses a second one.
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if names != nil {
		cmd.Stdin = strings.NewReader(strings.Join(names, "\x00") + "\x00")
	}
	var out bytes.Buffer
	said := &tail{}
	cmd.Stdout, cmd.Stderr = &out, said
	err := cmd.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	if cut := ctx.Err(); cut != nil {
		return nil, errors.Join(cut, fmt.Errorf("run rsync: %w", err))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return nil, fmt.Errorf("run rsync: %w", err)
	}
	return out.Bytes(), diagnose(exit.ExitCode(), said.String(), d.opt)
}

// tail keeps the end of what a program says.
type tail struct{ text []byte }

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = t.text[extra:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.text) }

// said is one sentence of ssh's or rsync's, with what it means.
type said struct {
	text string
	is   error // nil: may be tried again
	what string
	hint string
}

// sentences are looked for in this order: what says more comes before what is part of it, or is said beside it. The text comes
// from the C library and from the programs, in the language that LC_ALL=C gives.
var sentences = []said{
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", fs.ErrPermission, "the server's key is not the one that known_hosts has",
		"somebody may stand between, or the server was set up anew: ask its owner for the fingerprint before you change known_hosts"},
	{"Host key verification failed", fs.ErrPermission, "the server's key is not in known_hosts",
		"run ssh-keyscan -p PORT HOST, compare the fingerprint (ssh-keygen -lf -) with what the server's owner tells you, and add the line to the file of known_hosts:"},
	{"UNPROTECTED PRIVATE KEY FILE", fs.ErrPermission, "the key file can be read by others, so that ssh does not use it", "run chmod 600 on the key file"},
	{"Permission denied (13)", fs.ErrPermission, "the login may not do that at the far side", "have the folder of the mirror belong to that user"},
	{"Permission denied (", fs.ErrPermission, "the login is refused",
		"add the public key to the authorized_keys of that user on the server, and check user: and key_file:"},
	{"No space left on device", store.ErrFull, "no room at the far side",
		"make room in the mirror: a larger disk or quota, or a shorter retention and `holdfast prune`"},
	{"Disk quota exceeded", store.ErrFull, "the quota at the far side is used up", "have the quota raised, or shorten the retention"},
	{"Read-only file system", store.ErrReadOnly, "the disk at the far side takes no writes",
		"have the filesystem at the far side mounted read-write; a kernel makes it read-only after a disk error, so look there first"},
	{"Operation not permitted (1)", fs.ErrPermission, "the login may not do that at the far side", "have the folder of the mirror belong to that user"},
	{"sending to write-only server not allowed", fs.ErrPermission, "the server is for writing alone", "allow that login to read at the server (rrsync without -wo)"},
	{"read-only server", fs.ErrPermission, "the server is for reading alone", "allow that login to write at the server (rrsync without -ro)"},
	{"No such file or directory (2)", fs.ErrNotExist, "it is not there", ""},
	{"Not a directory (20)", fs.ErrNotExist, "part of the name is a file at the far side", ""},
	{"post-realpath open failed", fs.ErrNotExist, "it is not there", ""}, // of rrsync
	{"command not found", holdfast.ErrUsage, "the server has no rsync", "have rsync installed on the server, or use kind: sftp"},
	{"rsync: not found", holdfast.ErrUsage, "the server has no rsync", "have rsync installed on the server, or use kind: sftp"},
	{"is your shell clean", holdfast.ErrUsage, "the server says something else than rsync's protocol",
		"have the login print nothing (its shell's profile), and allow it to run rsync"},
	{"Another instance of rrsync is already accessing this directory", nil, "another run is at that folder", "let it end, or have the server run rrsync -no-lock"},
	{"Could not resolve hostname", nil, "the name of the host is not known", "check host:"},
}

// refusesOption is what an rsync says that does not know an argument, and what rrsync says to one that it does not allow.
var refusesOption = regexp.MustCompile(`(?i)unknown option|invalid rsync-command syntax|has been disabled on this server`)

// statuses are rsync's exit statuses (rsync(1), EXIT VALUES) and that of ssh.
var statuses = map[int]string{
	1: "it does not take the arguments", 2: "the two rsyncs do not understand each other", 3: "it cannot choose the files",
	4: "the far side lacks something that is needed", 5: "the far side does not start", 10: "the connection failed", 11: "reading or writing a file failed",
	12: "the connection broke", 13: "the two rsyncs fell out", 14: "a process failed", 20: "it was interrupted", 22: "memory ran out",
	23: "not everything was transferred", 24: "a file vanished meanwhile", 25: "it was told to delete too much", 30: "nothing moved for too long",
	35: "nothing answered for too long", 127: "a program is missing", 255: "ssh did not connect",
}

// optionError is a far side that does not take an argument.
type optionError struct{ error }

// diagnose makes a sentence of an exit status and of what was said. An error that is none of the sentinels may be tried again.
func diagnose(status int, text string, opt Options) error {
	text = printable(text)
	what := statuses[status]
	if what == "" {
		what = "it ended with status " + strconv.Itoa(status)
	}
	for _, sentence := range sentences {
		if !strings.Contains(text, sentence.text) {
			continue
		}
		err := fmt.Errorf("rsync: %s (status %d): %s", sentence.what, status, text)
		if sentence.is != nil {
			err = fmt.Errorf("rsync: %s (status %d): %w: %s", sentence.what, status, sentence.is, text)
		}
		hint := strings.NewReplacer("PORT", strconv.Itoa(opt.Port), "HOST", opt.Host).Replace(sentence.hint)
		if hint == "" {
			return err
		}
		return holdfast.WithHint(err, hint)
	}
	err := fmt.Errorf("rsync: %s (status %d): %s", what, status, text)
	if refusesOption.MatchString(text) {
		return optionError{err}
	}
	return err
}

// printable is text on one line, without what moves a terminal's cursor.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r < ' ', r == 0x7f, r == 0xfffd, r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, text)
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.Trim(line, "\n @"); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
