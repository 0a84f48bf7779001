package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
)

const switchedOff = "is set and does nothing"

func TestAliases(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "holdfast.yaml")
	if err := os.WriteFile(file, []byte(base+"jobs: {j: {sources: [db], store: main, recipients: [ops]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const source = "HOLDFAST_SOURCE=files:/srv/data"
	for _, test := range []struct {
		name     string
		environ  []string
		flags    config.Flags
		file     string
		store    string   // its path
		key      string   // the first recipient's key
		shown    []string // lines of config show
		warnings []string
		disabled bool
	}{
		{
			name: "all of them", environ: []string{source, "BACKUP_DIR=/srv/backups", "BACKUP_ENCRYPT_PASSPHRASE=" + canary, "BACKUP_RETENTION_DAYS=30", "ENABLE_BACKUPS=true"},
			store: "/srv/backups", key: "env:BACKUP_ENCRYPT_PASSPHRASE",
			shown: []string{
				"stores.default.path = /srv/backups (environment BACKUP_DIR)", "jobs.default.store = default (environment BACKUP_DIR)",
				"keys.passphrase.passphrase = env:BACKUP_ENCRYPT_PASSPHRASE (environment BACKUP_ENCRYPT_PASSPHRASE)",
				"jobs.default.recipients = passphrase (environment BACKUP_ENCRYPT_PASSPHRASE)",
				"ENABLE_BACKUPS = true (environment ENABLE_BACKUPS)", "BACKUP_RETENTION_DAYS = 30 (environment BACKUP_RETENTION_DAYS)",
			},
		},
		{
			name: "the default folder", environ: []string{source, "BACKUP_ENCRYPT_PASSPHRASE_FILE=pass"}, store: here + "/backups", key: "file:" + here + "/pass",
			shown: []string{"stores.default.path = " + here + "/backups (default of BACKUP_DIR)", "keys.passphrase.passphrase = file:" + here + "/pass (environment BACKUP_ENCRYPT_PASSPHRASE_FILE)"},
		},
		{name: "the default folder of a command without a job", environ: []string{"ENABLE_BACKUPS=on"}, store: here + "/backups"},
		{name: "as openssl seals", environ: []string{source, "BACKUP_DIR=/b", "BACKUP_ENCRYPT_PASSPHRASE=" + canary, "HOLDFAST_SEAL=openssl"}, store: "/b", key: "env:BACKUP_ENCRYPT_PASSPHRASE",
			shown: []string{"keys.passphrase.format = openssl (environment HOLDFAST_SEAL)", "jobs.default.seal = openssl (environment HOLDFAST_SEAL)"}},
		{name: "none of them", environ: []string{"BACKUP_DIR="}},
		{name: "Holdfast's own store goes before", environ: []string{source, "BACKUP_DIR=/srv/old", "HOLDFAST_STORE=/srv/new"}, store: "/srv/new",
			warnings: []string{"the variable BACKUP_DIR " + switchedOff + ": HOLDFAST_STORE goes before it"}},
		{name: "and says the same", environ: []string{source, "BACKUP_DIR=/srv/new/", "HOLDFAST_STORE=/srv/new"}, store: "/srv/new"},
		{name: "so does a flag, in silence", environ: []string{source, "BACKUP_DIR=/srv/old"}, flags: config.Flags{To: "/srv/new"}, store: "/srv/new"},
		{name: "Holdfast's own recipient goes before", environ: []string{source, "BACKUP_DIR=/b", "BACKUP_ENCRYPT_PASSPHRASE=" + canary, "HOLDFAST_RECIPIENT=" + recipient}, store: "/b", key: recipient,
			warnings: []string{"the variable BACKUP_ENCRYPT_PASSPHRASE " + switchedOff + ": HOLDFAST_RECIPIENT goes before it"}},
		{name: "so does a flag's, in silence", environ: []string{source, "BACKUP_DIR=/b", "BACKUP_ENCRYPT_PASSPHRASE=" + canary}, flags: config.Flags{Recipients: []string{recipient}}, store: "/b", key: recipient},
		{name: "not sealed", environ: []string{source, "BACKUP_DIR=/b", "BACKUP_ENCRYPT_PASSPHRASE=" + canary, "HOLDFAST_SEAL=none"}, store: "/b",
			warnings: []string{"BACKUP_ENCRYPT_PASSPHRASE " + switchedOff + ": backups are not sealed, because HOLDFAST_SEAL says none"}},
		{name: "a file goes before", environ: []string{"BACKUP_DIR=/b", "BACKUP_ENCRYPT_PASSPHRASE=" + canary}, file: file, store: "/srv/backups", key: recipient,
			warnings: []string{"the variable BACKUP_DIR " + switchedOff + ": there is a configuration file, " + file, "the variable BACKUP_ENCRYPT_PASSPHRASE " + switchedOff + ": there is a configuration file, " + file}},
		{name: "switched off, with a file too", environ: []string{"ENABLE_BACKUPS=False"}, file: file, store: "/srv/backups", key: recipient, disabled: true,
			shown: []string{"ENABLE_BACKUPS = false (environment ENABLE_BACKUPS)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := resolve(t, config.Inputs{Path: test.file, NoFile: test.file == "", Environ: test.environ, Flags: test.flags})
			if c.Store.Path != test.store {
				t.Errorf("the store is %q, want %q", c.Store.Path, test.store)
			}
			key := ""
			if len(c.Jobs) == 1 && len(c.Jobs[0].Recipients) == 1 {
				first := c.Jobs[0].Recipients[0]
				key = strings.Join(first.Recipients, "") + first.Passphrase.String()
			}
			if key != test.key {
				t.Errorf("it is sealed to %q, want %q", key, test.key)
			}
			lines := shown(c)
			for _, line := range test.shown {
				if !strings.Contains(lines, line+"\n") {
					t.Errorf("%s is not shown in\n%s", line, lines)
				}
			}
			if !slices.Equal(c.Warnings, test.warnings) && !(test.file != "" && slices.Equal(c.Warnings[1:], test.warnings)) {
				t.Errorf("warnings %q, want %q", c.Warnings, test.warnings)
			}
			if c.Disabled != test.disabled {
				t.Errorf("disabled: %v", c.Disabled)
			}
			if strings.Contains(lines+strings.Join(c.Warnings, "\n"), canary) {
				t.Error("the passphrase is shown")
			}
		})
	}
}

func TestAliasMistakes(t *testing.T) {
	for _, test := range []struct{ environ, want string }{
		{"ENABLE_BACKUPS=perhaps", `environment ENABLE_BACKUPS: must be true or false, not "perhaps"`},
		{"BACKUP_RETENTION_DAYS=0", `environment BACKUP_RETENTION_DAYS: must be between 1 and 36500, not "0"`},
		{"BACKUP_RETENTION_DAYS=30d", `environment BACKUP_RETENTION_DAYS: must be a whole number, not "30d"`},
		{"BACKUP_DIR=~/backups", `environment BACKUP_DIR: ~ is not expanded; write the whole path`},
		{"BACKUP_ENCRYPT_PASSPHRASE_FILE=~/pass", `environment BACKUP_ENCRYPT_PASSPHRASE_FILE: ~ is not expanded; write the whole path`},
		{"BACKUP_ENCRYPT_PASSPHRASE=" + canary + "\x00BACKUP_ENCRYPT_PASSPHRASE_FILE=/pass", `environment BACKUP_ENCRYPT_PASSPHRASE_FILE: BACKUP_ENCRYPT_PASSPHRASE is set too; give one of them`},
	} {
		_, err := config.Resolve(config.Inputs{NoFile: true, Now: now, Environ: strings.Split(test.environ, "\x00")})
		if err == nil || err.Error() != test.want {
			t.Errorf("%q:\n got %v\nwant %s", test.environ, err, test.want)
		}
	}
}
