package main_test

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/testbed"
)

// guest is a virtual machine with a PostgreSQL server, a configuration of Holdfast and an encrypted volume on the way: the only place where
// a test can open one.
type guest struct {
	*testbed.VM
	t *testing.T
}

const (
	guestConfig = "/etc/holdfast/holdfast.yaml"
	guestData   = "/var/lib/postgresql/main"
	guestBin    = "/usr/lib/postgresql/15/bin/"
	guestKeys   = "/run/keys/"
)

// The passphrases of the tests.
var passphrases = map[string]string{
	"operational": "calamity capitol getting violet cruelly creature sister swinging",
	"recovery":    "lividly backpedal buckshot poncho evolution flight tinsmith anvil",
	"new":         "rumble appendage undergrad sectional suitable rants premium splatter",
	"newer":       "gatherer handrail snap duplicate semisoft dismay unstuffed panhandle",
	"wrong":       "masculine audio muppet radish gigantic overtime kleenex tint",
}

// startGuest boots a machine with the program and a running server that has a database.
func startGuest(t *testing.T, opt testbed.VMOptions) *guest {
	t.Helper()
	opt.Files = map[string]string{"/usr/local/bin/holdfast": testbed.StaticProgram(t, "holdfast/cmd/holdfast")}
	g := &guest{testbed.StartVM(t, opt), t}
	g.Must(t, "mkdir", "-p", "/srv", "/etc/holdfast", "/root/recovery")
	g.keys()
	g.postgres(guestBin+"initdb", "--pgdata="+guestData, "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=1")
	g.startServer()
	g.sql("CREATE ROLE app LOGIN", "CREATE DATABASE shop OWNER app")
	g.shop("CREATE TABLE item AS SELECT i AS id, md5(i::text) AS text FROM generate_series(1, 5000) i", "ALTER TABLE item OWNER TO app")
	g.Must(t, "holdfast", "init", "--yes", "--config", guestConfig, "--state", "/var/lib/holdfast", "--source", "db=postgres://postgres@/shop?host=/tmp", "--store", "/srv/store", "--identity-out", guestIdentity)
	g.Put(t, guestConfig, append(g.Get(t, guestConfig), guestVolume...), 0o600)
	return g
}

const guestIdentity = "/root/recovery/identity.txt"

// guestVolume is what the configuration says of the volume.
const guestVolume = `
volumes:
  pg-data:
    device: /srv/pg.luks
    mount: /srv/pg
    owner: postgres
    job: app
    source: db
    server:
      stop: [` + guestBin + `pg_ctl, stop, --wait, --mode=fast, --silent, "--pgdata=` + guestData + `"]
      start: [` + guestBin + `pg_ctl, start, --wait, --timeout=300, --silent, "--pgdata=` + guestData + `", --log=/tmp/server.log, "--options=-c unix_socket_directories=/tmp -c listen_addresses="]
      health: [` + guestBin + `pg_isready, --quiet, --host=/tmp]
      user: postgres
    holders:
      - {name: Anna, role: operational, mfa: true, contact: "+49 30 1"}
      - {name: Ben, role: recovery, contact: "+49 30 2"}
    tell: [Anna, Ben]
`

// postgres runs a program as the server's user.
func (g *guest) postgres(args ...string) string {
	g.t.Helper()
	return g.Must(g.t, append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "env", "HOME=/tmp"}, args...)...)
}

func (g *guest) startServer() {
	g.t.Helper()
	g.postgres(guestBin+"pg_ctl", "start", "--wait", "--timeout=300", "--silent", "--pgdata="+guestData, "--log=/tmp/server.log", "--options=-c unix_socket_directories=/tmp -c listen_addresses= -c fsync=on")
}

func (g *guest) sql(statements ...string) string {
	g.t.Helper()
	return g.psql("postgres", "postgres", statements...)
}
func (g *guest) shop(statements ...string) string {
	g.t.Helper()
	return g.psql("postgres", "shop", statements...)
}

func (g *guest) psql(role, database string, statements ...string) string {
	g.t.Helper()
	args := []string{guestBin + "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--host=/tmp", "--username=" + role, "--dbname=" + database}
	for _, s := range statements {
		args = append(args, "--command="+s)
	}
	return strings.TrimSpace(g.Must(g.t, args...))
}

