package child_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/child"
)

const roleVariable = "CHILD_TEST_ROLE"

// TestMain is also the child: what it does is said by its environment.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "prints":
		fmt.Println("one")
		fmt.Fprintln(os.Stderr, "on the other one")
		data, _ := io.ReadAll(os.NewFile(3, "given"))
		fmt.Printf("%s\n%s without an end", data, strings.Join(os.Args[1:], ","))
		os.Exit(7)
	case "hangs":
		fmt.Println("ready")
		forever()
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		forever()
	case "ends":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		<-c
		os.Exit(130)
	case "works": // silently, in a process that it started, for as long as it is let
		grandchild := exec.Command(os.Args[0])
		grandchild.Env = append(os.Environ(), roleVariable+"=spins")
		grandchild.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := grandchild.Start(); err != nil {
			os.Exit(1)
		}
		fmt.Println("ready")
		forever()
	case "spins":
		for n := 0; n >= 0; n++ {
		}
	case "parent": // of one that hangs, until it is killed
		c := command("hangs", func(line []byte) { fmt.Println(string(line)) })
		c.Files = []*os.File{os.Stdout} // which so ends when both are gone
		_, _ = child.Run(context.Background(), c)
	case "leaves": // somebody who holds both pipes
		left := exec.Command(os.Args[0])
		left.Env = append(os.Environ(), roleVariable+"=hangs")
		left.Stdout, left.Stderr = os.Stdout, os.Stderr
		if err := left.Start(); err != nil {
			os.Exit(1)
		}
		fmt.Println(left.Process.Pid)
	}
}

// forever waits as a program does that hangs. Without the handler of a signal the runtime would notice that nothing can wake it, and end it.
func forever() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	<-c
}

func command(role string, line func([]byte)) child.Command {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return child.Command{Path: program, Env: append(os.Environ(), roleVariable+"="+role), Line: line}
}

func TestWhatItPrints(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("given"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var lines []string
	c := command("prints", func(line []byte) { lines = append(lines, string(line)) })
	c.Args, c.Files = []string{"a b", "$c"}, []*os.File{r}
	ended, err := child.Run(t.Context(), c)
	if err != nil || ended.Exit != 7 || ended.Errors != "on the other one" || ended.Hung || ended.Signal != 0 {
		t.Errorf("ended %+v, %v", ended, err)
	}
	if want := []string{"one", "given", "a b,$c without an end"}; !slices.Equal(lines, want) {
		t.Errorf("lines %q, want %q", lines, want)
	}
}

func TestNoProgram(t *testing.T) {
	if _, err := child.Run(t.Context(), child.Command{Path: "/nowhere/at/all"}); err == nil || !strings.Contains(err.Error(), "/nowhere/at/all") {
		t.Errorf("error %v", err)
	}
}

// Once its end is wanted, a child may clean up; one that does not end is killed.
func TestCancel(t *testing.T) {
	for _, c := range []struct {
		role   string
		exit   int
		signal syscall.Signal
	}{{"ends", 130, 0}, {"hangs", -1, syscall.SIGTERM}, {"deaf", -1, syscall.SIGKILL}} {
		t.Run(c.role, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cmd := command(c.role, func([]byte) { cancel() })
			cmd.Grace = 300 * time.Millisecond
			if c.role == "ends" {
				cmd.Grace = time.Minute
			}
			ended, err := child.Run(ctx, cmd)
			if err != nil || ended.Exit != c.exit || ended.Signal != c.signal || ended.Hung {
				t.Errorf("ended %+v, %v", ended, err)
			}
		})
	}
}

func TestHang(t *testing.T) {
	cmd := command("hangs", nil)
	cmd.Stall, cmd.Look = 200*time.Millisecond, 20*time.Millisecond
	ended, err := child.Run(t.Context(), cmd)
	if err != nil || !ended.Hung || ended.Signal != syscall.SIGTERM {
		t.Errorf("ended %+v, %v", ended, err)
	}
}

// A child that prints nothing, whose own child uses the processor, is not one that hangs.
func TestSignsOfLife(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	grew := make(chan struct{})
	cmd := command("works", func([]byte) {
		go func() {
			defer close(grew)
			defer cancel()
			pid := childrenOf(t, os.Getpid())
			for first := child.UsedBy(pid); child.UsedBy(pid) == first && t.Context().Err() == nil; {
			}
		}()
	})
	if ended, err := child.Run(ctx, cmd); err != nil || ended.Signal != syscall.SIGTERM {
		t.Errorf("ended %+v, %v", ended, err)
	}
	<-grew

	ctx, cancel = context.WithCancel(t.Context())
	if _, err := child.Run(ctx, command("hangs", func([]byte) {
		defer cancel()
		pid := childrenOf(t, os.Getpid())
		if first, second := child.UsedBy(pid), child.UsedBy(pid); first == 0 || second < first {
			t.Errorf("one that hangs used %d and then %d", first, second)
		}
	})); err != nil {
		t.Error(err)
	}
}

// childrenOf is the newest process that has the parent.
func childrenOf(t *testing.T, parent int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	newest := 0
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				newest = max(newest, pid)
			}
		}
	}
	return newest
}

// Whoever dies takes its child along.
func TestParentKilled(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), roleVariable+"=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), "ready") {
		t.Fatalf("%q, %v", line[:n], err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The child holds the other end: the pipe ends when it is gone.
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
}

// A process that was left with the pipes keeps nobody waiting.
func TestLeftBehind(t *testing.T) {
	var pid int
	ended, err := child.Run(t.Context(), command("leaves", func(line []byte) {
		if n, err := strconv.Atoi(string(line)); err == nil {
			pid = n
		}
	}))
	if pid != 0 {
		defer syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil || ended.Exit != 0 || pid == 0 {
		t.Errorf("ended %+v, %v, left %d", ended, err, pid)
	}
}
