package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"holdfast/internal/sample"
	"holdfast/internal/testbed"
)

// patience bounds a wait for what must come; the machine may be busy.
const patience = 2 * time.Minute

type worldKey struct{}

// world is what one story started.
type world struct {
	t         testing.TB
	servers   map[string]*server
	engine    *testbed.Engine // nil: none was started
	signalled *exec.Cmd       // the background command that got the last signal
}

type server struct {
	*testbed.Server
	lock *pgx.Conn // holds a table
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func (w *world) server(ts *testscript.TestScript, name string) *server {
	s := w.servers[name]
	if s == nil {
		ts.Fatalf("no server %q was started", name)
	}
	return s
}

// commands are what the stories have beside testscript's own:
//
//	code N COMMAND ARG...        run it and require the exit code N
//	pgserver NAME MAJOR [tcp] [password=P] [locale=L] [user=U]
//	                             start a throwaway server; sets $NAME_HOST, $NAME_PORT and, over TCP, $NAME_TCP
//	pgstop NAME, pgkill NAME, pgstart NAME
//	pguse NAME                   point PGHOST, PGPORT and PGUSER at the server
//	pglock NAME DATABASE TABLE   lock a table against readers; pgunlock NAME lets it go
//	pgwait NAME DATABASE SQL     wait until the query's first value is true
//	sample NAME DATABASE DIR [SIZE]  make the sample application in a database, and its files in a folder
//	grab NAME                    set $NAME to what the last command printed
//	field NAME PATTERN FILE      set $NAME to the first group that matches in the file (stdout and stderr are files too)
//	only NAME GLOB               set $NAME to the one path that matches
//	count N GLOB                 require that N paths match
//	flip FILE OFFSET             flip one bit; a negative offset counts from the end
//	scribble FILE OFFSET         overwrite 64 bytes where they lie, as a failing disk does
//	cut FILE N                   take the last N bytes off
//	swap A B                     exchange two files
//	inventory DIR FILE           write down every file of a folder: mode, owner, times, size, target
//	tmpfs DIR SIZE, readonly DIR, unmount DIR
//	recovery DIR FILE DATABASE   make a shell script of the stock commands in DIR/RESTORE.txt
//	engine                       start a Docker Engine; sets $DOCKER_HOST and $HOLDFAST_ENGINE
//	pgcontainer NAME [ARG...]    start a container with PostgreSQL 17, without network; pgawait NAME waits for it again
//	alone NAME                   require that nothing but its server runs in a container
//	gnupg                        give gpg a key ring of its own, in $GNUPGHOME
//	clock TIME|now               set the time of day of what the story runs from then on
//	s3server NAME versitygw|minio start a server of S3; sets $NAME to its address, and AWS's variables
//	sshserver NAME [chroot]      start an SSH server; sets $NAME_PORT, _USER, _KEY, _OTHER_KEY, _HOSTS and _DIR
//	jsonlines FILE               require that every line is a JSON object
//	until FILE PATTERN           wait until the file matches
//	address NAME                 set $NAME to a host and port that nobody uses
//	appscript FILE DATABASE ADDRESS  make a script that starts and stops the application of webapp_test.go on it
//	reap PIDFILE                 end the process of the file, if there is one, after the story
//	signal INT|TERM|KILL         send a signal to the background command; ended N requires its exit code after wait
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, []string){
		"code": code, "pgserver": pgserver, "pgstop": pgstop, "pgkill": pgkill, "pgstart": pgstart, "pguse": pguse,
		"pglock": pglock, "pgunlock": pgunlock, "pgwait": pgwait, "sample": sampleApp, "grab": grab, "field": field,
		"only": only, "count": count, "flip": flip, "scribble": scribble, "cut": cut, "swap": swap, "inventory": inventory,
		"tmpfs": tmpfs, "readonly": readonly, "unmount": unmount, "recovery": recovery, "until": until, "jsonlines": jsonLines,
		"signal": sendSignal, "ended": ended, "address": address, "appscript": appScript, "reap": reap, "gnupg": gnupg,
		"clock": clock, "s3server": s3Server, "sshserver": sshServer, "engine": engine, "pgcontainer": pgContainer, "pgawait": pgAwait, "alone": alone,
	}
	wrapped := make(map[string]func(*testscript.TestScript, bool, []string), len(all))
	for name, run := range all {
		wrapped[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("%s cannot be negated", name)
			}
			run(ts, args)
		}
	}
	return wrapped
}

