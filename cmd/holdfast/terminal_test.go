package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const ctrlC = "\x03"

// terminal is a pseudo-terminal with a process on it.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	ended  chan error

	mu   sync.Mutex // guards said
	said bytes.Buffer
}

// onTerminal starts holdfast with a terminal as its input, output and standard error.
func (w workplace) onTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	return onTerminal(t, w.command(args...))
}

func onTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	x := &terminal{t: t, cmd: cmd, master: master, ended: make(chan error, 1)}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			x.mu.Lock()
			x.said.Write(buffer[:n])
			x.mu.Unlock()
			if err != nil { // the other side is closed
				x.ended <- x.cmd.Wait()
				return
			}
		}
	}()
	return x
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.said.String()
}

// answer waits for a question and types a line.
func (x *terminal) answer(question, line string) {
	x.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(x.text(), question); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("not asked: %s\n%s", question, x.text())
		}
	}
	if line != ctrlC {
		line += "\n"
	}
	if _, err := x.master.WriteString(line); err != nil {
		x.t.Fatal(err)
	}
}

// end waits for the process and requires its exit code.
func (x *terminal) end(code int) string {
	x.t.Helper()
	err := <-x.ended
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		x.t.Fatal(err)
	}
	if got := x.cmd.ProcessState.ExitCode(); got != code {
		x.t.Fatalf("exit code %d, want %d\n%s", got, code, x.text())
	}
	return x.text()
}

// TestPassphraseWithStockTools: age asks for the passphrase at a terminal, and nowhere else.
func TestPassphraseWithStockTools(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"zstd", "gzip", "none"} {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			w := newWorkplace(t)
			w.write(t, "data/a.txt", "one")
			const secret = "correct horse battery staple"
			if err := os.WriteFile(w.path("pass"), []byte(secret+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			config := w.write(t, "holdfast.yaml", fmt.Sprintf(`version: 1
keys: {pw: {passphrase: {file: %s}}}
stores: {main: {kind: local, path: %s}}
sources: {data: {kind: files, paths: [%s]}}
jobs: {files: {sources: [data], store: main, recipients: [pw], compression: %s}}
`, w.path("pass"), w.path("store"), w.path("data"), compression))
			w.good(t, "backup", "--config", config, "--create-store")
			suffix := map[string]string{"zstd": ".zst", "gzip": ".gz", "none": ""}[compression]
			sealed, err := filepath.Glob(w.path("store/data/files/*/data.tar" + suffix + ".age"))
			if err != nil || len(sealed) != 1 {
				t.Fatalf("stored: %q, %v", sealed, err)
			}
			opened := w.path("data.tar" + suffix)
			age := onTerminal(t, exec.Command("age", "-d", "-o", opened, sealed[0]))
			age.answer("Enter passphrase:", secret)
			age.end(0)
			list, err := exec.Command("tar", "-taf", opened).CombinedOutput()
			if err != nil || !strings.Contains(string(list), "data/a.txt") {
				t.Errorf("tar: %s, %v", list, err)
			}
		})
	}
}

// TestAtATerminal: what a person is asked for, and that a wrong word changes nothing.
func TestAtATerminal(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.write(t, "data/a.txt", "one")
	data, config := w.path("data"), w.path("holdfast.yaml")

	init := w.onTerminal(t, "init", "--config", config, "--job", "shop", "--identity-out", w.path("kit/identity.txt"))
	init.answer("folder that keeps the backups", w.path("store"))
	init.answer("a source (", "files:"+data)
	init.answer("a source (", "")
	if text := init.end(0); !strings.Contains(text, "must leave this host now") {
		t.Errorf("init does not say where the identity must go:\n%s", text)
	}
	backup := w.onTerminal(t, "backup", "shop", "--config", config).end(0)
	if !strings.Contains(backup, "committed") {
		t.Errorf("backup at a terminal:\n%s", backup)
	}
	id, _, _ := strings.Cut(strings.Split(w.good(t, "list", "--config", config).out, "\n")[1], " ")
	identity := w.path("kit/identity.txt")
	out := w.path("out")

	// Without an ID the backups are listed and one is asked for.
	restore := w.onTerminal(t, "restore", "--config", config, "--identity", identity, "--to", out)
	restore.answer("ID of the backup to restore:", id[:4])
	restore.answer("type RESTORE to go on:", "RESTORE")
	restore.end(0)
	restored := filepath.Join(out, data, "a.txt")
	if text, err := os.ReadFile(restored); err != nil || string(text) != "one" {
		t.Errorf("restored %q, %v", text, err)
	}

	other := w.path("other")
	for name, typed := range map[string]string{"another word": "restore", "nothing": ""} {
		restore := w.onTerminal(t, "restore", "--latest", "--config", config, "--identity", identity, "--to", other)
		restore.answer("type RESTORE to go on:", typed)
		if text := restore.end(2); !strings.Contains(text, "nothing was changed") {
			t.Errorf("%s: %s", name, text)
		}
	}
	none := w.onTerminal(t, "restore", "--config", config, "--identity", identity, "--to", other)
	none.answer("ID of the backup to restore:", "")
	none.end(2)
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target is there: %v", err)
	}

	// An overwrite asks for the name too.
	if err := os.WriteFile(restored, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := w.onTerminal(t, "restore", "--latest", "--config", config, "--identity", identity, "--to", out, "--overwrite")
	wrong.answer("type RESTORE to go on:", "RESTORE")
	wrong.answer("type the name of what is overwritten", "yes")
	wrong.end(2)
	if text, err := os.ReadFile(restored); err != nil || string(text) != "mine" {
		t.Errorf("after a refused overwrite: %q, %v", text, err)
	}
	right := w.onTerminal(t, "restore", "--latest", "--config", config, "--identity", identity, "--to", out, "--overwrite")
	right.answer("type RESTORE to go on:", "RESTORE")
	right.answer("type the name of what is overwritten", out)
	if text := right.end(0); !strings.Contains(text, "is kept as backup") {
		t.Errorf("no safety copy:\n%s", text)
	}
	if text, err := os.ReadFile(restored); err != nil || string(text) != "one" {
		t.Errorf("after the overwrite: %q, %v", text, err)
	}

	// Ctrl-C at the question.
	interrupted := w.onTerminal(t, "restore", "--latest", "--config", config, "--identity", identity, "--to", other)
	interrupted.answer("type RESTORE to go on:", ctrlC)
	interrupted.end(130)
	if _, err := os.Stat(other); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target is there after Ctrl-C: %v", err)
	}
}
