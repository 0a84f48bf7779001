package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/seal"
)

// pgp is the path of a key that gpg made; what each is like says the README beside them.
func pgp(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../seal/testdata/openpgp", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// withKeys is a file with one job that seals to all of the keys.
func withKeys(keys ...string) string {
	text := "version: 1\nstores: {main: {kind: local, path: /srv}}\nsources: {db: {kind: sqlite, path: /db}}\nkeys:\n"
	var names []string
	for i, key := range keys {
		names = append(names, fmt.Sprintf("k%d", i+1))
		text += fmt.Sprintf("  k%d: %s\n", i+1, key)
	}
	return text + "jobs: {j: {sources: [db], store: main, recipients: [" + strings.Join(names, ", ") + "]}}\n"
}

func TestFormatFollowsFromTheRecipients(t *testing.T) {
	file := func(name string) string { return "{recipient_file: " + pgp(t, name) + "}" }
	const phrase = "{passphrase: env:PW, format: %s}"
	for name, c := range map[string]struct {
		keys []string
		want config.Seal
		ids  []string
	}{
		"age":                 {[]string{"{recipient: " + recipient + "}"}, config.SealAge, []string{recipient[:16]}},
		"age passphrase":      {[]string{"{passphrase: env:PW}"}, config.SealAge, []string{"passphrase"}},
		"curve":               {[]string{file("ops.asc")}, config.SealOpenPGP, []string{"openpgp-5cff018221912f72"}},
		"two of one file":     {[]string{file("two.gpg")}, config.SealOpenPGP, []string{"openpgp-5cff018221912f72", "openpgp-62c012bd1776b71a"}},
		"two files":           {[]string{file("ops.asc"), file("rsa.asc")}, config.SealOpenPGP, []string{"openpgp-5cff018221912f72", "openpgp-62c012bd1776b71a"}},
		"openpgp passphrase":  {[]string{fmt.Sprintf(phrase, "openpgp")}, config.SealOpenPGP, []string{"openpgp-passphrase"}},
		"key with passphrase": {[]string{file("rsa.asc"), fmt.Sprintf(phrase, "openpgp")}, config.SealOpenPGP, []string{"openpgp-62c012bd1776b71a", "openpgp-passphrase"}},
		"openssl passphrase":  {[]string{fmt.Sprintf(phrase, "openssl")}, config.SealOpenSSL, []string{"openssl-passphrase"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Parse("f.yaml", []byte(withKeys(c.keys...)), noEnv, now)
			if err != nil {
				t.Fatal(err)
			}
			job, err := cfg.Job("j")
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, key := range job.Recipients {
				for _, r := range key.SealRecipients() {
					ids = append(ids, r.KeyID())
				}
			}
			if job.Seal != c.want || fmt.Sprint(ids) != fmt.Sprint(c.ids) {
				t.Errorf("seal %s to %q, want %s to %q", job.Seal, ids, c.want, c.ids)
			}
			if err := cfg.MaySeal("j"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMistakesOfRecipients(t *testing.T) {
	secret, err := os.ReadFile(pgp(t, "ops.secret.asc"))
	if err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage.asc")
	if err := os.WriteFile(garbage, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"+canary+"\n-----END PGP PUBLIC KEY BLOCK-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const oneFormat = "; use recipients of one format in a job: age keys, or OpenPGP keys and OpenPGP passphrases, or one openssl passphrase"
	for name, c := range map[string]struct{ text, want string }{
		"age and openpgp": {withKeys("{recipient: "+recipient+"}", "{recipient_file: "+pgp(t, "ops.asc")+"}"),
			"f.yaml:7:52: jobs.j.recipients: one file cannot be sealed with age and with openpgp" + oneFormat},
		"two openpgp passphrases": {withKeys("{passphrase: env:A, format: openpgp}", "{passphrase: env:B, format: openpgp}"),
			"f.yaml:7:52: jobs.j.recipients: there can be one OpenPGP passphrase beside OpenPGP keys, not 2; leave all but one out"},
		"openssl passphrase and a key": {withKeys("{passphrase: env:A, format: openssl}", "{recipient_file: "+pgp(t, "ops.asc")+"}"),
			`f.yaml:7:53: jobs.j.recipients: key "k1" is a passphrase, which must be the only key of a job`},
		"format of a public key": {withKeys("{recipient: " + recipient + ", format: openpgp}"),
			"f.yaml:5:91: keys.k1.format: has a meaning only beside passphrase; a public key tells its format itself"},
		"unknown format": {withKeys("{passphrase: env:A, format: gpg}"), `f.yaml:5:35: keys.k1.format: "gpg" is not allowed; known: age, openpgp, openssl`},
		"other seal": {strings.Replace(withKeys("{passphrase: env:A, format: openpgp}"), "store: main,", "store: main, seal: age,", 1),
			"f.yaml:6:46: jobs.j.seal: the recipients are made for openpgp, not for age; remove the key seal, or choose other recipients"},
		"private key": {withKeys("{recipient_file: " + pgp(t, "ops.secret.asc") + "}"),
			"f.yaml:5:24: keys.k1.recipient_file: " + pgp(t, "ops.secret.asc") + ": an OpenPGP private key was given where a recipient belongs; give the public half, which `gpg --armor --export KEY` writes, and keep the private one off this host"},
		"private key in the file itself": {withKeys("{recipient: \"" + strings.ReplaceAll(string(secret), "\n", `\n`) + "\"}"),
			"f.yaml:5:19: keys.k1.recipient: an OpenPGP private key was given where a recipient belongs; give the public half, which `gpg --armor --export KEY` writes, and keep the private one off this host"},
		"garbage": {withKeys("{recipient_file: " + garbage + "}"),
			"f.yaml:5:24: keys.k1.recipient_file: " + garbage + ": the OpenPGP key cannot be read; give the file that `gpg --armor --export KEY` writes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("f.yaml", []byte(c.text), noEnv, now)
			if err == nil {
				t.Fatal("it was taken")
			}
			if err.Error() != c.want || !errors.Is(err, holdfast.ErrUsage) {
				t.Errorf("\n got %s\nwant %s", err, c.want)
			}
		})
	}
}

// A key that cannot be sealed to any more stops backups, and nothing else.
func TestOpenPGPKeysThatCannotBeSealedTo(t *testing.T) {
	for name, want := range map[string]string{
		"expired.asc": "keys.k1: OpenPGP key D63916B97BB7B9EF (expired <expired@example.com>) expired on 2020-12-31; export a key that can be sealed to with `gpg --armor --export`, and use it instead",
		"lapsed.asc":  "cannot be sealed to: its subkey",
		"signs.asc":   "has no subkey that encrypts",
		"revoked.asc": "was revoked",
		"dead.asc":    "was revoked",
	} {
		cfg, err := config.Parse("f.yaml", []byte(withKeys("{recipient_file: "+pgp(t, name)+"}")), noEnv, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := cfg.MaySeal("j"); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestOpenPGPKeyThatEndsSoon(t *testing.T) {
	text := []byte(withKeys("{recipient_file: " + pgp(t, "ending.asc") + "}"))
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{now.AddDate(0, -2, 0), ""},
		{now, "key k1 expires on 2026-12-10; make its successor now"},
	} {
		cfg, err := config.Parse("f.yaml", text, noEnv, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(cfg.Warnings, "\n"); got != c.want {
			t.Errorf("at %s: warnings %q, want %q", c.at, got, c.want)
		}
	}
}

// --recipient and HOLDFAST_RECIPIENT take a recipient, the name of a key, the path of a file, and a whole armored key.
func TestRecipientByFile(t *testing.T) {
	armored, err := os.ReadFile(pgp(t, "ops.asc"))
	if err != nil {
		t.Fatal(err)
	}
	ops, rsa, two := pgp(t, "ops.asc"), pgp(t, "rsa.asc"), pgp(t, "two.gpg")
	dir := t.TempDir()
	t.Chdir(dir)
	ages := filepath.Join(dir, "ops.pub")
	if err := errors.Join(os.WriteFile(ages, []byte("# ops\n"+recipient+"\n"), 0o600), os.WriteFile(filepath.Join(dir, "ops.asc"), armored, 0o600)); err != nil {
		t.Fatal(err)
	}
	const id = "openpgp-5cff018221912f72"
	for name, in := range map[string]config.Inputs{
		"flag":                  {Flags: config.Flags{Recipients: []string{"ops.asc"}}},
		"flag, whole path":      {Flags: config.Flags{Recipients: []string{ops}}},
		"flag, binary":          {Flags: config.Flags{Recipients: []string{two}}},
		"flag, recipients file": {Flags: config.Flags{RecipientsFile: "ops.asc"}},
		"flag, the key itself":  {Flags: config.Flags{Recipients: []string{string(armored)}}},
		"flag, age file":        {Flags: config.Flags{Recipients: []string{"ops.pub"}}},
		"variable":              {Environ: []string{"HOLDFAST_RECIPIENT=./ops.asc"}},
		"variable, the key":     {Environ: []string{"HOLDFAST_RECIPIENT=" + string(armored)}},
		"variable, two":         {Environ: []string{"HOLDFAST_RECIPIENTS=ops.asc," + rsa}},
		"variable, file":        {Environ: []string{"HOLDFAST_RECIPIENTS_FILE=" + ops}},
	} {
		t.Run(name, func(t *testing.T) {
			in.Now, in.Flags.Sources, in.Flags.To = now, []string{"files:" + dir}, dir
			cfg, err := config.Resolve(in)
			if err != nil {
				t.Fatal(err)
			}
			job, err := cfg.Job("")
			if err != nil {
				t.Fatal(err)
			}
			want, seals := id, config.SealOpenPGP
			if name == "flag, age file" {
				want, seals = recipient[:16], config.SealAge
			}
			if got := job.Recipients[0].SealRecipients(); len(got) == 0 || got[0].KeyID() != want || job.Seal != seals {
				t.Errorf("sealed as %s to %v", job.Seal, got)
			}
			for _, s := range cfg.Show() {
				if strings.Contains(s.Value, "BEGIN PGP") {
					t.Errorf("%s shows a whole key", s.Path)
				}
			}
		})
	}
	in := config.Inputs{Now: now, Flags: config.Flags{Sources: []string{"files:" + dir}, To: dir, Recipients: []string{"opps.asc"}}}
	if _, err := config.Resolve(in); !errors.Is(err, holdfast.ErrUsage) || !strings.HasPrefix(err.Error(), "flag --recipient: cannot be read: stat ") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestTemplateWithOpenPGPKeys(t *testing.T) {
	armored, err := os.ReadFile(pgp(t, "ops.asc"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []config.Key{
		{Name: "k1", Recipients: []string{string(armored)}}, {Name: "k1", Recipients: []string{string(armored)}, File: pgp(t, "ops.asc")},
	} {
		job := config.Job{
			Name: "j", Store: config.Store{Name: "main", Kind: "local", Path: "/srv"}, Recipients: []config.Key{key}, Seal: config.SealOpenPGP,
			Sources: []config.Source{{Name: "db", Kind: holdfast.KindSQLite, SQLite: config.SQLite{Path: "/db"}}}, Compression: seal.Zstd, Level: 1,
		}
		text := config.Template(config.TemplateOptions{Job: job})
		cfg, err := config.Parse("f.yaml", text, noEnv, now)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if got := cfg.Keys[0].SealRecipients(); len(got) != 1 || got[0].KeyID() != "openpgp-5cff018221912f72" {
			t.Errorf("read as %v", got)
		}
	}
}
