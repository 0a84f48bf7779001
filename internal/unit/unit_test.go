package unit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/schedule"
	"holdfast/internal/unit"
)

// wantRefused checks that an error is a mistake of the user, in one line, with something to do about it.
func wantRefused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("error is %v, with hint %q", err, holdfast.Hint(err))
	}
}

func TestRefused(t *testing.T) {
	with := func(change func(*unit.Options)) unit.Options {
		o := unit.Options{Jobs: jobs()[:1]}
		change(&o)
		return o
	}
	job := func(change func(*unit.Timer)) unit.Options {
		return with(func(o *unit.Options) { change(&o.Jobs[0]) })
	}
	for name, o := range map[string]unit.Options{
		"relative program":         with(func(o *unit.Options) { o.Program = "holdfast" }),
		"path with dots":           with(func(o *unit.Options) { o.Config = "/etc/../x" }),
		"newline in a path":        with(func(o *unit.Options) { o.Write = []string{"/srv/x\nExecStartPre=+/bin/id"} }),
		"carriage return":          with(func(o *unit.Options) { o.Read = []string{"/srv/x\ry"} }),
		"line separator":           with(func(o *unit.Options) { o.Read = []string{"/srv/x\u2028y"} }),
		"colon in a path":          with(func(o *unit.Options) { o.Read = []string{"/home/x:/etc"} }),
		"backslash":                with(func(o *unit.Options) { o.State = `/srv/x\` }),
		"quotation mark":           with(func(o *unit.Options) { o.Program = `/opt/a" "b` }),
		"dollar sign":              with(func(o *unit.Options) { o.Identity = "/root/$HOME" }),
		"not UTF-8":                with(func(o *unit.Options) { o.DrillState = "/srv/\xff" }),
		"socket":                   with(func(o *unit.Options) { o.Docker = "unix:///run/docker.sock" }),
		"newline in a comment":     with(func(o *unit.Options) { o.Docker = "/run/x\nUser=root" }),
		"one state for both":       with(func(o *unit.Options) { o.DrillState = "/var/lib/holdfast" }),
		"write to all homes":       with(func(o *unit.Options) { o.Write = []string{"/home"} }),
		"write to everything":      with(func(o *unit.Options) { o.Write = []string{"/"} }),
		"state in /tmp":            with(func(o *unit.Options) { o.State = "/tmp" }),
		"user":                     with(func(o *unit.Options) { o.User = "a b" }),
		"user by a specifier":      with(func(o *unit.Options) { o.User = "%i" }),
		"zone of the server":       with(func(o *unit.Options) { o.Zone = "Europe/Berlin\n*" }),
		"empty argument":           with(func(o *unit.Options) { o.Args = []string{"--engine", ""} }),
		"backtick":                 with(func(o *unit.Options) { o.Args = []string{"`id`"} }),
		"name with a slash":        job(func(j *unit.Timer) { j.Name = "../x" }),
		"name of the other unit":   job(func(j *unit.Timer) { j.Name = "drill" }),
		"name twice":               with(func(o *unit.Options) { o.Jobs = append(o.Jobs, o.Jobs[0]) }),
		"nothing to run":           job(func(j *unit.Timer) { j.Args = nil }),
		"argument with a new line": job(func(j *unit.Timer) { j.Args = []string{"backup", "a\n* * * * * root id"} }),
		"argument for a shell":     job(func(j *unit.Timer) { j.Args = []string{"backup", "$(id)"} }),
		"negative jitter":          job(func(j *unit.Timer) { j.Jitter = -time.Second }),
		"never due":                job(func(j *unit.Timer) { j.Calendar = must("never") }),
		"by hand":                  job(func(j *unit.Timer) { j.Calendar = must("manual") }),
		"zone":                     job(func(j *unit.Timer) { j.Zone = "Europe/Berlin\nOnBootSec=1" }),
	} {
		t.Run(name, func(t *testing.T) {
			files, err := unit.Timers(o)
			wantRefused(t, err)
			lines, err := unit.Crontab(o, true)
			wantRefused(t, err)
			if files != nil || lines != "" {
				t.Errorf("it was written all the same: %v %q", files, lines)
			}
		})
	}
}

func TestRefusedInCrontab(t *testing.T) {
	for name, job := range map[string]unit.Timer{
		"L beside a day":     {Name: "x", Args: []string{"backup"}, Calendar: must("0 0 15,L * *")},
		"L or a weekday":     {Name: "x", Args: []string{"backup"}, Calendar: must("0 0 L * mon")},
		"a line that is cut": {Name: "x", Args: []string{"backup", strings.Repeat("x", 990)}, Calendar: must("0 0 * * *")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unit.Crontab(unit.Options{Jobs: []unit.Timer{job}}, false)
			wantRefused(t, err)
		})
	}
}

// TestTimersAndServiceAgree holds what systemd makes of an expression against what `holdfast serve` does.
func TestTimersAndServiceAgree(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		due, err := schedule.Parse(expression(r, "L"))
		if err != nil {
			return
		}
		lines := events(t, due, "UTC")
		base := time.Date(2024, 1, 1, 0, rapid.IntRange(0, 4*365*24*60).Draw(r, "base"), 0, 0, time.UTC)
		if got, want := elapse(t, lines, base), due.Next(base, time.UTC); !got.Equal(want) {
			r.Fatalf("%q after %s: timers %q at %s, the service at %s", due, base, lines, got, want)
		}
	})
}

// TestCronAndServiceAgree holds the fields of a line of cron against the expression that they are of.
func TestCronAndServiceAgree(t *testing.T) {
	agree := func(t rapid.TB, expr string) {
		due, err := schedule.Parse(expr)
		if err != nil {
			return
		}
		lines, err := unit.Crontab(unit.Options{Jobs: []unit.Timer{{Name: "x", Args: []string{"backup"}, Calendar: due}}}, true)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Split(strings.TrimSuffix(lines, "\n"), "\n")
		fields, _, _ := strings.Cut(all[len(all)-1], "  ")
		said, err := schedule.Parse(fields)
		if err != nil || strings.Trim(fields, "0123456789*/,- ") != "" {
			t.Fatalf("%q is %q for cron: %v", expr, fields, err)
		}
		sets, either := due.Sets()
		if saidSets, saidEither := said.Sets(); saidSets != sets || saidEither != either {
			t.Fatalf("%q is %q for cron, which is due at other times", expr, fields)
		}
	}
	for _, expr := range []string{"0 0 * * 0-sun", "0 0 * * 00-SUN/2", "0 0 * * sun-sun/2", "0 0 * * mon-sun/3,0-sun", "0 0 * * sun-7", "@weekly", "@Quarterly"} {
		agree(t, expr)
	}
	rapid.Check(t, func(r *rapid.T) { agree(r, expression(r)) })
}

// expression is any one of a calendar, or nearly one; its days of the month may have those names.
func expression(r *rapid.T, days ...string) string {
	field := func(name string, min, max int, names ...string) string {
		value := func() string {
			if len(names) > 0 && rapid.Bool().Draw(r, name+" by name") {
				return rapid.SampledFrom(names).Draw(r, name)
			}
			return fmt.Sprint(rapid.IntRange(min, max).Draw(r, name))
		}
		var elements []string
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(r, name+"s") {
			elements = append(elements, rapid.OneOf(
				rapid.Just("*"),
				rapid.Custom(func(*rapid.T) string { return value() }),
				rapid.Custom(func(*rapid.T) string { return value() + "-" + value() }),
				rapid.Custom(func(r *rapid.T) string { return fmt.Sprintf("*/%d", rapid.IntRange(1, max).Draw(r, "step")) }),
				rapid.Custom(func(r *rapid.T) string {
					return fmt.Sprintf("%s-%s/%d", value(), value(), rapid.IntRange(1, max).Draw(r, "step"))
				}),
			).Draw(r, "element"))
		}
		return strings.Join(elements, ",")
	}
	if rapid.IntRange(0, 19).Draw(r, "word or fields") == 0 {
		return rapid.SampledFrom([]string{"@hourly", "@Daily", "@midnight", "@weekly", "@monthly", "@quarterly", "@yearly", "@annually"}).Draw(r, "word")
	}
	return strings.Join([]string{
		field("minute", 0, 59), field("hour", 0, 23), field("day", 1, 31, days...),
		field("month", 1, 12, "jan", "Feb", "jun", "DEC"), field("weekday", 0, 7, "sun", "Mon", "sat"),
	}, " ")
}

// TestCrontabRuns gives the lines of a crontab to a shell as cron does.
func TestCrontabRuns(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "hold fast's 100%")
	write := func(path, script string) {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// What a good run prints is not mailed; what stands on standard error is.
	write(program, `echo fine; for word; do printf '<%s>' "$word" >&2; done`)
	args := []string{"backup", "app", "--note", "month's end; 100% of it & more | ~ * #1"}
	o := unit.Options{Program: program, Jobs: []unit.Timer{
		{Name: "day", Args: args, Calendar: must("5 4 1-7/2 JAN-mar fri-SUN")},
		{Name: "last", Args: args, Calendar: must("5 4 L * *")},
		{Name: "there", Args: args, Calendar: must("30 0 L * *"), Zone: "Europe/Berlin"},
	}}
	lines, err := unit.Crontab(o, true)
	if err != nil {
		t.Fatal(err)
	}
	want := "<" + strings.Join(slices.Concat(args, []string{"--config", "/etc/holdfast/holdfast.yaml", "--state", "/var/lib/holdfast"}), "><") + ">"
	var ran []string
	for line := range strings.Lines(lines) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "  ", 3)
		if len(fields) != 3 {
			continue
		}
		// cron(8) ends a command at a percent sign that has no backslash, and takes the backslash off the others.
		command := strings.ReplaceAll(fields[2], `\%`, "\x00")
		command, _, _ = strings.Cut(command, "%")
		command = strings.ReplaceAll(command, "\x00", "%")
		for _, tomorrow := range []string{"01", "31"} {
			zone := ""
			if strings.HasPrefix(fields[0], "30 0") {
				zone = "Europe/Berlin"
			}
			write(filepath.Join(dir, "date"), `[ "$TZ $*" = '`+zone+` -d tomorrow +%d' ] && echo `+tomorrow)
			cmd := exec.Command("/bin/sh", "-c", command)
			cmd.Env = []string{"PATH=" + dir + ":/bin"}
			var mailed bytes.Buffer
			cmd.Stdout, cmd.Stderr = &mailed, &mailed
			if err := cmd.Run(); err != nil {
				t.Errorf("%s: %v", command, err)
			}
			if skipped := strings.Contains(fields[0], " 28-31 ") && tomorrow != "01"; skipped && mailed.Len() > 0 || !skipped && mailed.String() != want {
				t.Errorf("when tomorrow is the %sth, %s\nruns with %s", tomorrow, command, &mailed)
			}
		}
		ran = append(ran, fields[0]+" "+fields[1])
	}
	if want := []string{"5 4 1-7/2 1-3 5-7 holdfast", "5 4 28-31 * * holdfast", "30 0 28-31 * * holdfast"}; !slices.Equal(ran, want) {
		t.Errorf("lines are for %q, want %q", ran, want)
	}
}

func TestSameTextAgain(t *testing.T) {
	o := full()
	first := fmt.Sprint(all(t, o))
	slices.Reverse(o.Write)
	slices.Reverse(o.Read)
	if again := fmt.Sprint(all(t, o)); again != first {
		t.Errorf("another order of folders makes\n%s\nfrom\n%s", again, first)
	}
}
