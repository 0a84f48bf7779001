package hook_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/hook"
)

// patience bounds a wait for what must come; the machine may be busy.
const patience = 2 * time.Minute

func shell(script string) hook.Command {
	return hook.Command{Args: []string{"sh", "-c", script}, Timeout: patience}
}

func TestCommand(t *testing.T) {
	t.Setenv("HOLDFAST_PASSPHRASE", "of holdfast alone")
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tests := []struct {
		name   string
		step   hook.Command
		said   []string
		err    string
		hint   string
		nobody bool
	}{
		{name: "good and silent", step: hook.Command{Args: []string{"true"}}},
		{name: "both outputs in their order", step: shell("echo one; echo two >&2; echo three"), said: []string{"one", "two", "three"}},
		{name: "exit status", step: shell("echo why >&2; exit 5"), said: []string{"why"}, err: "ended with exit status 5"},
		{name: "signal", step: shell("kill -SEGV $$"), err: "was ended by signal 11 (segmentation fault)"},
		{name: "no shell", step: hook.Command{Args: []string{"echo", "$HOME; echo x", "", "*"}}, said: []string{"$HOME; echo x  *"}},
		{name: "no input", step: hook.Command{Args: []string{"cat"}}},
		{name: "its environment", step: hook.Command{Args: []string{"env"}, Env: []string{"A=b c"}}, said: []string{
			"A=b c", "HOME=" + self.HomeDir, "LANG=C.UTF-8", "LOGNAME=" + self.Username,
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PWD=/", "USER=" + self.Username,
		}},
		{name: "its folder", step: hook.Command{Args: []string{"/bin/pwd"}, Dir: dir}, said: []string{dir}},
		{name: "a folder that is not there", step: hook.Command{Args: []string{"true"}, Dir: dir + "/no"}, err: "cannot work in folder " + dir + "/no: no such file or directory", hint: "make the folder"},
		{name: "no such program", step: hook.Command{Args: []string{"no-such-program"}}, err: `there is no program "no-such-program" in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin, /bin`, hint: "install it"},
		{name: "no such path", step: hook.Command{Args: []string{dir + "/none"}}, err: "there is no " + dir + "/none", hint: "install it"},
		{name: "a folder", step: hook.Command{Args: []string{dir}}, err: dir + " is not a file", hint: "name a program"},
		{name: "no such user", step: hook.Command{Args: []string{"true"}, User: "no-such-user"}, err: `there is no user "no-such-user"`, hint: "make the user"},
		{name: "as another user", step: hook.Command{Args: []string{"id", "-un"}, User: "nobody"}, said: []string{"nobody"}},
		{name: "with that user's groups", step: hook.Command{Args: []string{"id", "-Gn"}, User: "nobody"}, said: []string{"nogroup"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			said, warned, err := hook.Do(t.Context(), test.step)
			if test.name == "its environment" {
				slices.Sort(said)
			}
			if !slices.Equal(said, test.said) {
				t.Errorf("said %q, want %q", said, test.said)
			}
			if len(warned) > 0 {
				t.Errorf("warned %q", warned)
			}
			want := test.err
			if test.hint != "" {
				want = "cannot be run: " + want
			}
			if (err == nil) != (test.err == "") || err != nil && err.Error() != want {
				t.Errorf("got %v, want %q", err, want)
			}
			if !strings.Contains(holdfast.Hint(err), test.hint) {
				t.Errorf("hint %q, want %q", holdfast.Hint(err), test.hint)
			}
			// What doctor asks is what a run does.
			if checked := test.step.Check(); test.hint != "" && (checked == nil || checked.Error() != test.err) {
				t.Errorf("the check says %v, want %q", checked, test.err)
			} else if test.hint == "" && checked != nil {
				t.Errorf("the check says %v", checked)
			}
		})
	}
}

// A program that somebody else can change is not run: they would become root.
func TestProgramOthersCanChange(t *testing.T) {
	safe := t.TempDir()
	for _, test := range []struct {
		name           string
		mode, folder   os.FileMode
		uid, gid       int
		as, want, hint string
	}{
		{name: "root's", mode: 0o755, folder: 0o755},
		{name: "root's, and root's group", mode: 0o775, folder: 0o775},
		{name: "anybody writes", mode: 0o757, folder: 0o755, want: "has mode 0757: others could change what runs", hint: "run: chmod go-w "},
		{name: "a group writes", mode: 0o775, folder: 0o755, gid: 65534, want: "has mode 0775: others could change what runs", hint: "run: chmod go-w "},
		{name: "another user's", mode: 0o755, folder: 0o755, uid: 65534, want: "belongs to user 65534, who could change what runs", hint: "run: chown root "},
		{name: "another user's, for that user", mode: 0o755, folder: 0o755, uid: 65534, as: "nobody"},
		{name: "in a folder anybody writes", mode: 0o755, folder: 0o777, want: "has mode 0777: others could change what runs", hint: "run: chmod go-w "},
		{name: "in a sticky folder", mode: 0o755, folder: 0o777 | os.ModeSticky},
		{name: "not executable", mode: 0o644, folder: 0o755, want: "is not executable", hint: "run: chmod +x "},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := filepath.Join(safe, strings.ReplaceAll(test.name, " ", "-"))
			path := filepath.Join(folder, "program")
			if err := errors.Join(os.Mkdir(folder, 0o755), os.Link("/bin/true", path)); err != nil {
				// Another file system than the programs'.
				text, readErr := os.ReadFile("/bin/true")
				if err := errors.Join(readErr, os.WriteFile(path, text, 0o755)); err != nil {
					t.Fatal(err)
				}
			} else {
				text, readErr := os.ReadFile(path)
				if err := errors.Join(readErr, os.Remove(path), os.WriteFile(path, text, 0o755)); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(os.Chmod(path, test.mode), os.Chown(path, test.uid, test.gid), os.Chmod(folder, test.folder)); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(folder, "link")
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{path, link} {
				err := hook.Command{Args: []string{name}, User: test.as}.Check()
				if (err == nil) != (test.want == "") || err != nil && !strings.HasSuffix(err.Error(), test.want) {
					t.Errorf("%s: got %v, want %q", name, err, test.want)
				}
				if !strings.HasPrefix(holdfast.Hint(err), test.hint) {
					t.Errorf("hint %q, want %q", holdfast.Hint(err), test.hint)
				}
			}
		})
	}
}