// holdfast runs the program, which is to end with the exit code, and to say each text.
func (g *guest) holdfast(exit int, says []string, args ...string) string {
	g.t.Helper()
	output, code := g.Run(g.t, append([]string{"holdfast"}, args...)...)
	if code != exit {
		g.t.Fatalf("holdfast %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, exit, output)
	}
	for _, text := range says {
		if !strings.Contains(output, text) {
			g.t.Errorf("holdfast %s does not say %q:\n%s", strings.Join(args, " "), text, output)
		}
	}
	for _, secret := range passphrases {
		if strings.Contains(output, secret) {
			g.t.Errorf("holdfast %s shows a passphrase", strings.Join(args, " "))
		}
	}
	return output
}

func key(name string) string { return guestKeys + name }

// TestVolume makes a volume on a real kernel, opens and closes it in every way, and moves a server onto it and back.
func TestVolume(t *testing.T) {
	t.Parallel()
	g := startGuest(t, testbed.VMOptions{})
	for _, part := range []struct {
		name string
		do   func(*guest)
	}{
		{"create", (*guest).create},
		{"unlock and lock", (*guest).unlockAndLock},
		{"the guard", (*guest).guard},
		{"keys", (*guest).rotateKeys},
		{"the plan and the rehearsal", (*guest).rehearse},
		{"killed on the way", (*guest).killMigrations},
		{"moved, with rows written meanwhile", (*guest).migrate},
		{"the way back after writes", (*guest).wayBack},
		{"an emergency", (*guest).emergency},
		{"another volume key, while it works", (*guest).reencrypt},
		{"a power cut", (*guest).powerCut},
		{"what sealing costs", (*guest).benchmark},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.do(&guest{g.VM, t}) }) {
			return // what follows builds on it
		}
	}
}

func (g *guest) create() {
	keys := []string{"--operational-file", key("operational"), "--recovery-file", key("recovery"), "--kdf-memory", "1", "--kdf-iterations", "4"}
	create := func(args ...string) []string {
		return slices.Concat([]string{"volume", "create", "--name", "pg-data"}, args, keys)
	}
	g.holdfast(0, []string{"mounted on /srv/pg", "slot 0 operational", "slot 1 recovery", "512 bits"}, create("--size", "300M")...)
	g.holdfast(0, []string{"mounted", "slot 0", "operational", "argon2id with 1 MiB", "cannot be written"}, "volume", "status")
	if got := g.Must(g.t, "stat", "-c", "%a %U", "/srv/pg/pgdata"); got != "700 postgres\n" {
		g.t.Errorf("the data folder is %q", got)
	}
	g.holdfast(0, []string{"volume-pg-data"}, "list")
}

func (g *guest) unlockAndLock() {
	unlock := func(key string) []string {
		return []string{"volume", "unlock", "pg-data", "--passphrase-file", guestKeys + key}
	}
	inside := g.Start(testbed.VMCommand{Args: []string{"sh", "-c", "cd /srv/pg/pgdata && echo inside && sleep 1000"}})
	inside.Await(g.t, "inside")
	g.holdfast(1, []string{"in use", "sh"}, "volume", "lock", "pg-data")
	inside.Signal(syscall.SIGKILL)
	inside.Wait()
	g.holdfast(0, []string{"is locked"}, "volume", "lock", "pg-data")
	g.holdfast(0, []string{"locked"}, "volume", "list")
	g.holdfast(1, []string{"no key available with this passphrase"}, unlock("wrong")...)
	g.holdfast(0, []string{"mounted on /srv/pg"}, unlock("recovery")...)
	g.holdfast(0, nil, "volume", "lock", "pg-data")
	g.holdfast(0, []string{"mounted on /srv/pg"}, unlock("operational")...)
	g.holdfast(0, []string{"mounted on /srv/pg"}, unlock("operational")...) // it is so already
	g.holdfast(0, []string{"VOLUME_UNLOCK", "failed", "wrong passphrase", "by the recovery key"}, "audit", "show", "--volume", "pg-data")
	g.holdfast(0, []string{"canary"}, "volume", "verify", "--full", "--operational-file", key("operational"), "--recovery-file", key("recovery"))
	g.holdfast(4, nil, "volume", "verify", "--operational-file", key("recovery"), "--recovery-file", key("recovery"))
}

