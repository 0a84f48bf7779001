package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/testbed"
)

// failure is one way in which things break on a host, and the alert that is to tell of it.
type failure struct {
	alert, severity string
	about           string        // labels of the alert: its job, its store, or both; with commas between those of several
	job             string        // configuration of the job that it happens to; "": there is none
	later           bool          // the first look of the service cannot see it
	breaks          func(*outage) // before the service starts
	begins          func(*outage) // after the first look
	mends           func(*outage)
}

// name is that of the job.
func (f failure) name() string {
	if f.job == "" {
		return ""
	}
	return strings.ToLower(capital.ReplaceAllString(strings.TrimPrefix(f.alert, "Holdfast"), "$1-$2"))
}

var capital = regexp.MustCompile(`([a-z])([A-Z])`)

// alerts are those that the failure raises.
func (f failure) alerts() []string {
	var all []string
	for about := range strings.SplitSeq(f.about, ",") {
		all = append(all, alertOf(f.alert, f.severity, "web1", about))
	}
	return all
}

// alertOf is an alert with its labels: severity, instance, job and store, as far as it has them.
func alertOf(alert string, labels ...string) string {
	return strings.Join(strings.Fields(alert+" "+strings.Join(labels, " ")), " ")
}

const (
	plainJob = "sources: [data], store: main, recipients: [ops]"
	someRows = "CREATE TABLE IF NOT EXISTS t (what); INSERT INTO t SELECT randomblob(32768) FROM (VALUES (1), (2), (3), (4))"
)