// gone waits until no process with the given ID is there, but for its entry.
func gone(t *testing.T, file string) {
	t.Helper()
	text := awaitFile(t, file)
	deadline := time.Now().Add(patience)
	for {
		state, err := os.ReadFile("/proc/" + text + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s still runs: %s", text, state)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// awaitFile waits until a file has a line, and returns it.
func awaitFile(t *testing.T, file string) string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		text, err := os.ReadFile(file)
		if err == nil && strings.HasSuffix(string(text), "\n") {
			return strings.TrimSpace(string(text))
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s was not written: %v", file, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestCommandThatHangs(t *testing.T) {
	dir := t.TempDir()
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		step := shell("echo waiting; exec sleep 3600")
		step.Timeout = 3 * time.Second
		said, _, err := hook.Do(t.Context(), step)
		if err == nil || err.Error() != "did not end within 3s, and was ended with all that it started in its group" || !slices.Equal(said, []string{"waiting"}) {
			t.Errorf("got %q, %v", said, err)
		}
	})
	t.Run("with children that do not want to end", func(t *testing.T) {
		t.Parallel()
		step := shell("trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > " + dir + "/child; while :; do sleep 1; done' & echo $$ > " + dir + "/parent; wait").WithGrace(50 * time.Millisecond)
		step.Timeout = 3 * time.Second
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		_, _, err := hook.Do(ctx, step)
		if err == nil || !strings.HasPrefix(err.Error(), "did not end within 3s") {
			t.Errorf("got %v", err)
		}
		gone(t, dir+"/parent")
		gone(t, dir+"/child")
	})
	t.Run("and ends cleanly at SIGTERM", func(t *testing.T) {
		t.Parallel()
		step := shell("trap 'echo cleaned; exit 0' TERM; echo $$ > " + dir + "/clean; while :; do sleep 0.01; done")
		step.Timeout = 3 * time.Second
		said, _, err := hook.Do(t.Context(), step)
		if err == nil || !slices.Contains(said, "cleaned") {
			t.Errorf("got %q, %v", said, err)
		}
	})
	t.Run("with a child outside of its group that holds the output", func(t *testing.T) {
		t.Parallel()
		step := shell("setsid sh -c 'echo $$ > " + dir + "/far; exec sleep 3600' & sleep 3600")
		step.Timeout = 3 * time.Second
		_, _, err := hook.Do(t.Context(), step)
		if err == nil {
			t.Error("it is good")
		}
		pid, err := strconv.Atoi(awaitFile(t, dir+"/far"))
		if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
			t.Errorf("the process outside of the group is gone: %v", err)
		}
	})
	t.Run("and is interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, _, err := hook.Do(ctx, shell("echo $$ > "+dir+"/interrupted; exec sleep 3600"))
			ended <- err
		}()
		awaitFile(t, dir+"/interrupted")
		cancel(holdfast.ErrInterrupted)
		if err := <-ended; !errors.Is(err, holdfast.ErrInterrupted) {
			t.Errorf("got %v", err)
		}
		gone(t, dir+"/interrupted")
	})
}

// What a good program leaves running goes on, is not waited for, and is told of when it holds the output.
func TestCommandThatForks(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, output string
		warns        bool
	}{
		{"silent", " >/dev/null 2>&1", false},
		{"holding the output", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(dir, test.name)
			step := shell(fmt.Sprintf("sh -c 'echo $$ > \"%s\"; exec sleep 3600'%s & while [ ! -s '%s' ]; do sleep 0.01; done; echo started", file, test.output, file))
			said, warned, err := hook.Do(t.Context(), step)
			if err != nil || !slices.Equal(said, []string{"started"}) {
				t.Errorf("got %q, %v", said, err)
			}
			if (len(warned) == 1) != test.warns || test.warns && !strings.Contains(warned[0], "left a program running that still holds its output") {
				t.Errorf("warned %q", warned)
			}
			pid, err := strconv.Atoi(awaitFile(t, file))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("what it started does not run on: %v", err)
			}
		})
	}
}

// Output without end is bounded, and what a program prints through another one is waited for.
func TestCommandOutput(t *testing.T) {
	step := shell("yes canary-6f1d0c55 | head -c 3000000; echo; echo last")
	said, _, err := hook.Do(t.Context(), step, secrets("canary-6f1d0c55")...)
	text := strings.Join(said, "\n")
	if err != nil || len(text) > 9000 || said[len(said)-1] != "last" || strings.Contains(text, "canary") || !strings.Contains(text, "bytes left out") {
		t.Errorf("got %d bytes ending with %q, %v", len(text), said[len(said)-1], err)
	}
	step = hook.Command{Args: []string{"bash", "-c", "exec > >(sleep 0.2; cat); echo through a pipe"}, Timeout: patience}
	said, warned, err := hook.Do(t.Context(), step)
	if err != nil || !slices.Equal(said, []string{"through a pipe"}) || len(warned) > 0 {
		t.Errorf("got %q, %q, %v", said, warned, err)
	}
}
