package config_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/config"
)

// reference returns the reference that stands in a file as text.
func reference(t *testing.T, text string) config.SecretRef {
	t.Helper()
	env := func(name string) (string, bool) { return canary, name == "DB_PASSWORD" }
	c, err := config.Parse("/etc/hf/holdfast.yaml", []byte("version: 1\nsources: {a: {kind: postgres, password: "+text+"}}\n"), env, now)
	if err != nil {
		t.Fatal(err)
	}
	return c.Sources[0].Postgres.Password
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", canary+"\r\n", 0o600)
	blanks := file("blanks", " "+canary+"\n\n", 0o400)
	open := file("open", canary, 0o644)
	empty := file("empty", "\n", 0o600)
	huge := file("huge", strings.Repeat("x", 70<<10), 0o600)
	tests := []struct{ name, text, shown, want, err, hint string }{
		{"env", "{env: DB_PASSWORD}", "env:DB_PASSWORD", canary, "", ""},
		{"env in short", "env:DB_PASSWORD", "env:DB_PASSWORD", canary, "", ""},
		{"env not set", "env:OTHER", "env:OTHER", "", "bad usage: the variable OTHER is not set", "set it in"},
		{"file", "{file: " + good + "}", "file:" + good, canary, "", ""},
		{"file keeps all but one newline", "file:" + blanks, "file:" + blanks, " " + canary + "\n", "", ""},
		{"relative file", "file:pass", "file:/etc/hf/pass", "", "bad usage: read secret: open /etc/hf/pass: no such file or directory", "create the file"},
		{"open file", "file:" + open, "file:" + open, "", "bad usage: secret file " + open + " has mode 0644, so others than its owner can use it", "run: chmod 600 " + open},
		{"empty file", "file:" + empty, "file:" + empty, "", "bad usage: the secret file:" + empty + " is empty", "put the secret there"},
		{"huge file", "file:" + huge, "file:" + huge, "", "bad usage: secret file " + huge + " is larger than 64 KiB", "name the right file"},
		{"folder", "file:" + dir, "file:" + dir, "", "bad usage: secret file " + dir + " is a folder", "name a file"},
		{"exec", "{exec: [printf, '\\n %s\\n', " + canary + "]}", `exec:["printf","\\n %s\\n","` + canary + `"]`, canary, "", ""},
		{"exec in short", `'exec:["echo","a b"]'`, `exec:["echo","a b"]`, "a b", "", ""},
		{"no shell", "{exec: [echo, $HOME]}", `exec:["echo","$HOME"]`, "$HOME", "", ""},
		{"failing program", "{exec: [cat, /nowhere/" + canary + "]}", `exec:["cat","/nowhere/` + canary + `"]`, "", "bad usage: run cat for a secret: exit status 1", "by hand"},
		{"no program", "{exec: [no-such-program]}", `exec:["no-such-program"]`, "", `bad usage: run no-such-program for a secret: exec: "no-such-program": executable file not found in $PATH`, "by hand"},
		{"talkative program", "{exec: [head, -c, 100000, /dev/zero]}", `exec:["head","-c","100000","/dev/zero"]`, "", "bad usage: head printed more than 64 KiB for a secret", "alone"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ref := reference(t, test.text)
			if got := fmt.Sprintf("%v", ref); got != test.shown {
				t.Errorf("it shows as %s, want %s", got, test.shown)
			}
			secret, err := ref.Resolve(t.Context())
			if test.err != "" {
				if err == nil || err.Error() != test.err || !errors.Is(err, holdfast.ErrUsage) {
					t.Errorf("got %v, want %s", err, test.err)
				}
				if !strings.Contains(holdfast.Hint(err), test.hint) {
					t.Errorf("hint %q, want %q", holdfast.Hint(err), test.hint)
				}
				return
			}
			if err != nil || secret.Reveal() != test.want {
				t.Errorf("got %q, %v, want %q", secret.Reveal(), err, test.want)
			}
		})
	}
}

func TestSecretFileOfAFlag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(path, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if secret, err := config.SecretFile(path).Resolve(t.Context()); err != nil || secret.Reveal() != canary {
		t.Errorf("got %v", err)
	}
	if !config.SecretFile("").IsZero() {
		t.Error("no path is a reference")
	}
}

func TestSecretProgramEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := reference(t, "{exec: [sleep, '3600']}").Resolve(ctx); err == nil {
		t.Error("a cancelled call gave a secret")
	}
}
