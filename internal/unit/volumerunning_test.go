package unit_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/unit"
)

// machineVolume is the volume that the machine has. A file system in memory stands for what would be on it: cryptsetup opens its key, but a
// namespace has no device mapper.
func machineVolume() unit.Volume {
	return unit.Volume{Name: "pg-data", Device: "/srv/a disk/pg.luks", Mount: "/srv/pg's 5% data", Server: server}
}

const passphrase = "correct horse battery staple"

// onVolume is what the program does when the service of a volume runs it.
func onVolume(args []string) error {
	v := machineVolume()
	fmt.Printf("arguments %q\n", args)
	if args[0] == "lock" {
		return unix.Unmount(v.Mount, 0)
	}
	for _, family := range []struct {
		name   string
		number int
	}{{"inet", unix.AF_INET}, {"netlink", unix.AF_NETLINK}} {
		fd, err := unix.Socket(family.number, unix.SOCK_DGRAM, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		fmt.Printf("socket %s: %s\n", family.name, told(nil, err))
	}
	page := make([]byte, os.Getpagesize())
	fmt.Printf("memory that stays: %s\n", told(nil, unix.Mlock(page)))
	_, err := os.Readlink("/proc/1/cwd")
	fmt.Printf("see what others use: %s\n", told(nil, err))
	fmt.Printf("load a module: %s\n", told(nil, unix.FinitModule(-1, "", 0)))
	fmt.Printf("make a device: %s\n", told(nil, unix.Mknod("/dev/shm/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))))
	var answer bytes.Buffer
	ask := exec.Command("/usr/bin/systemd-ask-password", "--timeout=0", "Passphrase of volume "+v.Name)
	ask.Stdout, ask.Stderr = &answer, os.Stdout
	if err := ask.Run(); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	open := exec.Command("/usr/sbin/cryptsetup", "open", "--test-passphrase", "--key-file", "-", v.Device)
	open.Stdin, open.Stdout, open.Stderr = bytes.NewReader(bytes.TrimSuffix(answer.Bytes(), []byte("\n"))), os.Stdout, os.Stdout
	if err := open.Run(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := unix.Mount("tmpfs", v.Mount, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	data := filepath.Join(v.Mount, "pgdata")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	return os.Chown(data, 65534, 65534)
}

// layVolume makes what the machine has for its volume.
func layVolume(t *testing.T, o unit.Options) string {
	t.Helper()
	v := machineVolume()
	files, err := unit.VolumeUnits(o, v)
	if err != nil {
		t.Fatal(err)
	}
	data := strings.ReplaceAll(v.Mount, "%", "%%") + "/pgdata"
	limit := "holdfast-volume-pg-data.service.d/limit.conf"
	files = append(files,
		// Its working folder is on the volume, which therefore cannot be locked while it runs.
		unit.File{Path: "/etc/systemd/system/" + server, Mode: 0o644, Text: "[Service]\nUser=65534\nWorkingDirectory=" + data + "\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"},
		unit.File{Path: "/etc/systemd/system/login.service", Mode: 0o644, Text: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"},
		unit.File{Path: "/srv/" + limit, Mode: 0o644, Text: "[Unit]\nJobRunningTimeoutSec=1\n"},
	)
	layer := lay(t, o)
	put(t, layer, files)
	device := filepath.Join(layer, v.Device)
	for _, folder := range []string{filepath.Dir(device), filepath.Join(layer, v.Mount)} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(device, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	format := exec.Command("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k",
		"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-", device)
	format.Stdin = strings.NewReader(passphrase)
	if output, err := format.CombinedOutput(); err != nil {
		t.Fatalf("cryptsetup: %v: %s", err, output)
	}
	return layer
}

// question waits until the passphrase is asked for, and returns the socket for the answer.
func (m *machine) question(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		questions, err := m.try("grep", "--recursive", "--no-filename", "", "/run/systemd/ask-password")
		if socket := regexp.MustCompile(`(?m)^Socket=(.*)$`).FindStringSubmatch(questions); socket != nil {
			if !strings.Contains(questions, "Message=Passphrase of volume pg-data") {
				t.Fatalf("another question is asked:\n%s", questions)
			}
			return socket[1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody asked: %v: %s", err, questions)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// answer gives a passphrase, once it is asked for.
func (m *machine) answer(t *testing.T, text string) {
	t.Helper()
	reply := m.command("/lib/systemd/systemd-reply-password", "1", m.question(t))
	reply.Stdin = strings.NewReader(text)
	if output, err := reply.CombinedOutput(); err != nil {
		t.Fatalf("answer: %v: %s", err, output)
	}
}

// state is what a unit is in.
func (m *machine) state(name string) string {
	state, _ := m.try("systemctl", "is-active", name) // it ends with 3 unless the unit is active
	return strings.TrimSpace(state)
}

func (m *machine) wantStates(t *testing.T, want map[string]string) {
	t.Helper()
	for name, state := range want {
		if got := m.state(name); got != state {
			log, _ := m.try("journalctl", "--no-pager", "--output=short-monotonic", "--unit", name)
			t.Errorf("%s is %s, want %s\n%s", name, got, state, log)
		}
	}
}

// TestVolumeRunning boots with a real systemd into multi-user.target, and tries what may happen to a volume on the way and after it.
func TestVolumeRunning(t *testing.T) {
	const service, target, login = "holdfast-volume-pg-data.service", "multi-user.target", "login.service"
	v := machineVolume()
	o := unit.Options{Program: "/usr/local/lib/hold 100%n"}
	m := boot(t, layVolume(t, o))
	m.run(t, "systemctl", "enable", service, server, login)
	mounted := func() bool {
		_, err := m.try("mountpoint", "--quiet", v.Mount)
		return err == nil
	}

	// While the question is open, others start, and the target and the server wait.
	// It is waited for by the one command: another one, once the target is reached, would start anew what has failed.
	reach := m.command("systemctl", "start", target)
	if err := reach.Start(); err != nil {
		t.Fatal(err)
	}
	m.question(t)
	m.control(t, "start", login)
	m.wantStates(t, map[string]string{login: "active", service: "activating", server: "inactive", target: "inactive"})

	// A wrong answer: the boot is complete without the server.
	m.answer(t, "wrong")
	if err := reach.Wait(); err != nil {
		t.Error(err)
	}
	m.wantStates(t, map[string]string{target: "active", service: "failed", server: "inactive"})
	if mounted() {
		t.Error("a wrong passphrase mounts the volume")
	}

	// No answer: the server fails, and with it the boot goes on. The question stays.
	m.run(t, "systemctl", "stop", target)
	m.run(t, "install", "-D", "/srv/"+service+".d/limit.conf", "/etc/systemd/system/"+service+".d/limit.conf")
	m.run(t, "systemctl", "daemon-reload")
	m.control(t, "start", target)
	m.wantStates(t, map[string]string{target: "active", service: "activating", server: "inactive"})
	if output, err := m.try("systemctl", "start", server); err == nil || !strings.Contains(output, "dependency job") {
		t.Errorf("without an answer the server starts: %v\n%s", err, output)
	}

	// A late answer is good all the same.
	m.run(t, "rm", "/etc/systemd/system/"+service+".d/limit.conf")
	m.run(t, "systemctl", "daemon-reload")
	m.answer(t, passphrase)
	m.control(t, "start", service)
	if !mounted() {
		t.Fatal("the host does not see the volume")
	}
	m.control(t, "start", server)
	m.wantStates(t, map[string]string{service: "active", server: "active"})

	// When the machine is shut down, the mount goes last.
	for _, name := range []string{service, server} {
		if after := m.run(t, "systemctl", "show", "--property=After", "--value", name); !strings.Contains(after, "data.mount") {
			t.Errorf("%s is not after the mount, but after %s", name, after)
		}
	}

	// The server holds the volume, and is stopped first.
	m.control(t, "stop", service)
	m.wantStates(t, map[string]string{service: "inactive", server: "inactive"})
	if mounted() {
		t.Error("the volume is still mounted")
	}

	// What was locked by hand, while its service counts as started, keeps the server from starting, and says so.
	m.run(t, "systemctl", "start", "--no-block", service)
	m.answer(t, passphrase)
	m.control(t, "start", service)
	m.run(t, "umount", v.Mount)
	if output, err := m.try("systemctl", "start", server); err == nil || !strings.Contains(output, "ssert") {
		t.Errorf("on the bare folder the server starts: %v\n%s", err, output)
	}
	m.wantStates(t, map[string]string{service: "active", server: "inactive"})

	const allowed = "socket inet: EAFNOSUPPORT\nsocket netlink: ok\nmemory that stays: ok\nsee what others use: ok\nload a module: EPERM\nmake a device: ok\n"
	said := m.said(t, service)
	want := `arguments ["unlock" "pg-data" "--ask-password" "--config" "/etc/holdfast/holdfast.yaml" "--state" "/var/lib/holdfast"]` + "\n" + allowed
	if !strings.HasPrefix(said, want) || !strings.Contains(said, "\n"+`arguments ["lock" "pg-data" "--config" "/etc/holdfast/holdfast.yaml" "--state" "/var/lib/holdfast"]`+"\n") {
		t.Errorf("it says\n%s\nand should begin with\n%s", said, want)
	}
}
