package sftp_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/store/sftp"
	"holdfast/internal/testbed"
)

// fingerprint is what ssh-keygen says of a public key.
func fingerprint(t *testing.T, public string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, []byte(public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-l", "-f", file).Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 2 {
		t.Fatalf("ssh-keygen -l: %v: %s", err, out)
	}
	return fields[1]
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// wantRefused: a server whose key is not the known one is an error that no retry mends.
func wantRefused(t *testing.T, opt sftp.Options, texts ...string) string {
	t.Helper()
	d, err := sftp.Open(t.Context(), opt)
	if err == nil {
		d.Close()
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("error %v, want fs.ErrPermission", err)
	}
	if n := opt.Retrier.Retries(); n != 0 {
		t.Errorf("%d more attempts were made", n)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
	return holdfast.Hint(err)
}

func TestUnknownHostKey(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{HostKeys: []string{"rsa", "ecdsa", "ed25519"}})
	line := fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, s.HostKeys["ed25519"])
	print := fingerprint(t, s.HostKeys["ed25519"])
	for name, file := range map[string]string{"empty": write(t, "# nothing\n"), "missing": filepath.Join(t.TempDir(), "none")} {
		t.Run(name, func(t *testing.T) {
			opt := options(s, "store")
			opt.KnownHosts = []string{file}
			hint := wantRefused(t, opt, print, file)
			if !strings.HasSuffix(hint, "add this line to "+file+": "+line) || !strings.Contains(hint, "compare the fingerprint") {
				t.Errorf("hint %q does not end with the line to add: %s", hint, line)
			}
			// What the hint says works.
			if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			open(t, opt)
		})
	}
}

func TestChangedHostKey(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	other := testbed.SSHKey(t, filepath.Join(t.TempDir(), "other"), "ed25519")
	opt := options(s, "store")
	opt.KnownHosts = []string{write(t, fmt.Sprintf("# a comment\n[127.0.0.1]:%d %s\n", s.Port, other))}
	hint := wantRefused(t, opt, fingerprint(t, s.HostKeys["ed25519"]), fingerprint(t, other), opt.KnownHosts[0]+":2")
	if !strings.Contains(hint, s.HostKeys["ed25519"]) {
		t.Errorf("hint %q does not have the new line", hint)
	}
}

func TestRevokedHostKey(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	opt := options(s, "store")
	line := fmt.Sprintf("[127.0.0.1]:%d %s\n", s.Port, s.HostKeys["ed25519"])
	opt.KnownHosts = []string{write(t, line+"@revoked * "+s.HostKeys["ed25519"]+"\n")}
	wantRefused(t, opt, "revoked", opt.KnownHosts[0]+":2")
}

// TestKindOfKnownKeyIsAsked: a server with several keys shows the one that is known, and not another.
func TestKindOfKnownKeyIsAsked(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{HostKeys: []string{"ed25519", "ecdsa", "rsa"}})
	for kind, key := range s.HostKeys {
		opt := options(s, "store")
		opt.KnownHosts = []string{write(t, fmt.Sprintf("[127.0.0.1]:%d %s\n", s.Port, key))}
		if d, err := sftp.Open(t.Context(), opt); err != nil {
			t.Errorf("%s alone is known: %v", kind, err)
		} else {
			d.Close()
		}
	}
	only := testbed.StartSSHD(t, testbed.SSHDOptions{HostKeys: []string{"ecdsa"}})
	opt := options(only, "store")
	opt.KnownHosts = []string{write(t, fmt.Sprintf("[127.0.0.1]:%d %s\n", only.Port, s.HostKeys["rsa"]))}
	if hint := wantRefused(t, opt, "the kind that known_hosts has"); hint == "" {
		t.Error("no hint")
	}
}

func TestHashedKnownHosts(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	opt := options(s, "store")
	opt.KnownHosts = []string{write(t, fmt.Sprintf("[127.0.0.1]:%d %s\n", s.Port, s.HostKeys["ed25519"]))}
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-H", "-f", opt.KnownHosts[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if text, _ := os.ReadFile(opt.KnownHosts[0]); !strings.HasPrefix(string(text), "|1|") {
		t.Fatalf("the file is not hashed: %s", text)
	}
	open(t, opt)
}

// TestPortBelongsToTheKey: a key that is known for the host's port 22 is not known for another port.
func TestPortBelongsToTheKey(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	opt := options(s, "store")
	opt.KnownHosts = []string{write(t, "127.0.0.1 "+s.HostKeys["ed25519"]+"\n")}
	wantRefused(t, opt, "is not in")
}

func TestBrokenKnownHosts(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	opt := options(s, "store")
	opt.KnownHosts = []string{write(t, "127.0.0.1 ssh-ed25519 !!!\n")}
	if _, err := sftp.Open(t.Context(), opt); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("error %v, want a usage error with the line", err)
	}
}