// want requires a number of arguments.
func want(ts *testscript.TestScript, args []string, least, most int, usage string) {
	if len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", usage)
	}
}

func number(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}

func code(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 1000, "code N COMMAND ARG...")
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != number(ts, args[0]) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func pgserver(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 5, "pgserver NAME MAJOR [tcp] [password=P] [locale=L] [user=U]")
	opt := testbed.ServerOptions{}
	for _, arg := range args[2:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "tcp":
			opt.TCP = true
		case "password":
			opt.Password = value
		case "locale":
			opt.Locale = value
		case "user":
			opt.SuperUser = value
		default:
			ts.Fatalf("unknown option %q", arg)
		}
	}
	w := worldOf(ts)
	name := args[0]
	s := testbed.Postgres(w.t, number(ts, args[1]), opt)
	w.servers[name] = &server{Server: s}
	ts.Setenv(name+"_HOST", s.Socket)
	ts.Setenv(name+"_PORT", strconv.Itoa(s.Port))
	ts.Setenv(name+"_BIN", testbed.BinDir(w.t, s.Major))
	ts.Setenv(name+"_DATA", s.Data)
	ts.Setenv(name+"_CLIENT", testbed.ClientDir(w.t, s.Major))
	if opt.TCP || opt.Password != "" {
		ts.Setenv(name+"_TCP", fmt.Sprintf("127.0.0.1:%d", s.Port))
	}
	pguse(ts, args[:1])
}

func pguse(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "pguse NAME")
	s := worldOf(ts).server(ts, args[0])
	ts.Setenv("PGHOST", s.Socket)
	ts.Setenv("PGPORT", strconv.Itoa(s.Port))
	ts.Setenv("PGUSER", s.User)
}

func pgstop(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "pgstop NAME")
	w := worldOf(ts)
	w.server(ts, args[0]).Stop(w.t)
}

func pgkill(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "pgkill NAME")
	w := worldOf(ts)
	w.server(ts, args[0]).Kill(w.t)
}

func pgstart(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "pgstart NAME")
	w := worldOf(ts)
	w.server(ts, args[0]).Start(w.t)
}

func pglock(ts *testscript.TestScript, args []string) {
	want(ts, args, 3, 3, "pglock NAME DATABASE TABLE")
	w := worldOf(ts)
	s := w.server(ts, args[0])
	s.lock = s.Connect(w.t, args[1])
	_, err := s.lock.Exec(w.t.Context(), "BEGIN; LOCK TABLE "+args[2]+" IN ACCESS EXCLUSIVE MODE")
	ts.Check(err)
}

func pgunlock(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "pgunlock NAME")
	w := worldOf(ts)
	ts.Check(w.server(ts, args[0]).lock.Close(w.t.Context()))
}

func pgwait(ts *testscript.TestScript, args []string) {
	want(ts, args, 3, 3, "pgwait NAME DATABASE SQL")
	w := worldOf(ts)
	s := w.server(ts, args[0])
	await(ts, args[2], func() bool { return s.Value(w.t, args[1], args[2]) == "t" })
}

func await(ts *testscript.TestScript, what string, done func() bool) {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("this did not come: %s", what)
		}
	}
}

