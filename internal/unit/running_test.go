package unit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/sandbox"
	"holdfast/internal/unit"
)

// TestMain lets the test binary be what becomes a machine, and the program that its units run.
func TestMain(m *testing.M) {
	sandbox.Child()
	var err error
	switch filepath.Base(os.Args[0]) {
	case machineName:
		err = become(os.Args[1])
	case "hold 100%n":
		err = probe(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// probe tells what is possible where it runs, a line for each.
func probe(args []string) error {
	if args[0] == "volume" {
		return onVolume(args[1:])
	}
	fmt.Printf("arguments %q\n", args)
	fmt.Printf("user %d, may read private files: %s\n", os.Geteuid(), told(os.ReadFile("/home/app/up loads/private")))
	for _, path := range []string{"/var/lib/holdfast/x", "/var/lib/holdfast-drill/x", "/srv/a store/x", "/home/app/copies/x", "/srv/open/x", "/home/app/up loads/x", "/etc/x"} {
		fmt.Printf("write %s: %s\n", path, told(nil, os.WriteFile(path, nil, 0o600)))
	}
	for _, path := range []string{"/home/other", "/tmp/of-host", "/dev/console", "/proc/meminfo"} {
		_, err := os.Lstat(path)
		fmt.Printf("see %s: %s\n", path, told(nil, err))
	}
	for _, family := range []struct {
		name   string
		number int
	}{{"unix", unix.AF_UNIX}, {"inet", unix.AF_INET}, {"netlink", unix.AF_NETLINK}} {
		fd, err := unix.Socket(family.number, unix.SOCK_DGRAM, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		fmt.Printf("socket %s: %s\n", family.name, told(nil, err))
	}
	memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Munmap(memory)
	}
	fmt.Printf("memory written and executed: %s\n", told(nil, err))
	fmt.Printf("lower priority: %s\n", told(nil, unix.Setpriority(unix.PRIO_PROCESS, 0, 19)))
	fmt.Printf("change the clock: %s\n", told(nil, unix.Settimeofday(&unix.Timeval{Sec: -1})))
	fmt.Printf("user namespace: %s\n", told(nil, exec.Command("/usr/bin/unshare", "--user", "/bin/true").Run()))
	fmt.Printf("run a program: %s\n", told(nil, exec.Command("/bin/true").Run()))
	var limit unix.Rlimit
	err = unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	fmt.Printf("core files: %d, %d, %s\n", limit.Cur, limit.Max, told(nil, err))
	if os.Geteuid() == 0 {
		fmt.Printf("sandbox: %s\n", told(nil, inSandbox()))
	}
	if args[0] == "serve" {
		return serve()
	}
	return nil
}

// told is ok, or the name of an error.
func told(_ []byte, err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return unix.ErrnoName(number)
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// inSandbox runs a program as another user in a sandbox with a scratch folder in memory, and ends it.
func inSandbox() (err error) {
	if err := sandbox.Available(); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("/dev/shm", "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	const uid = 61200
	if err := os.Chown(scratch, uid, uid); err != nil {
		return err
	}
	cmd := sandbox.Command(context.Background(), sandbox.Options{Scratch: scratch, UID: uid, GID: uid}, "/bin/cat", "/etc/hosts", "-")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	if _, err = io.ReadFull(out, make([]byte, 1)); err != nil {
		err = fmt.Errorf("it did not run: %w", err)
	} else if err = cmd.Process.Kill(); err != nil {
		err = fmt.Errorf("it could not be ended: %w", err)
	}
	// Without a right to end it, it ends with what it reads.
	err = errors.Join(err, in.Close())
	_ = cmd.Wait() // its status is of no interest
	return err
}

// serve tells systemd that it is ready, obeys a reload, and drains: its child must live until then.
func serve() error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	child := exec.Command("/bin/cat")
	hold, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		return err
	}
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "READY=1"); err != nil {
		return err
	}
	for s := range signals {
		fmt.Println("signal", s)
		if s == syscall.SIGTERM {
			break
		}
	}
	fmt.Println("drained, its program ended with:", told(nil, errors.Join(hold.Close(), child.Wait())))
	return conn.Close()
}

// installation is what the machine has.
func installation() unit.Options {
	return unit.Options{
		Program: "/usr/local/lib/hold 100%n", ReadAll: true,
		Read: []string{"/home/app/up loads"}, Write: []string{"/srv/a store", "/home/app/copies", "/srv/none"},
		Jobs: []unit.Timer{
			{Name: "app-backup", Args: []string{"backup", "app", "--note", "100%n of it"}, Calendar: must("0 2 * * *"), Zone: "Europe/Berlin"},
			{Name: "app-drill", Args: []string{"drill", "--job", "app"}, Calendar: must("0 0 13 * 5"), Drill: true},
		},
	}
}

// lay makes a folder of what the machine has besides the host's files.
func lay(t *testing.T, o unit.Options) string {
	t.Helper()
	layer := t.TempDir()
	put(t, layer, all(t, o))
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{
		o.Program:                     program,
		"/home/app/up loads/private":  []byte("private"),
		"/home/other/x":               nil,
		"/home/app/copies/y":          nil,
		"/srv/a store/y":              nil,
		"/srv/open/y":                 nil,
		"/etc/fstab":                  nil, // the host's disks are not the machine's
		"/etc/holdfast/holdfast.yaml": []byte("secret"),
		"/etc/sysusers.d/app.conf":    []byte("u app -\n"),
		"/etc/machine-id":             []byte("0123456789abcdef0123456789abcdef\n"),
	} {
		path = filepath.Join(layer, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return layer
}

// TestRunning starts the units with a real systemd.
func TestRunning(t *testing.T) {
	m := boot(t, lay(t, installation()))
	m.run(t, "systemd-sysusers")
	m.run(t, "rm", "-rf", "/var/lib/holdfast", "/var/lib/holdfast-drill") // of the host, which keeps its own
	m.run(t, "mkdir", "-p", "/var/lib/holdfast/journal", "/tmp/of-host")  // as by holdfast init, run by root
	m.run(t, "systemd-tmpfiles", "--create", "holdfast.conf")
	m.run(t, "chown", "--recursive", "app:", "/home/app/up loads")
	m.run(t, "chmod", "0700", "/home/app/up loads", "/home/app/up loads/private")
	m.run(t, "chown", "holdfast:", "/srv/a store", "/home/app/copies")
	m.run(t, "chmod", "0777", "/srv/open")
	if got := m.run(t, "stat", "--format=%U:%G %a %n", "/etc/holdfast", "/etc/holdfast/holdfast.yaml", "/var/lib/holdfast", "/var/lib/holdfast/journal"); got !=
		"root:holdfast 750 /etc/holdfast\nroot:holdfast 640 /etc/holdfast/holdfast.yaml\nholdfast:holdfast 700 /var/lib/holdfast\nholdfast:holdfast 755 /var/lib/holdfast/journal\n" {
		t.Errorf("the folders are\n%s", got)
	}
	uid := strings.TrimSpace(m.run(t, "id", "--user", "holdfast"))

	backup := "user " + uid + `, may read private files: ok
write /var/lib/holdfast/x: ok
write /var/lib/holdfast-drill/x: ENOENT
write /srv/a store/x: ok
write /home/app/copies/x: ok
write /srv/open/x: EROFS
write /home/app/up loads/x: EROFS
write /etc/x: EROFS
see /home/other: ENOENT
see /tmp/of-host: ENOENT
see /dev/console: ENOENT
see /proc/meminfo: ENOENT
socket unix: ok
socket inet: ok
socket netlink: EAFNOSUPPORT
memory written and executed: EPERM
lower priority: EPERM
change the clock: EPERM
user namespace: exit status 1
run a program: ok
core files: 1, 1, ok
`
	drill := `user 0, may read private files: ok
write /var/lib/holdfast/x: EROFS
write /var/lib/holdfast-drill/x: ok
write /srv/a store/x: ok
write /home/app/copies/x: ok
write /srv/open/x: EROFS
write /home/app/up loads/x: EROFS
write /etc/x: EROFS
see /home/other: ENOENT
see /tmp/of-host: ENOENT
see /dev/console: ENOENT
see /proc/meminfo: ok
socket unix: ok
socket inet: ok
socket netlink: EAFNOSUPPORT
memory written and executed: ok
lower priority: EPERM
change the clock: EPERM
user namespace: exit status 1
run a program: ok
core files: 1, 1, ok
sandbox: ok
`
	const config = `"--config" "/etc/holdfast/holdfast.yaml" "--state" `
	const drained = "signal hangup\nsignal terminated\ndrained, its program ended with: ok\n"
	for _, c := range []struct{ unit, args, want string }{
		{"holdfast-app-backup.service", `"backup" "app" "--note" "100%n of it" ` + config + `"/var/lib/holdfast"`, backup},
		{"holdfast-app-drill.service", `"drill" "--job" "app" ` + config + `"/var/lib/holdfast-drill"`, drill},
		{"holdfast.service", `"serve" "--tasks" "backups" ` + config + `"/var/lib/holdfast"`, strings.Replace(backup, "holdfast-drill/x: ENOENT", "holdfast-drill/x: EROFS", 1) + drained},
		{"holdfast-drill.service", `"serve" "--tasks" "drills" ` + config + `"/var/lib/holdfast-drill"`, drill + drained},
	} {
		t.Run(c.unit, func(t *testing.T) {
			m.control(t, "start", c.unit)
			if strings.HasSuffix(c.want, drained) {
				m.control(t, "reload", c.unit)
				m.control(t, "stop", c.unit)
			}
			got := m.said(t, c.unit)
			if want := "arguments [" + c.args + "]\n" + c.want; got != want {
				t.Errorf("it says\n%s\nand should\n%s", got, want)
			}
		})
	}
	t.Run("timers", func(t *testing.T) {
		m.run(t, "systemctl", "enable", "--now", "holdfast-app-backup.timer", "holdfast-app-drill.timer")
		got := m.run(t, "systemctl", "show", "--property=TimersCalendar,Persistent", "holdfast-app-drill.timer")
		for _, want := range []string{"OnCalendar=*-*-13 00:00:00", "OnCalendar=Fri *-*-* 00:00:00", "Persistent=yes"} {
			if !bytes.Contains([]byte(got), []byte(want)) {
				t.Errorf("%q is not in\n%s", want, got)
			}
		}
	})
}
