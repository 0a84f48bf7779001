package archive_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
)

// The first command that RESTORE.txt gives for an item is typed into a shell, beside the objects and what opens them.
func TestRecoveryTextWithStockTools(t *testing.T) {
	private, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	pgpPrivate, pgpRecipient, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Ops <ops@example.com>", holdfast.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	phrase := holdfast.NewSecret("correct horse")
	dir := t.TempDir()
	for name, content := range map[string]holdfast.Secret{"identity.txt": private, "identity.asc": pgpPrivate, "passphrase.txt": phrase} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content.Reveal()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to := func(text string) []seal.Recipient {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			t.Fatal(err)
		}
		return []seal.Recipient{r}
	}
	passphrase := func(f seal.Format) []seal.Recipient {
		p, err := seal.NewPassphraseFor(f, phrase)
		if err != nil {
			t.Fatal(err)
		}
		return []seal.Recipient{p}
	}
	for name, opt := range map[string]seal.Options{
		"zstd and age":            {Recipients: to(recipient)},
		"gzip and age":            {Compression: seal.Gzip, Recipients: to(recipient)},
		"age":                     {Compression: seal.None, Recipients: to(recipient)},
		"zstd and a key of gpg":   {Recipients: to(pgpRecipient)},
		"gzip and a key of gpg":   {Compression: seal.Gzip, Recipients: to(pgpRecipient)},
		"a key of gpg":            {Compression: seal.None, Recipients: to(pgpRecipient)},
		"gpg, key and passphrase": {Recipients: slices.Concat(to(pgpRecipient), passphrase(seal.OpenPGP))},
		"gpg, passphrase":         {Recipients: passphrase(seal.OpenPGP)},
		"zstd and openssl":        {Recipients: passphrase(seal.OpenSSL)},
		"gzip and openssl":        {Compression: seal.Gzip, Recipients: passphrase(seal.OpenSSL)},
		"openssl":                 {Compression: seal.None, Recipients: passphrase(seal.OpenSSL)},
		"zstd":                    {Plain: true},
		"nothing":                 {Compression: seal.None, Plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.identities = nil
			for _, content := range []holdfast.Secret{private, pgpPrivate} {
				found, err := seal.ParseIdentities(strings.NewReader(content.Reveal()))
				if err != nil {
					t.Fatal(err)
				}
				k.identities = append(k.identities, found...)
			}
			k.identities = append(k.identities, passphrase(seal.Age)[0].(*seal.Passphrase))
			plainable(t, k, 0, func(o *archive.Options) { o.Seal = opt })
			folder := t.TempDir()
			for name, data := range objects(k.memory) {
				if strings.HasPrefix(name, "data/") {
					if err := os.WriteFile(filepath.Join(folder, filepath.Base(name)), []byte(data), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			text := restoreText(t, k)
			home := gpgHome(t)
			for line := range strings.Lines(text) {
				line = strings.TrimSpace(line)
				command, target, found := strings.Cut(line, " > ")
				if !strings.HasPrefix(line, "gpg --import ") && (!found || target != "auth.sqlite") {
					continue
				}
				for _, name := range []string{"identity.txt", "identity.asc", "passphrase.txt"} {
					command = strings.ReplaceAll(command, name, filepath.Join(dir, name))
				}
				run := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", command)
				run.Dir, run.Env = folder, append(os.Environ(), "GNUPGHOME="+home)
				out, err := run.Output()
				if err != nil || found && !bytes.Equal(out, contents["auth.sqlite"]) {
					t.Errorf("%s: %d bytes, want %d: %v", command, len(out), len(contents["auth.sqlite"]), err)
				}
				if found {
					return
				}
			}
			t.Errorf("no line brings auth.sqlite back:\n%s", text)
		})
	}
}

// gpgHome is a folder for gpg. The socket of its agent is in it, so its path must be short.
func gpgHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.Background(), "gpgconf", "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("end gpg's agent: %v: %s", err, out)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return home
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