func failures() []failure {
	return []failure{
		{
			// Somebody made a mistake in the file, and asked for a reload.
			alert: "HoldfastConfigChanged", severity: "warning", later: true,
			begins: func(o *outage) {
				o.change("holdfast.yaml", func(text []byte) []byte { return append(text, "oops: true\n"...) })
				o.v.signal(syscall.SIGHUP)
				o.v.says(1, "is refused, and the one before stays in force")
			},
			mends: func(o *outage) {
				o.change("holdfast.yaml", func(text []byte) []byte { return bytes.TrimSuffix(text, []byte("oops: true\n")) })
				o.v.signal(syscall.SIGHUP)
				o.v.says(1, "configuration read anew")
			},
		},
		{
			// Nobody ran it.
			alert: "HoldfastStale", severity: "critical", about: "stale", job: plainJob,
			breaks: func(o *outage) { o.backup(30 * time.Hour) },
			mends:  func(o *outage) { o.backup(0) },
		},
		{
			// The source is gone; the service tries again until it is back.
			alert: "HoldfastFailed", severity: "critical", about: "failed", job: "sources: [gone], store: main, recipients: [ops], schedule: DUE",
			breaks: func(o *outage) {
				o.write(o.t, "gone/a.txt", "one")
				o.backup(24 * time.Hour)
				o.move("gone", "gone.away")
			},
			mends: func(o *outage) { o.move("gone.away", "gone") },
		},
		{
			// One of two sources is gone.
			alert: "HoldfastIncomplete", severity: "warning", about: "incomplete", job: "sources: [data, part], store: main, recipients: [ops]",
			breaks: func(o *outage) {
				o.write(o.t, "part/a.txt", "one")
				o.backup(2 * time.Hour)
				o.remove("part")
				o.ran(time.Hour, 3, "backup", o.job)
			},
			mends: func(o *outage) {
				o.write(o.t, "part/a.txt", "one")
				o.backup(0)
			},
		},
		{
			// Most of the database was deleted.
			alert: "HoldfastSize", severity: "warning", about: "size", job: "sources: [db], store: main, recipients: [ops]",
			breaks: func(o *outage) {
				o.sqlite("db", someRows)
				for day := 3; day > 0; day-- {
					o.backup(time.Duration(day) * 24 * time.Hour)
				}
				o.sqlite("db", "DELETE FROM t WHERE rowid > 1; VACUUM")
				o.backup(time.Hour)
			},
			mends: func(o *outage) {
				o.sqlite("db", someRows)
				o.backup(0)
			},
		},
		{
			// What is run before the backup took no time, and takes over a minute.
			alert: "HoldfastDuration", severity: "warning", about: "duration", later: true,
			job: plainJob + ", schedule: DUE, hooks: {backup: {before: [{run: [HOOK], dir: DIR, timeout: 10m}]}}",
			breaks: func(o *outage) {
				o.write(o.t, "go", "")
				for day := 3; day > 0; day-- {
					o.start(o.t, o.now.AddDate(0, 0, -day), "backup", o.job).exits(0)
				}
				o.remove("go")
				o.remove("begun")
			},
			begins: func(o *outage) {
				begun, err := os.Stat(o.path("begun"))
				if err != nil {
					o.t.Fatal(err)
				}
				awaits(o.t, "more than a minute", func() bool { return time.Since(begun.ModTime()) > 62*time.Second })
				o.write(o.t, "go", "")
			},
		},
		{
			// Somebody deleted what the mirror held.
			alert: "HoldfastCopyMissing", severity: "warning", about: "copy-missing box", job: plainJob + ", mirrors: [box]",
			breaks: func(o *outage) {
				o.backup(3 * time.Hour)
				for _, path := range tree(o.t, o.path("box")) {
					if strings.Contains(path, "/"+o.job+"/") {
						if err := os.Remove(path); err != nil {
							o.t.Fatal(err)
						}
					}
				}
			},
			mends: func(o *outage) { o.ran(0, 0, "mirror", o.job) },
		},
		{
			// A disk is not plugged in, and the line to a server is cut.
			alert: "HoldfastStoreDown", severity: "warning", about: "store-down away,store-down usb", job: plainJob + ", mirrors: [usb, away]",
			breaks: func(o *outage) {
				o.backup(time.Hour)
				o.move("usb", "usb.away")
				o.line.Fail(testbed.ConnFault{Times: -1})
			},
			mends: func(o *outage) {
				o.move("usb.away", "usb")
				o.line.Heal()
			},
		},
		{
			// A bit of a stored object is another one.
			alert: "HoldfastVerifyFailed", severity: "critical", about: "verify-failed main", job: plainJob,
			breaks: func(o *outage) {
				o.backup(time.Hour)
				o.change(o.stored(), flipped)
				o.ran(time.Minute, 4, "verify", "--job", o.job)
			},
			mends: func(o *outage) {
				o.change(o.stored(), flipped)
				o.ran(0, 0, "verify", "--job", o.job)
			},
		},
		{
			alert: "HoldfastDiskFull", severity: "warning", about: "small", job: "sources: [data], store: small, recipients: [ops]",
			breaks: func(o *outage) {
				testbed.MountTmpfs(o.t, o.path("small"), "size=4m,mode=0700")
				o.backup(time.Hour)
				o.fill("small")
			},
			mends: func(o *outage) { o.remove("small/filler") },
		},
		{
			// The newest backup lacks an object, so that what is older must stay.
			alert: "HoldfastPruneBlocked", severity: "warning", about: "prune-blocked main", job: plainJob + ", keep: {last: 1}",
			breaks: func(o *outage) {
				o.backup(72 * time.Hour)
				o.backup(48 * time.Hour)
				o.backup(time.Hour)
				o.move(o.stored(), "object.away")
				o.ran(time.Minute, 1, "prune", o.job)
			},
			mends: func(o *outage) {
				o.backup(0)
				o.ran(0, 0, "prune", o.job)
			},
		},
		{
			alert: "HoldfastDrillOverdue", severity: "warning", about: "drill-overdue", job: plainJob + ", drill: {every: 2d}",
			breaks: func(o *outage) {
				o.backup(96 * time.Hour)
				o.drill(95*time.Hour, 0)
				o.backup(time.Hour)
			},
			mends: func(o *outage) { o.drill(0, 0) },
		},
		{
			// The users are gone from the database.
			alert: "HoldfastDrillFailed", severity: "critical", about: "drill-failed",
			job: `sources: [users], store: main, recipients: [ops], drill: {assertions: [{source: users, sql: "SELECT count(*) > 0 FROM users"}]}`,
			breaks: func(o *outage) {
				o.sqlite("users", "CREATE TABLE users (name)")
				o.backup(time.Hour)
				o.drill(time.Minute, 4)
			},
			mends: func(o *outage) {
				o.sqlite("users", "INSERT INTO users VALUES ('anna')")
				o.backup(0)
				o.drill(0, 0)
			},
		},
		{
			// There is no room to restore in.
			alert: "HoldfastDrillImpossible", severity: "warning", about: "drill-impossible", job: plainJob,
			breaks: func(o *outage) {
				testbed.MountTmpfs(o.t, o.path("scratch"), "size=64k,mode=0700")
				o.backup(time.Hour)
				o.drill(time.Minute, 6, "--scratch", o.path("scratch"))
			},
			mends: func(o *outage) { o.drill(0, 0) },
		},
		{
			alert: "HoldfastObjectiveMissed", severity: "warning", about: "objective-missed", job: plainJob + ", objectives: {rpo: 30m}",
			breaks: func(o *outage) { o.backup(time.Hour) },
			mends:  func(o *outage) { o.backup(0) },
		},
		{
			// Somebody seals a backup for themselves.
			alert: "HoldfastRecipientUnknown", severity: "critical", about: "recipient-unknown", job: plainJob,
			breaks: func(o *outage) {
				stranger := strings.TrimSpace(o.good(o.t, "key", "new", "-o", "stranger.txt").out)
				o.ran(time.Hour, 0, "backup", o.job, "--recipient", stranger)
			},
			mends: func(o *outage) { o.backup(0) },
		},
		{
			// The clock was two hours fast when the newest backup was made.
			alert: "HoldfastClockOff", severity: "warning", about: "clock-off", job: plainJob,
			breaks: func(o *outage) {
				o.backup(time.Hour)
				o.backup(-2 * time.Hour)
			},
			mends: func(o *outage) { o.remove(o.newest("main/commits/" + o.job + "/*")) },
		},
		{
			// A key has been sealed to for years.
			alert: "HoldfastKeyDue", severity: "warning", job: "sources: [data], store: main, recipients: [old]",
			breaks: func(o *outage) { o.backup(time.Hour) },
			mends: func(o *outage) {
				o.change("holdfast.yaml", func(text []byte) []byte {
					return bytes.Replace(text, []byte("recipients: [old]"), []byte("recipients: [ops]"), 1)
				})
				o.v.signal(syscall.SIGHUP)
				o.v.says(2, "configuration read anew")
				o.backup(0)
			},
		},
		{
			// The first look is heard by nobody; the second one knows that, and is heard.
			alert: "HoldfastChannelFailing", severity: "warning", later: true,
			breaks: func(o *outage) { o.pager.Fail(testbed.ConnFault{Times: -1}) },
			begins: func(o *outage) { o.pager.Heal() },
		},
		{
			// The disk of the queue is full. That a run ended before lets the service look again.
			alert: "HoldfastQueueFailing", severity: "critical", later: true,
			breaks: func(o *outage) { testbed.MountTmpfs(o.t, o.path("state/serve"), "size=4m") },
			begins: func(o *outage) {
				o.v.says(1, "failed; it is tried again")
				o.fill("state/serve")
				o.v.says(1, "the queue cannot be written")
			},
			mends: func(o *outage) { o.remove("state/serve/filler") },
		},
	}
}

