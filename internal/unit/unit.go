// Package unit writes the text of what starts Holdfast by itself: systemd services and timers, the account that they run as, and lines
// for cron; and of what keeps a server from starting before the encrypted volume with its data is unlocked.
//
// It hides systemd's directives and their quoting, what each service must be allowed, and how a calendar expression of cron is said to
// systemd. It is pure: it reads nothing, writes nothing, runs nothing.
//
// There are three kinds of services. holdfast.service, and each service of a timer that makes, copies, verifies or prunes backups, has a
// user of its own, no capability but CAP_DAC_READ_SEARCH where a source needs it, and may write only where its options say.
// holdfast-drill.service, and each service of a timer that drills, is root: a drill needs namespaces, mounts and the number of another
// user. holdfast-volume-NAME.service, which unlocks an encrypted volume, is root too, and sees the host as it is: what it mounts is for
// all. What they leave open is measured by `systemd-analyze security`, from 0 (closed) to 10:
//
//	holdfast.service              1.4; up to 2.1 with homes, CAP_DAC_READ_SEARCH, hooks, an engine's group, or root as its user
//	holdfast-drill.service        3.4; up to 3.7 with homes and the socket of an engine of containers
//	holdfast-volume-NAME.service  4.9
//
// Its laws:
//   - The services, the timers and cron run the same program with the same configuration and the same state folder, in which the lock of
//     a job is. A drill has a state folder of its own, since what root writes its user could not read.
//   - Text of an option ends up as one word of one line, or is refused: nobody adds a directive or a command by the name of a folder.
//   - The same options make the same text, byte for byte.
//
// It is not its job to find out what an installation needs, to write files where systemd looks for them, or to tell systemd.
//
// BUG: where a clock is put forward or back, timers differ from `holdfast serve`, which makes up for what the clock skips, and runs what
// is due every hour in the hour that comes twice too: systemd 252 leaves both out. A timer in UTC is due every time.
//
// See systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.timer(5) and systemd.time(7). The text is for systemd 247 and newer.
package unit

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast"
	"holdfast/internal/schedule"
)

// Options say what is installed. Paths are absolute and clean.
type Options struct {
	Program string // the binary; default /usr/local/bin/holdfast
	Config  string // the configuration; default /etc/holdfast/holdfast.yaml
	State   string // state folder; default /var/lib/holdfast
	User    string // whom backups run as; default holdfast. root is accepted, without its rights over what belongs to others

	// Write lists folders that must be written besides the state: local stores, those of the log and of the audit trail, and those of
	// SQLite databases in WAL mode that may not be in use, which then only their owner, as User, can read. They belong to User.
	Write    []string
	Read     []string // what is read: sources, secrets, keys; of homes, /tmp and /var/tmp a service sees only what is named here or in Write
	ReadAll  bool     // sources of files belong to many users: CAP_DAC_READ_SEARCH
	Docker   string   // socket of the engine if something is in containers; "" if nothing is. Docker's own belongs to the group docker
	Hooks    bool     // hooks run programs
	Zone     string   // the server's time zone, which cron goes by; "" if it is not known
	Identity string   // file of the identity, for holdfast-drill.service; "" if its place is in the configuration

	DrillState string   // state folder of drills; default /var/lib/holdfast-drill
	Args       []string // further arguments of both services

	Jobs []Timer // what is started at its times, for Timers and Crontab
}

// Timer is one task of one job.
type Timer struct {
	Name     string   // part of the name of its units: lower-case letters, digits, dots, dashes and underscores; as a rule job-task
	Args     []string // the command and its arguments: backup app --quiet
	Calendar schedule.Calendar
	Zone     string        // name of the time zone of Calendar; "" is the server's
	Jitter   time.Duration // it begins later by at most this, at random
	Drill    bool          // it drills: it runs as holdfast-drill.service does
}

// File is what belongs at a path.
type File struct {
	Path string
	Mode fs.FileMode
	Text string
}

const (
	unitFolder = "/etc/systemd/system/"
	stateRoot  = "/var/lib/"
	rootUser   = "root"
)