// guard has an entrypoint try to make a database where the volume is not mounted, as that of a container image does.
func (g *guest) guard() {
	g.holdfast(0, nil, "volume", "lock", "pg-data")
	for _, args := range [][]string{
		{guestBin + "initdb", "--pgdata=/srv/pg/pgdata", "--username=postgres"},
		{"mkdir", "-p", "/srv/pg/pgdata"},
	} {
		if output, exit := g.Run(g.t, append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"}, args...)...); exit == 0 {
			g.t.Errorf("%s went well on the bare mount point:\n%s", args[0], output)
		}
	}
	if output, exit := g.Run(g.t, "mkdir", "/srv/pg/pgdata"); exit == 0 {
		g.t.Errorf("root made a folder in the bare mount point: %s", output)
	}
	g.holdfast(0, []string{"cannot be written"}, "volume", "status")
	g.holdfast(0, nil, "volume", "guard", "--off")
	g.Must(g.t, "mkdir", "/srv/pg/pgdata")
	g.holdfast(4, []string{"covered"}, "volume", "status")
	g.holdfast(1, []string{"/srv/pg"}, "volume", "unlock", "--passphrase-file", key("operational"))
	g.Must(g.t, "rmdir", "/srv/pg/pgdata")
	g.holdfast(0, nil, "volume", "guard")
	g.holdfast(0, nil, "volume", "unlock", "--passphrase-file", key("operational"))
}

func (g *guest) rotateKeys() {
	g.holdfast(0, []string{"is a new one", "older copies of the header open volume pg-data with the old passphrases"}, "volume", "key", "rotate", "--role", "operational",
		"--old-file", key("operational"), "--new-file", key("new"), "--other-file", key("recovery"), "--reason", "a year is over")
	g.holdfast(1, []string{"no key available"}, "volume", "key", "check", "--role", "operational", "--operational-file", key("operational"))
	g.holdfast(0, []string{"the operational key opens", "the recovery key opens"}, "volume", "key", "check", "--operational-file", key("new"), "--recovery-file", key("recovery"))
	g.holdfast(2, []string{"two"}, "volume", "key", "remove", "--slot", "1", "--confirm", "pg-data", "--with-file", key("new"))
	g.holdfast(0, nil, "volume", "key", "rotate", "--role", "operational", "--old-file", key("new"), "--new-file", key("operational"), "--other-file", key("recovery"))
}

// migrateTo begins a migration.
func migrateTo(args ...string) []string {
	return append([]string{"volume", "migrate", "--from", guestData, "--to", "pg-data"}, args...)
}

func (g *guest) rehearse() {
	g.holdfast(1, []string{"NO-GO", "proven"}, migrateTo("--plan")...)
	g.holdfast(0, nil, "backup")
	g.holdfast(0, nil, "drill", "--identity", guestIdentity)
	g.holdfast(0, []string{"go: proven backup", "go: server"}, migrateTo("--plan")...)
	before := g.Must(g.t, "stat", "-c", "%i %Y", guestData+"/global/pg_control")
	g.holdfast(0, []string{"the dry run went well", "per GB"}, migrateTo("--dry-run", "--operational-file", key("operational"), "--recovery-file", key("recovery"))...)
	g.holdfast(0, []string{"There is no migration", "per GB"}, "volume", "migrate", "status")
	if left := g.Must(g.t, "find", "/srv/pg", "/var/lib/postgresql", "-maxdepth", "1", "-name", "*rehearsal*"); left != "" {
		g.t.Errorf("the rehearsal left %q", left)
	}
	if after := g.Must(g.t, "stat", "-c", "%i %Y", guestData+"/global/pg_control"); before == "" || after == "" {
		g.t.Error("the control file is gone")
	}
}

// stepsOfMove are some of what a migration says before each step of it. All of them are tried on a real server, without a volume, by the tests of
// internal/cli, and with each function failing or dying by those of internal/migration.
func stepsOfMove() []string {
	return []string{"copy while the server runs", "switch to the volume"}
}