// outage is a host on which things break.
type outage struct {
	site
	t     *testing.T
	now   time.Time         // of the commands that are run by hand
	job   string            // of the failure at hand
	line  *testbed.TCPProxy // to the store away
	pager *testbed.TCPProxy // to the channel
	v     *service
}

// ran runs a command, so long before now.
func (o *outage) ran(ago time.Duration, code int, args ...string) {
	o.t.Helper()
	o.at(o.t, o.now.Add(-ago), args...).expect(o.t, code)
}

// backup and drill run those of the job at hand.
func (o *outage) backup(ago time.Duration) {
	o.t.Helper()
	o.ran(ago, 0, "backup", o.job, "--create-store")
}

func (o *outage) drill(ago time.Duration, code int, args ...string) {
	o.t.Helper()
	o.ran(ago, code, append([]string{"drill", "--job", o.job, "--identity", o.path("key.txt")}, args...)...)
}

func (o *outage) move(from, to string) {
	o.t.Helper()
	if err := os.Rename(o.path(from), o.path(to)); err != nil {
		o.t.Fatal(err)
	}
}

func (o *outage) remove(name string) {
	o.t.Helper()
	if err := os.RemoveAll(o.path(name)); err != nil {
		o.t.Fatal(err)
	}
}

// change rewrites a file, whatever its mode is.
func (o *outage) change(name string, edit func([]byte) []byte) {
	o.t.Helper()
	path := o.path(name)
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = os.WriteFile(path, edit(data), 0o600)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func flipped(data []byte) []byte {
	data[len(data)/2] ^= 1
	return data
}

// newest is the last of the files that a pattern names.
func (o *outage) newest(pattern string) string {
	o.t.Helper()
	found, err := filepath.Glob(o.path(pattern))
	if err != nil || len(found) == 0 {
		o.t.Fatalf("nothing is %s: %v", pattern, err)
	}
	return strings.TrimPrefix(found[len(found)-1], o.dir+"/")
}

// stored is an object of the newest backup of the job at hand.
func (o *outage) stored() string {
	o.t.Helper()
	return o.newest("main/data/" + o.job + "/*/data.tar*")
}

func (o *outage) sqlite(name, sql string) {
	o.t.Helper()
	if out, err := exec.Command("sqlite3", o.path(name), sql).CombinedOutput(); err != nil {
		o.t.Fatalf("%v: %s", err, out)
	}
}

// fill leaves no room on the disk of a folder.
func (o *outage) fill(dir string) {
	o.t.Helper()
	filler, err := os.Create(o.path(dir + "/filler"))
	if err != nil {
		o.t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = filler.Write(block)
	}
	if err := filler.Close(); err != nil {
		o.t.Fatal(err)
	}
}

// outageConfig is the configuration of the host; behind it come the jobs.
const outageConfig = `version: 1
host: web1
keys:
  ops: {recipient: RECIPIENT, created: TODAY}
  old: {recipient: OLD, created: 2020-01-01}
service: {zone: UTC, retry_wait: 1s, retries: 10, workers: 4, listen: "127.79.2.1:18091"}
channels: {pager: {kind: webhook, url: PAGER}}
stores:
  main: {kind: local, path: main}
  box: {kind: local, path: box}
  usb: {kind: local, path: usb}
  small: {kind: local, path: small}
  away: {kind: sftp, host: 127.0.0.1, AWAY}
sources:
  data: {kind: files, paths: [data]}
  gone: {kind: files, paths: [gone]}
  part: {kind: files, paths: [part]}
  db: {kind: sqlite, path: db}
  users: {kind: sqlite, path: users}
jobs:
`

// newOutage makes a host on which everything is broken that can be before its service starts.
func newOutage(t *testing.T, all []failure, told *sink) *outage {
	t.Helper()
	o := &outage{site: site{newWorkplace(t)}, t: t, now: time.Now().UTC()}
	o.write(t, "data/a.txt", "one")
	o.write(t, "recipient", strings.TrimSpace(o.good(t, "key", "new", "-o", "key.txt").out))
	server := testbed.StartSSHD(t, testbed.SSHDOptions{})
	o.line, o.pager = testbed.NewTCPProxy(t, server.Addr()), testbed.NewTCPProxy(t, told.Listener.Addr().String())
	hosts, err := os.ReadFile(server.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	known := o.write(t, "known_hosts", strings.ReplaceAll(string(hosts), ":"+strconv.Itoa(server.Port), ":"+o.line.Port()))
	text := outageConfig
	for _, f := range all {
		if f.job != "" {
			text += "  " + f.name() + ": {" + f.job + "}\n"
		}
	}
	due := o.now.Add(-10 * time.Minute)
	o.configure(t, strings.NewReplacer(
		"OLD", strings.TrimSpace(o.good(t, "key", "new", "-o", "old.txt").out), "TODAY", o.now.AddDate(0, 0, -1).Format(time.DateOnly),
		"PAGER", o.secret(t, "pager", "http://"+o.pager.Addr()+"/pager"),
		"AWAY", fmt.Sprintf("port: %s, user: %s, path: %q, key_file: %q, known_hosts: [%q]", o.line.Port(), server.User, server.Dir+"/store", server.KeyFile, known),
		"HOOK", strconv.Quote(o.script(t, "hook", waiting)), "DIR", strconv.Quote(o.dir),
		"DUE", fmt.Sprintf(`{backup: "%d %d * * *", verify: never, drill: never, drill_old: never, key_check: never}`, due.Minute(), due.Hour()),
	).Replace(text))
	for _, f := range all {
		if o.job = f.name(); f.breaks != nil {
			f.breaks(o)
		}
	}
	return o
}

// journalFile is where the first records of a host are.
const journalFile = "state/journal/000000000001.jsonl"

// newBrokenJournal makes a host whose clock is an hour slow, and of whose journal somebody changed a record.
func newBrokenJournal(t *testing.T) *outage {
	t.Helper()
	o := &outage{site: site{newWorkplace(t)}, t: t, now: time.Now().UTC().Add(-time.Hour), job: "app"}
	o.write(t, "data/a.txt", "one")
	o.write(t, "recipient", strings.TrimSpace(o.good(t, "key", "new", "-o", "key.txt").out))
	o.configure(t, strings.NewReplacer(
		"version: 1", "version: 1\nhost: web2", "RECIPIENT", "RECIPIENT, created: "+o.now.AddDate(0, 0, -1).Format(time.DateOnly), "0 2 * * *", "0 2 1 1 *",
	).Replace(fmt.Sprintf(siteConfig, `, listen: "127.79.2.2:18092"`, "")))
	o.backup(2 * time.Hour)
	o.backup(time.Hour)
	o.change(journalFile, flipped)
	return o
}
