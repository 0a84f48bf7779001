package sandbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/sandbox"
)

const uid, gid = 54321, 54322

// TestMain lets the test binary be the sandboxed program too: roles tells what it does then.
func TestMain(m *testing.M) {
	sandbox.Child()
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			if err := role(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

var roles = map[string]func(args []string) error{
	"cat": func([]string) error {
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	},
	"read": func(args []string) error {
		content, err := os.ReadFile(args[0])
		os.Stdout.Write(content)
		return err
	},
	"write": func(args []string) error { return os.WriteFile(args[0], []byte("written"), 0o644) },
	"list": func(args []string) error {
		entries, err := os.ReadDir(args[0])
		for _, entry := range entries {
			fmt.Println(entry.Name())
		}
		return err
	},
	"links": func(args []string) error {
		names, err := filepath.Glob(filepath.Join(args[0], "*"))
		for _, name := range names {
			target, _ := os.Readlink(name)
			fmt.Println(target)
		}
		return err
	},
	"env": func([]string) error {
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return nil
	},
	"where": func([]string) error {
		dir, err := os.Getwd()
		fmt.Println(dir)
		return err
	},
	"dial": func(args []string) error {
		conn, err := net.DialTimeout(args[0], args[1], 5*time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	},
	"serve": func(args []string) error {
		listener, err := net.Listen("unix", args[0])
		if err != nil {
			return err
		}
		fmt.Println("ready")
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = io.Copy(conn, conn)
		return err
	},
	"exit": func(args []string) error {
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
		return nil
	},
	"mount": func(args []string) error { return unix.Mount("", args[0], "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	// hold locks args[0] for ever, and lets a child in a session of its own lock args[1].
	"hold": func(args []string) error {
		file, err := os.OpenFile(args[0], os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		if len(args) > 1 {
			child := exec.Command("/proc/self/exe", "hold", args[1])
			child.Stdout = os.Stdout
			child.SysProcAttr = &unix.SysProcAttr{Setsid: true}
			return child.Run()
		}
		fmt.Println("ready")
		select {}
	},
	// parent starts a sandboxed "hold" of the two files in the scratch folder.
	"parent": func(args []string) error {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		cmd := sandbox.Command(context.Background(), sandbox.Options{
			Scratch: args[0], UID: uid, GID: gid, ReadOnly: []string{exe},
		}, exe, "hold", filepath.Join(args[0], "one"), filepath.Join(args[0], "two"))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	},
	"available": func([]string) error {
		err := sandbox.Available()
		fmt.Printf("%v|%t|%t\n", err, errors.Is(err, holdfast.ErrCannotTest), holdfast.Hint(err) != "")
		return nil
	},
}

func executable(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func scratch(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// role prepares the test binary in a role inside a sandbox.
func role(t *testing.T, opt sandbox.Options, args ...string) *exec.Cmd {
	t.Helper()
	exe := executable(t)
	if opt.Scratch == "" {
		opt.Scratch = scratch(t)
	}
	if args[0] != "env" {
		// Under the race detector a process sleeps for a second before it ends.
		opt.Env = append(opt.Env, "GORACE=atexit_sleep_ms=0")
	}
	opt.UID, opt.GID = uid, gid
	opt.ReadOnly = append(opt.ReadOnly, exe)
	return sandbox.Command(t.Context(), opt, append([]string{exe}, args...)...)
}

// run runs the test binary in a role and returns what it wrote.
func run(t *testing.T, opt sandbox.Options, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := role(t, opt, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error is %v, want one with %q", err, text)
	}
}

func TestAvailable(t *testing.T) {
	if err := sandbox.Available(); err != nil {
		t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
}

func TestAvailableNeedsRoot(t *testing.T) {
	// A copy, because the folder of the test binary may be closed to others.
	exe := filepath.Join(t.TempDir(), "copy.test")
	content, err := os.ReadFile(executable(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(exe); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(exe, "available")
	cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if want := "cannot test: a sandbox needs root|true|true\n"; string(output) != want {
		t.Errorf("Available says %q, want %q", output, want)
	}
}

func TestFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}

	t.Run("what is not named does not exist", func(t *testing.T) {
		for _, path := range []string{secret, "/etc/shadow", "/etc/ssh", "/root", "/home", "/var", "/run", "/sys", "/.host"} {
			_, err := run(t, sandbox.Options{}, "read", path)
			wantError(t, err, "no such file or directory")
		}
	})
	t.Run("the root holds only what was put there", func(t *testing.T) {
		output, err := run(t, sandbox.Options{}, "list", "/")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(output) {
			if !slices.Contains([]string{"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "tmp", "usr"}, name) {
				t.Errorf("/%s is visible", name)
			}
		}
	})
	t.Run("etc is reduced", func(t *testing.T) {
		output, err := run(t, sandbox.Options{}, "list", "/etc")
		if err != nil {
			t.Fatal(err)
		}
		allowed := []string{"alternatives", "crypto-policies", "group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
			"locale.alias", "locale.conf", "localtime", "nsswitch.conf", "passwd", "pki", "ssl", "timezone"}
		for _, name := range strings.Fields(output) {
			if !slices.Contains(allowed, name) {
				t.Errorf("/etc/%s is visible", name)
			}
		}
		passwd, err := run(t, sandbox.Options{}, "read", "/etc/passwd")
		want := fmt.Sprintf("root:x:0:0::/:/usr/sbin/nologin\nholdfast-drill:x:%d:%d::/:/usr/sbin/nologin\n", uid, gid)
		if err != nil || passwd != want {
			t.Errorf("passwd is %q, %v", passwd, err)
		}
	})
	t.Run("what is named is read-only", func(t *testing.T) {
		opt := sandbox.Options{ReadOnly: []string{filepath.Dir(secret)}}
		if err := os.Chmod(filepath.Dir(secret), 0o777); err != nil {
			t.Fatal(err)
		}
		output, err := run(t, opt, "read", secret)
		if err != nil || output != "secret" {
			t.Errorf("read %q, %v", output, err)
		}
		_, err = run(t, opt, "write", filepath.Join(filepath.Dir(secret), "new"))
		wantError(t, err, "read-only file system")
	})
	t.Run("a link that is named leads to its target", func(t *testing.T) {
		output, err := run(t, sandbox.Options{ReadOnly: []string{link}}, "read", link)
		if err != nil || output != "secret" {
			t.Errorf("read %q, %v", output, err)
		}
	})
	t.Run("system folders are read-only", func(t *testing.T) {
		for _, path := range []string{"/usr/x", "/bin/x", "/etc/x", "/x"} {
			_, err := run(t, sandbox.Options{}, "write", path)
			wantError(t, err, "read-only file system")
		}
		_, err := run(t, sandbox.Options{}, "mount", "/usr")
		wantError(t, err, "operation not permitted")
	})
	t.Run("scratch is the host's, tmp and shm are private", func(t *testing.T) {
		dir := scratch(t)
		if _, err := run(t, sandbox.Options{Scratch: dir}, "write", filepath.Join(dir, "file")); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(content) != "written" {
			t.Errorf("scratch file on the host: %q, %v", content, err)
		}
		for _, path := range []string{"/tmp/holdfast-sandbox-test", "/dev/shm/holdfast-sandbox-test"} {
			if _, err := run(t, sandbox.Options{}, "write", path); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s shows on the host: %v", path, err)
			}
		}
	})
	t.Run("scratch below the private mounts", func(t *testing.T) {
		for _, parent := range []string{"/tmp", "/dev/shm"} {
			dir, err := os.MkdirTemp(parent, "hf-sandbox-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.Chown(dir, uid, gid); err != nil {
				t.Fatal(err)
			}
			if _, err := run(t, sandbox.Options{Scratch: dir}, "write", filepath.Join(dir, "file")); err != nil {
				t.Error(err)
			}
			if content, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(content) != "written" {
				t.Errorf("%s on the host: %q, %v", dir, content, err)
			}
			output, err := run(t, sandbox.Options{Scratch: dir}, "list", parent)
			if err != nil || strings.Contains(strings.ReplaceAll(output, filepath.Base(dir), ""), "hf-") {
				t.Errorf("%s inside holds %q, %v", parent, output, err)
			}
		}
	})
	t.Run("the working directory", func(t *testing.T) {
		dir := scratch(t)
		for want, opt := range map[string]sandbox.Options{dir: {Scratch: dir}, "/usr": {Scratch: dir, Dir: "/usr"}} {
			output, err := run(t, opt, "where")
			if err != nil || strings.TrimSpace(output) != want {
				t.Errorf("working directory %q, %v; want %q", output, err, want)
			}
		}
	})
	t.Run("nothing is mounted on the host", func(t *testing.T) {
		before, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, sandbox.Options{}, "exit", "0"); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || !bytes.Equal(before, after) {
			t.Errorf("mounts changed (%v):\n%s\nwere:\n%s", err, after, before)
		}
	})
}

func TestDevices(t *testing.T) {
	output, err := run(t, sandbox.Options{}, "read", "/dev/null")
	if err != nil || output != "" {
		t.Errorf("/dev/null: %q, %v", output, err)
	}
	if _, err := run(t, sandbox.Options{}, "write", "/dev/null"); err != nil {
		t.Errorf("write /dev/null: %v", err)
	}
	output, err = run(t, sandbox.Options{}, "list", "/dev")
	want := "fd full null random shm stderr stdin stdout urandom zero"
	if got := strings.Join(strings.Fields(output), " "); err != nil || got != want {
		t.Errorf("/dev holds %q, %v; want %q", got, err, want)
	}
}

func TestNetwork(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	abstract, err := net.Listen("unix", "@holdfast-sandbox-test-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	for _, l := range []net.Listener{listener, abstract} {
		network, address := l.Addr().Network(), l.Addr().String()
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatalf("the listener does not work at all: %v", err)
		}
		conn.Close()
		if _, err := run(t, sandbox.Options{}, "dial", network, address); err == nil {
			t.Errorf("a sandboxed program reached %s %s", network, address)
		}
	}
	output, err := run(t, sandbox.Options{}, "read", "/proc/net/dev")
	if err != nil || strings.Count(output, ":") != 1 || !strings.Contains(output, "lo:") {
		t.Errorf("network devices inside: %q, %v", output, err)
	}
}

func TestSocketInScratch(t *testing.T) {
	dir := scratch(t)
	socket := filepath.Join(dir, "s")
	cmd := role(t, sandbox.Options{Scratch: dir}, "serve", socket)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitReady(t, stdout)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "hello" {
		t.Errorf("answer %q, %v", answer, err)
	}
	conn.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestPrivileges(t *testing.T) {
	output, err := run(t, sandbox.Options{}, "read", "/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(output) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.Join(strings.Fields(value), " ")
	}
	const none = "0000000000000000"
	for key, want := range map[string]string{
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
		"NoNewPrivs": "1", "Groups": "", "Pid": "1",
		"Uid": "54321 54321 54321 54321", "Gid": "54322 54322 54322 54322",
	} {
		if got, ok := status[key]; !ok || got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	limits, err := run(t, sandbox.Options{}, "read", "/proc/self/limits")
	if err != nil || !strings.Contains(limits, "Max core file size        1                    1 ") {
		t.Errorf("core files are allowed (%v):\n%s", err, limits)
	}
}

func TestProcessesOfTheHostAreInvisible(t *testing.T) {
	output, err := run(t, sandbox.Options{}, "list", "/proc")
	if err != nil {
		t.Fatal(err)
	}
	var processes []string
	for _, name := range strings.Fields(output) {
		if _, err := strconv.Atoi(name); err == nil {
			processes = append(processes, name)
		}
	}
	if len(processes) != 1 || processes[0] != "1" {
		t.Errorf("visible processes: %v", processes)
	}
}

func TestEnvironmentIsNotInherited(t *testing.T) {
	t.Setenv("HOLDFAST_TEST_SECRET", "inherited")
	for _, env := range [][]string{nil, {"A=1", "PGPASSWORD=x"}} {
		output, err := run(t, sandbox.Options{Env: env}, "env")
		if err != nil || strings.TrimSpace(output) != strings.Join(env, "\n") {
			t.Errorf("environment %q, %v; want %q", output, err, env)
		}
	}
}

func TestDescriptorsAreNotInherited(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	output, err := run(t, sandbox.Options{}, "links", "/proc/self/fd")
	if err != nil || output == "" {
		t.Fatalf("descriptors: %q, %v", output, err)
	}
	for _, target := range strings.Fields(output) {
		if strings.HasPrefix(target, "/") && target != "/dev/null" && !strings.HasPrefix(target, "/proc/1/fd") && target != "/" {
			t.Errorf("descriptor on %s", target)
		}
	}
	if strings.Contains(output, dir) {
		t.Errorf("the folder's descriptor was inherited:\n%s", output)
	}
}

func TestStreams(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	want := sha256.Sum256(data)
	cmd := role(t, sandbox.Options{}, "cat")
	hash := sha256.New()
	cmd.Stdin, cmd.Stdout = bytes.NewReader(data), hash
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("the bytes that came back are others")
	}
}

func TestSystemProgram(t *testing.T) {
	output, err := sandbox.Command(t.Context(), sandbox.Options{Scratch: scratch(t), UID: uid, GID: gid}, "/usr/bin/id").CombinedOutput()
	want := fmt.Sprintf("uid=%d(holdfast-drill) gid=%d(holdfast-drill) groups=%d(holdfast-drill)\n", uid, gid, gid)
	if err != nil || string(output) != want {
		t.Errorf("id says %q, %v; want %q", output, err, want)
	}
}

func TestExitCode(t *testing.T) {
	for _, code := range []int{0, 1, 3, 42} {
		cmd := role(t, sandbox.Options{}, "exit", strconv.Itoa(code))
		err := cmd.Run()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
			t.Errorf("exit code %d became %v", code, err)
		}
	}
}

func TestSetupFailed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		name string
		opt  sandbox.Options
		argv []string
		want string
	}{
		{"missing folder", sandbox.Options{ReadOnly: []string{missing}}, []string{"/usr/bin/id"}, "bind: lstat " + missing},
		{"missing scratch", sandbox.Options{Scratch: missing}, []string{"/usr/bin/id"}, "bind: lstat " + missing},
		{"the host's root", sandbox.Options{ReadOnly: []string{"/proc/self/root"}}, []string{"/usr/bin/id"}, "the host's root must not be visible"},
		{"missing program", sandbox.Options{}, []string{missing}, "execute " + missing},
		{"missing working directory", sandbox.Options{Dir: missing}, []string{"/usr/bin/id"}, "enter working directory: chdir " + missing},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.opt.UID, test.opt.GID = uid, gid
			if test.opt.Scratch == "" {
				test.opt.Scratch = scratch(t)
			}
			var stderr bytes.Buffer
			cmd := sandbox.Command(t.Context(), test.opt, test.argv...)
			cmd.Stderr = &stderr
			err := cmd.Run()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != sandbox.SetupFailed {
				t.Errorf("run: %v, want exit code %d", err, sandbox.SetupFailed)
			}
			if !strings.HasPrefix(stderr.String(), "holdfast sandbox: ") || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("standard error is %q, want %q in it", stderr.String(), test.want)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	good := sandbox.Options{Scratch: "/tmp/x", UID: 1, GID: 1}
	for _, test := range []struct {
		name   string
		change func(*sandbox.Options)
		argv   []string
	}{
		{"root", func(o *sandbox.Options) { o.UID = 0 }, []string{"/bin/true"}},
		{"root's group", func(o *sandbox.Options) { o.GID = 0 }, []string{"/bin/true"}},
		{"no scratch", func(o *sandbox.Options) { o.Scratch = "" }, []string{"/bin/true"}},
		{"scratch is the root", func(o *sandbox.Options) { o.Scratch = "//" }, []string{"/bin/true"}},
		{"relative folder", func(o *sandbox.Options) { o.ReadOnly = []string{"x"} }, []string{"/bin/true"}},
		{"relative program", func(*sandbox.Options) {}, []string{"true"}},
		{"no program", func(*sandbox.Options) {}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt := good
			test.change(&opt)
			err := sandbox.Command(t.Context(), opt, test.argv...).Start()
			wantError(t, err, "sandbox: ")
		})
	}
}

// TestContextKillsAll and TestDiesWithItsParent watch two locked files: one held by the program, one by a process that
// the program started in a session of its own.
func TestContextKillsAll(t *testing.T) {
	dir := scratch(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	exe := executable(t)
	cmd := sandbox.Command(ctx, sandbox.Options{Scratch: dir, UID: uid, GID: gid, ReadOnly: []string{exe}},
		exe, "hold", filepath.Join(dir, "one"), filepath.Join(dir, "two"))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitReady(t, stdout)
	if !locked(t, filepath.Join(dir, "one")) || !locked(t, filepath.Join(dir, "two")) {
		t.Fatal("the program does not hold its files")
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a killed program ended well")
	}
	// Wait returns when the whole process namespace is gone: nothing to poll for.
	if locked(t, filepath.Join(dir, "one")) || locked(t, filepath.Join(dir, "two")) {
		t.Error("a process outlived the context")
	}
}

func TestDiesWithItsParent(t *testing.T) {
	dir := scratch(t)
	parent := exec.Command(executable(t), "parent", dir)
	parent.Stderr = os.Stderr
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	waitReady(t, stdout)
	if !locked(t, filepath.Join(dir, "one")) || !locked(t, filepath.Join(dir, "two")) {
		t.Fatal("the program does not hold its files")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for _, name := range []string{"one", "two"} {
		for locked(t, filepath.Join(dir, name)) {
			if time.Now().After(deadline) {
				t.Fatal("a process outlived the parent")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func waitReady(t *testing.T, stdout io.Reader) {
	t.Helper()
	buffer := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(stdout, buffer); err != nil || string(buffer) != "ready\n" {
		t.Fatalf("the program says %q, %v; want ready", buffer, err)
	}
}

func locked(t *testing.T, path string) bool {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatal(err)
	}
	return err != nil
}