// killMigrations kills the program as each step begins. What comes of resume is the server on one of the two directories with every row, and
// applications let in.
func (g *guest) killMigrations() {
	for _, step := range stepsOfMove() {
		g.t.Run(step, func(t *testing.T) {
			g := &guest{g.VM, t}
			g.shop("INSERT INTO item VALUES (-1, 'written before " + step + "')")
			want := g.shop("SELECT count(*), md5(string_agg(text, ',' ORDER BY id, text)) FROM item")
			program := g.Start(testbed.VMCommand{Args: append([]string{"holdfast"}, migrateTo("--confirm", "pg-data")...)})
			program.Await(t, step)
			program.Kill()
			if output, _, err := program.Wait(); err == nil {
				t.Fatalf("it was not killed:\n%s", output)
			}
			output, code := g.Run(t, "holdfast", "volume", "migrate", "resume", "pg-data")
			t.Logf("resume ended with %d", code)
			if got := g.psql("app", "shop", "SELECT count(*), md5(string_agg(text, ',' ORDER BY id, text)) FROM item"); got != want {
				t.Errorf("an application sees %q, and saw %q before\n%s", got, want, output)
			}
			status := g.holdfast(0, nil, "volume", "migrate", "status", "pg-data")
			moved := strings.Contains(status, "was moved to")
			if !moved && !strings.Contains(status, "has its old directory, as it was") {
				t.Fatalf("neither moved nor back (%d):\n%s\n%s", code, output, status)
			}
			if moved {
				// Back by hand, as somebody would who has seen enough: nothing was written but what the test itself knows.
				g.backByHand()
			}
		})
	}
}

// backByHand puts the old directory in its place again and forgets the migration, so that the next one begins as the first did.
func (g *guest) backByHand() {
	g.t.Helper()
	g.postgres(guestBin+"pg_ctl", "stop", "--wait", "--mode=fast", "--silent", "--pgdata="+guestData)
	g.Must(g.t, "rm", guestData)
	g.Must(g.t, "mv", guestData+".before-pg-data", guestData)
	g.Must(g.t, "rm", "-rf", "/srv/pg/pgdata", "/var/lib/holdfast/volumes/pg-data.migration.json")
	g.Must(g.t, "install", "-d", "-o", "postgres", "-g", "postgres", "-m", "0700", "/srv/pg/pgdata")
	g.startServer()
	g.sql("ALTER ROLE app LOGIN", "ALTER ROLE app RESET holdfast.login")
}

func (g *guest) migrate() {
	g.shop("CREATE TABLE moving (at timestamptz DEFAULT clock_timestamp())", "ALTER TABLE moving OWNER TO app")
	// An application that writes for as long as it is let in.
	writer := g.Start(testbed.VMCommand{Args: []string{"sh", "-c", "echo begun; while :; do " + guestBin + "psql --no-psqlrc --quiet --host=/tmp --username=app --dbname=shop --command='INSERT INTO moving DEFAULT VALUES RETURNING 1' >>/tmp/written 2>/dev/null; done"}})
	writer.Await(g.t, "begun")
	output := g.holdfast(0, []string{"was moved to /srv/pg/pgdata", "Downtime", "stopped", "final-copied"}, migrateTo("--confirm", "pg-data")...)
	g.t.Log(output)
	writer.Signal(syscall.SIGKILL)
	writer.Wait()
	acknowledged := strings.Count(string(g.Get(g.t, "/tmp/written")), "(1 row)")
	if there, err := strconv.Atoi(g.shop("SELECT count(*) FROM moving")); err != nil || acknowledged == 0 || there < acknowledged {
		g.t.Errorf("%d rows were acknowledged, %d are there (%v)", acknowledged, there, err)
	}
	if got := g.sql("SELECT setting FROM pg_settings WHERE name = 'data_directory'"); got != guestData {
		g.t.Errorf("the server says %q", got)
	}
	if got := strings.TrimSpace(g.Must(g.t, "readlink", "-f", guestData)); got != "/srv/pg/pgdata" {
		g.t.Errorf("its directory is %q", got)
	}
	g.holdfast(1, []string{"in use", "postgres"}, "volume", "lock")
	g.holdfast(1, []string{"NO-GO: migration"}, migrateTo("--confirm", "pg-data")...)
	g.holdfast(0, []string{"VOLUME_MIGRATED"}, "audit", "show", "--volume", "pg-data")
}

func (g *guest) wayBack() {
	g.shop("INSERT INTO item VALUES (-2, 'written on the volume')")
	g.holdfast(2, []string{"reason"}, "volume", "migrate", "rollback", "--confirm", "pg-data")
	g.t.Log(g.holdfast(0, []string{"restored from backup", "The way back took"}, "volume", "migrate", "rollback", "--reason", "to try it", "--confirm", "pg-data", "--identity", guestIdentity))
	if got := g.psql("app", "shop", "SELECT text FROM item WHERE id = -2"); got != "written on the volume" {
		g.t.Errorf("what was written on the volume is %q", got)
	}
	if got := strings.TrimSpace(g.Must(g.t, "readlink", "-f", guestData)); strings.HasPrefix(got, "/srv/pg") {
		g.t.Errorf("the server's directory is %q", got)
	}
	g.holdfast(0, []string{"VOLUME_ROLLED_BACK"}, "audit", "show", "--volume", "pg-data")
	g.holdfast(0, []string{"was removed"}, "volume", "migrate", "finish", "--reason", "to begin anew", "--confirm", "pg-data", "--identity", guestIdentity)
}