func sampleApp(ts *testscript.TestScript, args []string) {
	want(ts, args, 3, 4, "sample NAME DATABASE DIR [SIZE]")
	opt := sample.Options{Size: 1_000_000, Seed: 1}
	if len(args) == 4 {
		size, err := sample.ParseSize(args[3])
		ts.Check(err)
		opt.Size = size
	}
	dir := ts.MkAbs(args[2])
	ts.Check(sample.CreateDatabase(context.Background(), worldOf(ts).server(ts, args[0]).URL(args[1]), opt))
	ts.Check(sample.CreateFiles(dir, opt))
	ts.Check(os.Mkdir(filepath.Join(dir, "db"), 0o755))
	ts.Check(sample.CreateSQLite(filepath.Join(dir, "db", "auth.db"), opt))
}

func grab(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "grab NAME")
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func field(ts *testscript.TestScript, args []string) {
	want(ts, args, 3, 3, "field NAME PATTERN FILE")
	match := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile(args[2]))
	if len(match) != 2 {
		ts.Fatalf("%s does not match %s with one group", args[2], args[1])
	}
	ts.Setenv(args[0], match[1])
}

func glob(ts *testscript.TestScript, pattern string) []string {
	found, err := filepath.Glob(ts.MkAbs(pattern))
	ts.Check(err)
	return found
}

func only(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "only NAME GLOB")
	ts.Setenv(args[0], one(ts, args[1]))
}

func one(ts *testscript.TestScript, pattern string) string {
	found := glob(ts, pattern)
	if len(found) != 1 {
		ts.Fatalf("%d paths match %s: %q", len(found), pattern, found)
	}
	return found[0]
}

func count(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "count N GLOB")
	if found := glob(ts, args[1]); len(found) != number(ts, args[0]) {
		ts.Fatalf("%d paths match %s, want %s: %q", len(found), args[1], args[0], found)
	}
}

// writable lets a test do to a stored object what a disk or an attacker does.
func rewrite(ts *testscript.TestScript, path string, change func([]byte) []byte) {
	info, err := os.Stat(path)
	ts.Check(err)
	data, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.Remove(path))
	ts.Check(os.WriteFile(path, change(data), info.Mode().Perm()))
}

func flip(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "flip FILE OFFSET")
	offset := number(ts, args[1])
	rewrite(ts, one(ts, args[0]), func(data []byte) []byte {
		if offset < 0 {
			offset += len(data)
		}
		data[offset] ^= 0x10
		return data
	})
}

func scribble(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "scribble FILE OFFSET")
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = file.WriteAt([]byte(strings.Repeat("scribble", 8)), int64(number(ts, args[1])))
	ts.Check(errors.Join(err, file.Close()))
}

func cut(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "cut FILE N")
	rewrite(ts, one(ts, args[0]), func(data []byte) []byte { return data[:len(data)-number(ts, args[1])] })
}

func swap(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "swap A B")
	a, b := one(ts, args[0]), one(ts, args[1])
	ts.Check(os.Rename(a, a+".swapped"))
	ts.Check(os.Rename(b, a))
	ts.Check(os.Rename(a+".swapped", b))
}

// inventory does not use what the product reads files with: the kernel's own words are compared.
func inventory(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "inventory DIR FILE")
	root := ts.MkAbs(args[0])
	var lines []string
	ts.Check(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%q mode %o owner %d:%d", name, stat.Mode, stat.Uid, stat.Gid)
		switch {
		case entry.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		case entry.Type().IsRegular():
			line += fmt.Sprintf(" size %d links %d", stat.Size, stat.Nlink)
		}
		lines = append(lines, fmt.Sprintf("%s time %d.%09d", line, stat.Mtim.Sec, stat.Mtim.Nsec))
		return nil
	}))
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

func tmpfs(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "tmpfs DIR SIZE")
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,size="+args[1]))
	ts.Defer(func() {
		// It may be unmounted already.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			ts.Logf("unmount %s: %v", dir, err)
		}
	})
}

