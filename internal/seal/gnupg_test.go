package seal_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// gnupg is a key ring of the stock gpg in a folder of its own.
type gnupg struct {
	t    testing.TB
	home string
}

func newGnuPG(t testing.TB) *gnupg {
	t.Helper()
	// The agent's socket is in it: the path must be short.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	g := &gnupg{t, home}
	t.Cleanup(func() {
		kill := exec.CommandContext(context.Background(), "gpgconf", "--homedir", home, "--kill", "all")
		if out, err := kill.CombinedOutput(); err != nil {
			t.Errorf("end gpg's agent: %v: %s", err, out)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return g
}

// try runs gpg on input.
func (g *gnupg) try(input []byte, args ...string) ([]byte, error) {
	args = slices.Concat([]string{"--homedir", g.home, "--batch", "--no-tty", "--quiet", "--trust-model", "always", "--pinentry-mode", "loopback"}, args)
	cmd := exec.CommandContext(g.t.Context(), "gpg", args...)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &complaint
	output, err := cmd.Output()
	if err != nil {
		err = &exec.Error{Name: cmd.String() + ": " + complaint.String(), Err: err}
	}
	return output, err
}

func (g *gnupg) run(input []byte, args ...string) []byte {
	g.t.Helper()
	output, err := g.try(input, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return output
}

// file writes content into the folder of the key ring and returns its path.
func (g *gnupg) file(name, content string) string {
	g.t.Helper()
	path := filepath.Join(g.home, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// kinds of keys as --quick-generate-key and --quick-add-key name them.
var gnupgKinds = []struct{ name, primary, subkey string }{
	{"rsa4096", "rsa4096", "rsa4096"}, {"curve25519", "ed25519", "cv25519"},
}

// key makes a key pair called name, without a passphrase unless one is given, and returns its fingerprint.
func (g *gnupg) key(name, primary, subkey, passphrase string) string {
	g.t.Helper()
	phrase := []string{"--passphrase", passphrase}
	g.run(nil, slices.Concat(phrase, []string{"--quick-generate-key", name, primary, "cert,sign", "never"})...)
	fingerprint := g.fingerprint(name)
	if subkey != "" {
		g.run(nil, slices.Concat(phrase, []string{"--quick-add-key", fingerprint, subkey, "encr", "never"})...)
	}
	return fingerprint
}

// fingerprint is that of the primary key called name.
func (g *gnupg) fingerprint(name string) string {
	g.t.Helper()
	for _, line := range bytes.Split(g.run(nil, "--with-colons", "--list-keys", name), []byte("\n")) {
		if fields := bytes.Split(line, []byte(":")); string(fields[0]) == "fpr" {
			return string(fields[9])
		}
	}
	g.t.Fatalf("gpg has no key %s", name)
	return ""
}