func (g *guest) emergency() {
	g.holdfast(0, nil, "volume", "lock")
	e := []string{"volume", "unlock", "--passphrase-file", key("recovery"), "--emergency", "--new-operational-file", key("new"), "--new-recovery-file", key("newer")}
	g.holdfast(2, []string{"--witness twice"}, append(e, "--reason", "Anna is away", "--witness", "Ben", "--id-seen", "Ben", "--envelope", "1")...)
	g.holdfast(0, []string{"is open", "the operational key is a new one", "the recovery key is a new one"}, append(e, "--reason", "Anna is away", "--witness", "Ben", "--witness", "Cleo", "--id-seen", "Ben, card 4711", "--envelope", "1")...)
	g.holdfast(0, nil, "volume", "key", "check", "--operational-file", key("new"), "--recovery-file", key("newer"))
	for _, old := range []string{"operational", "recovery"} {
		g.holdfast(1, []string{"no key available"}, "volume", "key", "check", "--role", "operational", "--operational-file", key(old))
	}
	g.holdfast(0, []string{"VOLUME_EMERGENCY", "Anna is away", "Cleo", "card 4711"}, "audit", "show", "--volume", "pg-data")
}

func (g *guest) reencrypt() {
	g.Must(g.t, "cryptsetup", "luksHeaderBackup", "/srv/pg.luks", "--header-backup-file", "/run/old-header")
	g.Must(g.t, "sh", "-c", "echo precious >/srv/pg/pgdata/file && sync")
	g.holdfast(2, []string{"a reason"}, "volume", "reencrypt", "--confirm", "pg-data")
	g.holdfast(0, []string{"another volume key"}, "volume", "reencrypt", "--reason", "envelope found open", "--confirm", "pg-data", "--operational-file", key("new"), "--recovery-file", key("newer"))
	g.holdfast(0, nil, "volume", "verify", "--operational-file", key("new"), "--recovery-file", key("newer"))
	g.holdfast(0, nil, "volume", "lock")
	// The old header still opens, with a volume key that opens nothing of what is there.
	g.Must(g.t, "cryptsetup", "open", "--header", "/run/old-header", "--key-file", "/run/keys/new.exact", "/srv/pg.luks", "old")
	if output, exit := g.Run(g.t, "blkid", "-p", "/dev/mapper/old"); exit == 0 {
		g.t.Errorf("an old header opens what is there: %s", output)
	}
	g.Must(g.t, "cryptsetup", "close", "old")
	g.holdfast(0, nil, "volume", "unlock", "--passphrase-file", key("new"))
	if got := string(g.Get(g.t, "/srv/pg/pgdata/file")); got != "precious\n" {
		g.t.Errorf("the file is %q", got)
	}
}

func (g *guest) powerCut() {
	g.Crash(g.t)
	g.keys()
	g.holdfast(0, []string{"locked"}, "volume", "status")
	if output, exit := g.Run(g.t, "mkdir", "/srv/pg/x"); exit == 0 {
		g.t.Errorf("the bare mount point takes a folder after a power cut: %s", output)
	}
	g.holdfast(0, []string{"is open"}, "volume", "unlock", "--passphrase-file", key("new"))
	if got := string(g.Get(g.t, "/srv/pg/pgdata/file")); got != "precious\n" {
		g.t.Errorf("the file is %q", got)
	}
}

// benchmark does the work; what it comes to in an emulated machine means nothing.
func (g *guest) benchmark() {
	output, code := g.Run(g.t, "holdfast", "volume", "benchmark", "--size", "8M", "--span", "1s", "--scale", "1", "--rounds", "1")
	if code != 0 && code != 4 {
		g.t.Fatalf("exit code %d\n%s", code, output)
	}
	for _, text := range []string{"OVERHEAD", "write ", "pgbench ", "dump ", "I/O wait "} {
		if !strings.Contains(output, text) {
			g.t.Errorf("it does not tell of %q:\n%s", text, output)
		}
	}
	g.holdfast(0, []string{"VOLUME_MEASURED"}, "audit", "show", "--volume", "pg-data")
	if left := g.Must(g.t, "find", "/srv", "/run", "-maxdepth", "2", "-name", "*benchmark*"); left != "" {
		g.t.Errorf("it left %q", left)
	}
}

