package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SSHDOptions says how an SSH server differs from the plainest one: logins as root with one key, SFTP with all requests.
type SSHDOptions struct {
	// User may log in instead of root. It must be an account of this machine.
	User string
	// Chroot locks the login into SSHD.Dir with SFTP alone: what is Dir/x here is /x there.
	Chroot bool
	// Deny are SFTP requests that the server refuses (the -P of sftp-server).
	Deny []string
	// ReadOnly refuses every SFTP request that changes something.
	ReadOnly bool
	// NoSFTP offers a shell and no SFTP.
	NoSFTP bool
	// Command is run instead of whatever a login asks for, as a line of authorized_keys.
	Command string
	// HostKeys are the kinds of key that the server has: ed25519, ecdsa, rsa. Default: ed25519 alone.
	HostKeys []string
}

// SSHD is one OpenSSH server on a port of 127.0.0.1.
type SSHD struct {
	Port       int
	User       string
	KeyFile    string            // private key that may log in
	OtherKey   string            // private key that may not
	KnownHosts string            // file with one line for each key of the server
	HostKeys   map[string]string // public key of each kind, as "TYPE BASE64"
	Dir        string            // folder for stores; the user's own
	Log        string            // the server's log file

	process *exec.Cmd
	ended   chan struct{}
}

// StartSSHD starts a server, which is stopped with all its sessions, and whose folder is removed, when the test ends. It
// needs root.
func StartSSHD(t testing.TB, opt SSHDOptions) *SSHD {
	t.Helper()
	if opt.User == "" {
		opt.User = "root"
	}
	if len(opt.HostKeys) == 0 {
		opt.HostKeys = []string{"ed25519"}
	}
	// Not in /tmp: sshd changes its root only to a folder that root alone can exchange.
	if err := os.MkdirAll(cache(), 0o755); err != nil {
		t.Fatal(err)
	}
	top, err := os.MkdirTemp(cache(), "sshd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Error(err)
		}
	})
	s := &SSHD{
		User: opt.User, KeyFile: filepath.Join(top, "key"), OtherKey: filepath.Join(top, "other"),
		KnownHosts: filepath.Join(top, "known_hosts"), HostKeys: map[string]string{},
		Dir: filepath.Join(top, "dir"), Log: filepath.Join(top, "log"),
	}
	if err := errors.Join(os.Chmod(top, 0o755), os.Mkdir(s.Dir, 0o755), os.MkdirAll("/run/sshd", 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, kind := range opt.HostKeys {
		s.HostKeys[kind] = SSHKey(t, filepath.Join(top, "host-"+kind), kind)
	}
	login := SSHKey(t, s.KeyFile, "ed25519")
	SSHKey(t, s.OtherKey, "ed25519")
	if opt.Command != "" {
		login = `restrict,command="` + strings.ReplaceAll(opt.Command, `"`, `\"`) + `" ` + login
	}
	if err := os.WriteFile(filepath.Join(top, "authorized_keys"), []byte(login+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if opt.User != "root" && !opt.Chroot {
		chown := exec.Command("chown", opt.User, s.Dir)
		if out, err := chown.CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	if err := s.launch(top, opt); err != nil {
		log, _ := os.ReadFile(s.Log)
		t.Fatalf("start sshd: %v\n%s", err, log)
	}
	t.Cleanup(func() {
		s.CutSessions()
		if err := s.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("stop sshd: %v", err)
		}
		<-s.ended
		s.CutSessions()
	})
	return s
}

// SSHKey makes a key pair in file and file.pub and returns the public key as "TYPE BASE64".
func SSHKey(t testing.TB, file, kind string) string {
	t.Helper()
	args := []string{"-q", "-N", "", "-C", "", "-t", kind, "-f", file}
	if kind == "rsa" {
		args = append(args, "-b", "2048")
	}
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(public))
}

// launch starts sshd. A free port may be taken between the look and the start, so it tries a few.
func (s *SSHD) launch(top string, opt SSHDOptions) error {
	const tries = 5
	var err error
	for range tries {
		if s.Port, err = freePort(); err != nil {
			return err
		}
		var known strings.Builder
		for _, kind := range opt.HostKeys {
			fmt.Fprintf(&known, "[127.0.0.1]:%d %s\n", s.Port, s.HostKeys[kind])
		}
		config := filepath.Join(top, "config")
		err = errors.Join(os.WriteFile(config, []byte(s.config(top, opt)), 0o600), os.WriteFile(s.KnownHosts, []byte(known.String()), 0o644))
		if err != nil {
			return err
		}
		if err = s.run(config); err == nil {
			return nil
		}
		if log, _ := os.ReadFile(s.Log); !bytes.Contains(log, []byte("Address already in use")) {
			return err
		}
	}
	return err
}

func (s *SSHD) config(top string, opt SSHDOptions) string {
	lines := []string{
		"ListenAddress 127.0.0.1:" + strconv.Itoa(s.Port), "PidFile none", "UsePAM no", "StrictModes no", "UseDNS no",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password",
		"AuthorizedKeysFile " + filepath.Join(top, "authorized_keys"), "AllowUsers " + opt.User,
		"MaxStartups 100", "MaxSessions 100", "LogLevel VERBOSE", "PrintMotd no", "PrintLastLog no",
	}
	for _, kind := range opt.HostKeys {
		lines = append(lines, "HostKey "+filepath.Join(top, "host-"+kind))
	}
	server := "internal-sftp"
	if len(opt.Deny) > 0 {
		server += " -P " + strings.Join(opt.Deny, ",")
	}
	if opt.ReadOnly {
		server += " -R"
	}
	if !opt.NoSFTP {
		lines = append(lines, "Subsystem sftp "+server)
	}
	if opt.Chroot {
		lines = append(lines, "ChrootDirectory "+s.Dir, "ForceCommand "+server)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (s *SSHD) run(config string) error {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", config)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: run testbed/install.sh", err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait() // how it ended stands in the log
		close(ended)
	}()
	s.process, s.ended = cmd, ended
	deadline := time.Now().Add(startTime)
	for {
		conn, err := net.Dial("tcp", s.Addr())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return errors.New("the server ended")
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(err, cmd.Process.Kill())
		}
	}
}

// Addr is where the server listens.
func (s *SSHD) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// CutSessions kills every session that the server has, and returns how many processes that were.
func (s *SSHD) CutSessions() int {
	cut := 0
	for _, pid := range children(s.process.Process.Pid) {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			cut++
		}
	}
	return cut
}

// children returns the processes below one, the nearest first.
func children(parent int) []int {
	below := map[int][]int{}
	entries, _ := os.ReadDir("/proc") // an empty answer kills nothing
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue
		}
		// The second field is the name in parentheses, which may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		if above, err := strconv.Atoi(fields[1]); err == nil {
			below[above] = append(below[above], pid)
		}
	}
	found := below[parent]
	for i := 0; i < len(found); i++ {
		found = append(found, below[found[i]]...)
	}
	return found
}