func readonly(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "readonly DIR")
	ts.Check(unix.Mount("", ts.MkAbs(args[0]), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

func unmount(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "unmount DIR")
	ts.Check(unix.Unmount(ts.MkAbs(args[0]), 0))
}

// recovery takes the commands as they stand: only the three words that the reader is to fill in are replaced.
func recovery(ts *testscript.TestScript, args []string) {
	want(ts, args, 3, 3, "recovery DIR FILE DATABASE")
	text := ts.ReadFile(filepath.Join(args[0], "RESTORE.txt"))
	_, stock, found := strings.Cut(text, "With stock tools.")
	if !found {
		ts.Fatalf("RESTORE.txt has no commands:\n%s", text)
	}
	script := "set -eu\nset -o pipefail\n"
	for _, line := range strings.Split(stock, "\n")[1:] {
		if !strings.HasPrefix(line, "cat ") && !strings.HasPrefix(line, "sqlite3 ") {
			continue
		}
		line = strings.ReplaceAll(line, "DATABASE", args[2])
		if before, found := strings.CutSuffix(line, "-C DIR"); found {
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "cat "), ".")
			line = "mkdir out-" + name + "\n" + before + "-C out-" + name
		}
		script += line + "\n"
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(script), 0o600))
}

func jsonLines(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "jsonlines FILE")
	text := ts.ReadFile(args[0])
	if text == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for line := range strings.Lines(text) {
		var value map[string]any
		if err := json.Unmarshal([]byte(line), &value); err != nil {
			ts.Fatalf("%v in line %q", err, line)
		}
	}
}

func until(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "until FILE PATTERN")
	pattern := regexp.MustCompile("(?m)" + args[1])
	await(ts, args[1]+" in "+args[0], func() bool {
		// The file may not be there yet.
		data, _ := os.ReadFile(ts.MkAbs(args[0]))
		return pattern.Match(data)
	})
}

func sendSignal(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "signal INT|TERM|KILL")
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	running := ts.BackgroundCmds()
	if len(running) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("signal %s, with %d background commands", args[0], len(running))
	}
	w := worldOf(ts)
	w.signalled = running[0]
	ts.Check(w.signalled.Process.Signal(signals[args[0]]))
}

func ended(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "ended N")
	if got := worldOf(ts).signalled.ProcessState.ExitCode(); got != number(ts, args[0]) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// address is on a loopback network of its own, where no connection of other tests takes the port meanwhile.
func address(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "address NAME")
	ts.Setenv(args[0], fmt.Sprintf("127.%d.%d.%d:18080", 1+rand.IntN(250), rand.IntN(250), 2+rand.IntN(250)))
}

func appScript(ts *testscript.TestScript, args []string) {
	want(ts, args, 3, 3, "appscript FILE DATABASE ADDRESS")
	program, err := exec.LookPath("webapp")
	ts.Check(err)
	path, pidFile := ts.MkAbs(args[0]), ts.MkAbs(args[0]+".pid")
	text := fmt.Sprintf(`#!/bin/sh
set -eu
pidfile=%s
case $1 in
start)
	[ ! -e $pidfile ] || { echo "it runs already" >&2; exit 1; }
	setsid %s %s %s $pidfile </dev/null >>$pidfile.log 2>&1 &
	while [ ! -e $pidfile ]; do kill -0 $! || { cat $pidfile.log >&2; exit 1; }; sleep 0.05; done
	echo "started" ;;
stop)
	[ -e $pidfile ] || { echo "it does not run" >&2; exit 1; }
	kill $(cat $pidfile)
	while [ -e $pidfile ]; do sleep 0.05; done
	echo "stopped" ;;
esac
`, pidFile, program, ts.MkAbs(args[1]), args[2])
	ts.Check(os.WriteFile(path, []byte(text), 0o755))
	reap(ts, []string{pidFile})
}

func reap(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "reap PIDFILE")
	file := ts.MkAbs(args[0])
	ts.Defer(func() {
		text, err := os.ReadFile(file)
		if err != nil {
			return // it was stopped, and took the file with it
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			// It may just have ended. An application ends its own children at SIGTERM.
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	})
}