// TestVolumeAtBoot has a machine with systemd start while its volume is locked: nothing hangs, the server is not started without the volume, and
// is once somebody has unlocked it, by an answer to the unit's question or by hand.
func TestVolumeAtBoot(t *testing.T) {
	t.Parallel()
	g := &guest{testbed.StartVM(t, testbed.VMOptions{Systemd: true, Files: map[string]string{"/usr/local/bin/holdfast": testbed.StaticProgram(t, "holdfast/cmd/holdfast")}}), t}
	g.keys()
	g.Must(t, "mkdir", "-p", "/root/recovery", "/etc/holdfast")
	g.Must(t, "holdfast", "init", "--yes", "--config", guestConfig, "--state", "/var/lib/holdfast", "--source", "files:/etc/hostname", "--store", "/srv/store", "--identity-out", guestIdentity)
	g.Put(t, guestConfig, append(g.Get(t, guestConfig), "\nvolumes:\n  pg-data: {device: /srv/pg.luks, mount: /srv/pg, owner: postgres, job: app, server: {unit: db.service}}\n"...), 0o600)
	// It stands for a server: it says whether it found its data.
	g.Put(t, "/etc/systemd/system/db.service", []byte("[Service]\nExecStart=/bin/sh -c 'ls /srv/pg/pgdata/here && exec sleep infinity'\n[Install]\nWantedBy=multi-user.target\n"), 0o644)
	g.holdfast(0, nil, "volume", "create", "--name", "pg-data", "--size", "64M", "--operational-file", key("operational"), "--recovery-file", key("recovery"), "--kdf-memory", "1", "--kdf-iterations", "4")
	g.Must(t, "touch", "/srv/pg/pgdata/here")
	g.holdfast(0, []string{"holdfast-volume-pg-data.service"}, "volume", "units", "--program", "/usr/local/bin/holdfast")
	g.Must(t, "systemctl", "daemon-reload")
	g.Must(t, "systemctl", "enable", "holdfast-volume-pg-data.service", "db.service")

	for _, how := range []string{"an answer", "by hand"} {
		t.Run(how, func(t *testing.T) {
			g := &guest{g.VM, t}
			g.Reboot(t)
			g.keys()
			g.awaitText("activating", "systemctl", "is-active", "holdfast-volume-pg-data.service")
			if output, _ := g.Run(t, "systemctl", "is-active", "db.service"); strings.TrimSpace(output) != "inactive" {
				t.Errorf("the server is %q while the volume is locked", output)
			}
			g.holdfast(0, []string{"locked"}, "volume", "status")
			if how == "an answer" {
				g.awaitText("passphrase of volume pg-data", "sh", "-c", "cat /run/systemd/ask-password/ask.*")
				g.Must(t, "sh", "-c", "socket=$(sed -n s/^Socket=//p /run/systemd/ask-password/ask.*) && /lib/systemd/systemd-reply-password 1 $socket <"+key("operational")+".exact")
			} else {
				g.holdfast(0, nil, "volume", "unlock", "--passphrase-file", key("recovery"))
			}
			g.awaitText("running", "systemctl", "show", "--property=SubState", "db.service")
			g.holdfast(0, []string{"mounted"}, "volume", "status")
			if got := g.Booted(t); got != "running" {
				t.Errorf("the machine is %q:\n%s", got, g.Must(t, "systemctl", "list-units", "--failed", "--no-pager"))
			}
		})
	}
}

// keys puts the passphrases into memory, where a restart forgets them.
func (g *guest) keys() {
	g.t.Helper()
	g.Must(g.t, "mkdir", "-p", guestKeys)
	for name, text := range passphrases {
		g.Put(g.t, guestKeys+name, []byte(text+"\n"), 0o600)
		g.Put(g.t, guestKeys+name+".exact", []byte(text), 0o600) // as cryptsetup itself takes it from a file
	}
}

// awaitText runs a program until what it says has text in it.
func (g *guest) awaitText(text string, args ...string) {
	g.t.Helper()
	for tries := 0; ; tries++ {
		output, _ := g.Run(g.t, args...)
		if strings.Contains(output, text) {
			return
		}
		if tries == 3000 {
			g.t.Fatalf("%s never says %q, but %q\n%s", strings.Join(args, " "), text, output, g.Console())
		}
	}
}
