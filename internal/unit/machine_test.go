package unit_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a systemd of its own, the first process of a namespace: its root is this host's, under a layer in memory.
type machine struct {
	cmd    *exec.Cmd
	cgroup string
}

// machineName stands in argv[0] of the process that becomes systemd.
const machineName = "unit-test-machine"

// boot starts a machine with the files of a folder laid over the host's.
func boot(t *testing.T, layer string) *machine {
	t.Helper()
	m := &machine{cgroup: filepath.Join(cgroups(t), "unit-test-"+strconv.Itoa(os.Getpid()))}
	if err := os.Mkdir(m.cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(t) })
	group, err := os.Open(m.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	m.cmd = exec.Command("/proc/self/exe", layer)
	m.cmd.Args[0] = machineName
	m.cmd.Env = []string{"container=other", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL, Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd()),
	}
	// The parent-death signal belongs to the thread that starts the process: it must be there until the end.
	started := make(chan error)
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- m.cmd.Start()
		<-ended
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		// It fails until systemd listens, and says in the end what it is like then.
		state, err := m.try("systemctl", "is-system-running", "--wait")
		if state == "running\n" || state == "degraded\n" {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("systemd did not start: %v: %s", err, state)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// cgroups is where this host's cgroups of version 2 are mounted.
func cgroups(t *testing.T) string {
	t.Helper()
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	defer mounts.Close()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	t.Fatal("no cgroups of version 2 are mounted")
	return ""
}

func (m *machine) end(t *testing.T) {
	if m.cmd != nil && m.cmd.Process != nil {
		if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		_ = m.cmd.Wait() // killed by us
	}
	var folders []string
	err := filepath.WalkDir(m.cgroup, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, folder := range slices.Backward(folders) {
		if err := os.Remove(folder); err != nil {
			t.Error(err)
		}
	}
}

// try runs a program in the machine.
func (m *machine) try(args ...string) (string, error) {
	output, err := m.command(args...).CombinedOutput()
	return string(output), err
}

// command is a program that is to run in the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.cmd.Process.Pid),
		"--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "SYSTEMD_COLORS=0"}
	return cmd
}

func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	output, err := m.try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// control lets systemctl do something with a unit, and tells why it could not.
func (m *machine) control(t *testing.T, verb, name string) {
	t.Helper()
	if output, err := m.try("systemctl", verb, name); err != nil {
		log, _ := m.try("journalctl", "--no-pager", "--output=short-monotonic", "--unit", name)
		t.Fatalf("%s %s: %v\n%s%s", verb, name, err, output, log)
	}
}

// said is what a unit has printed.
func (m *machine) said(t *testing.T, name string) string {
	t.Helper()
	m.run(t, "journalctl", "--sync")
	return m.run(t, "journalctl", "--no-pager", "--output=cat", "_SYSTEMD_UNIT="+name)
}

// become makes a root file system of the host's and the layer's files, and turns into systemd. It returns only errors.
func become(layer string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("leave cgroups: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const base = "/mnt"
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	upper, work, root := base+"/upper", base+"/work", base+"/root"
	for _, folder := range []string{upper, work, root} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
	}
	unix.Umask(0)
	if err := os.CopyFS(upper, os.DirFS(layer)); err != nil {
		return err
	}
	// What the host starts besides is not started here.
	if err := unix.Setxattr(upper+"/etc/systemd/system", "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("hide units: %w", err)
	}
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	for _, m := range []struct{ kind, path, data string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"cgroup2", "/sys/fs/cgroup", ""}, {"tmpfs", "/dev", "mode=0755"}, {"tmpfs", "/run", "mode=0755"},
		{"tmpfs", "/tmp", "mode=1777"}, {"devpts", "/dev/pts", "newinstance,ptmxmode=0666"}, {"tmpfs", "/dev/shm", "mode=1777"},
	} {
		if err := os.MkdirAll(root+m.path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, root+m.path, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := filepath.Join(root, "dev", name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", path, err)
		}
	}
	if err := os.Symlink("pts/ptmx", root+"/dev/ptmx"); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// The old root ends up above the new one, and is taken off.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	return unix.Exec("/lib/systemd/systemd", []string{"systemd", "--unit=basic.target", "--log-target=journal", "--show-status=no"}, os.Environ())
}