// complete puts in defaults and refuses what cannot be said in a unit.
func (o Options) complete() (Options, error) {
	for _, d := range []struct {
		field   *string
		text    string
		meaning string
	}{
		{&o.Program, "/usr/local/bin/holdfast", "program"},
		{&o.Config, "/etc/holdfast/holdfast.yaml", "configuration"},
		{&o.State, "/var/lib/holdfast", "state folder"},
		{&o.DrillState, "/var/lib/holdfast-drill", "state folder of drills"},
	} {
		if *d.field == "" {
			*d.field = d.text
		}
		if err := checkPath(d.meaning, *d.field); err != nil {
			return Options{}, err
		}
	}
	if o.User == "" {
		o.User = "holdfast"
	}
	if !accountRule.MatchString(o.User) {
		return Options{}, refused("user", o.User, "use letters, digits, dashes and underscores, at most 31, beginning with a letter")
	}
	if o.State == o.DrillState {
		return Options{}, refused("state folder", o.State, "drills run as root and need another one: their files would be closed to the user of backups")
	}
	for _, path := range slices.Concat(o.Write, o.Read) {
		if err := checkPath("path", path); err != nil {
			return Options{}, err
		}
	}
	if o.Identity != "" {
		if err := checkPath("file of an identity", o.Identity); err != nil {
			return Options{}, err
		}
	}
	for _, path := range slices.Concat(o.Write, []string{o.State, o.DrillState}) {
		if slices.ContainsFunc(hidden(), func(of string) bool { return within(of, path) }) {
			return Options{}, refused("folder to write", path, "name a folder below it: a service does not write to all homes, nor to the /tmp of others")
		}
	}
	if o.Docker != "" {
		if err := checkPath("socket of the engine", o.Docker); err != nil {
			return Options{}, err
		}
	}
	if err := checkZone(o.Zone); err != nil {
		return Options{}, err
	}
	if err := checkArgs(o.Args); err != nil {
		return Options{}, err
	}
	return o, checkTimers(o.Jobs)
}

var (
	accountRule = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,30}$`)
	timerRule   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,199}$`)
	zoneRule    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`)
)

func checkTimers(timers []Timer) error {
	seen := map[string]bool{}
	for _, t := range timers {
		switch {
		case !timerRule.MatchString(t.Name) || t.Name == "drill":
			return refused("name of a timer", t.Name, "use lower-case letters, digits, dots, dashes and underscores, such as app-backup; drill alone is the name of a service")
		case seen[t.Name]:
			return refused("name of a timer", t.Name, "name each timer differently")
		case len(t.Args) == 0:
			return refused("timer", t.Name, "say what it runs, such as backup app")
		case t.Calendar.IsZero():
			return refused("schedule", t.Calendar.String(), "say when timer "+t.Name+" is due, such as @daily")
		case t.Jitter < 0:
			return refused("jitter", t.Jitter.String(), "use a positive duration such as 15m")
		}
		seen[t.Name] = true
		if err := checkArgs(t.Args); err != nil {
			return err
		}
		if err := checkZone(t.Zone); err != nil {
			return err
		}
	}
	return nil
}

func checkZone(name string) error {
	if name != "" && !zoneRule.MatchString(name) {
		return refused("time zone", name, "write it as Europe/Berlin")
	}
	return nil
}

func checkArgs(args []string) error {
	for _, arg := range args {
		if err := checkText("argument", arg); err != nil {
			return err
		}
	}
	return nil
}

func checkPath(meaning, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.Contains(path, ":") {
		return refused(meaning, path, "write it as an absolute path, without . and .. and double slashes, and without colons")
	}
	return checkText(meaning, path)
}

// checkText refuses what systemd or a shell would read as more than text. The rest is quoted.
func checkText(meaning, text string) error {
	if text == "" || !utf8.ValidString(text) || strings.ContainsAny(text, "\"\\$`") || strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
	}) {
		return refused(meaning, text, "use text in UTF-8 without quotation marks, backslashes, dollar signs, backticks and control characters")
	}
	return nil
}

func refused(meaning, text, hint string) error {
	return holdfast.WithHint(fmt.Errorf("%w: %s %q is not valid in a unit or a crontab", holdfast.ErrUsage, meaning, text), hint)
}
