package archive_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/archive"
	"holdfast/internal/seal"
)

// The first command that RESTORE.txt gives for an item is typed into a shell, beside the objects and the identity.
func TestRecoveryTextWithStockTools(t *testing.T) {
	private, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	to, err := seal.ParseRecipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		opt  seal.Options
	}{
		{"zstd and age", seal.Options{Recipients: []seal.Recipient{to}}},
		{"gzip and age", seal.Options{Compression: seal.Gzip, Recipients: []seal.Recipient{to}}},
		{"age", seal.Options{Compression: seal.None, Recipients: []seal.Recipient{to}}},
		{"zstd", seal.Options{Plain: true}},
		{"nothing", seal.Options{Compression: seal.None, Plain: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			k.identities, err = seal.ParseIdentities(strings.NewReader(private.Reveal()))
			if err != nil {
				t.Fatal(err)
			}
			plainable(t, k, 0, func(opt *archive.Options) { opt.Seal = c.opt })
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "identity.txt"), []byte(private.Reveal()+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, data := range objects(k.memory) {
				if strings.HasPrefix(name, "data/") {
					if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(data), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			text := restoreText(t, k)
			for line := range strings.Lines(text) {
				command, target, found := strings.Cut(strings.TrimSpace(line), " > ")
				if !found || !strings.HasPrefix(command, "cat ") {
					continue
				}
				if target == "auth.sqlite" {
					run := exec.CommandContext(t.Context(), "sh", "-c", command)
					run.Dir = dir
					out, err := run.Output()
					if err != nil || !bytes.Equal(out, contents["auth.sqlite"]) {
						t.Errorf("%s: %d bytes, want %d: %v", command, len(out), len(contents["auth.sqlite"]), err)
					}
					return
				}
			}
			t.Errorf("no line brings auth.sqlite back:\n%s", text)
		})
	}
}

// restoreText joins the parts of RESTORE.txt.
func restoreText(t *testing.T, k *kit) string {
	t.Helper()
	var text strings.Builder
	for _, name := range k.memory.Names() {
		if strings.HasPrefix(filepath.Base(name), "RESTORE.txt") {
			data, _ := k.memory.Bytes(name)
			text.Write(data)
		}
	}
	return text.String()
}

func TestRecoveryText(t *testing.T) {
	k := newKit(t)
	k.mustBackup(t, 0)
	text := restoreText(t, k)
	for _, want := range []string{
		"Backup aaaaaaaaaa of job app, host host, begun 2026-07-01 12:00:00 UTC.",
		"cat app.sql.zst.age | age -d -i identity.txt | zstd -d | psql -X -v ON_ERROR_STOP=1 DATABASE",
		"cat auth.sqlite.zst.age auth.sqlite.zst.age.[0-9][0-9][0-9] | age -d -i identity.txt | zstd -d > auth.sqlite",
		"| tar --xattrs",
		"NOT in this backup:\n  lost (files, failed)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("RESTORE.txt lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "the disk with it is gone") {
		t.Error("RESTORE.txt tells what is kept sealed")
	}
}
