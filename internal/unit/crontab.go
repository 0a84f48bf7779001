package unit

import (
	"fmt"
	"slices"
	"strings"
)

// longestCommand is a little less than what cron on Debian takes of a line's command.
const longestCommand = 990

// Crontab returns a line of crontab(5) for each of o.Jobs: with the user, as files in /etc/cron.d have it, or without, as crontab(1)
// takes it from that user. What runs prints nothing on standard output, so that cron mails warnings and errors alone. What cron cannot do is
// said in comments. Errors wrap [holdfast.ErrUsage]; one is an L that stands beside other days, which cron has no way to say.
func Crontab(o Options, withUser bool) (string, error) {
	o, err := o.complete()
	if err != nil {
		return "", err
	}
	t := &strings.Builder{}
	t.WriteString("# Backups by cron.")
	if withUser {
		t.WriteString(" This belongs into /etc/cron.d/holdfast: a name with a dot is not read.\n")
	} else {
		t.WriteString(" Install it with: crontab -u " + o.User + " FILE, which replaces what that user had.\n")
	}
	t.WriteString("# cron mails what a run prints: nothing when all is well. It makes up for no run that was missed, and closes nothing to what it runs.\n" +
		"SHELL=/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")

	// CRON_TZ holds until the end of the file, so what goes by the server's clock comes first.
	jobs := slices.Clone(o.Jobs)
	slices.SortStableFunc(jobs, func(a, b Timer) int { return strings.Compare(o.foreignZone(a), o.foreignZone(b)) })
	zone := ""
	for _, timer := range jobs {
		if other := o.foreignZone(timer); other != zone {
			zone = other
			server := "the server's"
			if o.Zone != "" {
				server += ", " + o.Zone
			}
			fmt.Fprintf(t, "# The times below are of %s. cronie goes by CRON_TZ; the cron of Debian and Ubuntu does not, and takes them as\n"+
				"# %s: write them in that zone, and mind summer time.\nCRON_TZ=%s\n", zone, server, zone)
		}
		if timer.Jitter > 0 {
			fmt.Fprintf(t, "# A jitter of %s was asked for, which cron does not have.\n", timer.Jitter)
		}
		line, err := o.line(timer, withUser)
		if err != nil {
			return "", fmt.Errorf("timer %s: %w", timer.Name, err)
		}
		t.WriteString(line)
	}
	return t.String(), nil
}

// foreignZone is the zone of a timer if it is not the server's, "" otherwise.
func (o Options) foreignZone(t Timer) string {
	if t.Zone == o.Zone {
		return ""
	}
	return t.Zone
}

func (o Options) line(timer Timer, withUser bool) (string, error) {
	state, user := o.State, o.User
	if timer.Drill {
		state, user = o.DrillState, rootUser
	}
	words := o.command(timer.Args, state)
	for i, word := range words {
		words[i] = shellWord(word)
	}
	command := strings.Join(words, " ") + " >/dev/null"
	fields := cronFields(timer.Calendar)
	if sets, either := timer.Calendar.Sets(); sets[2]&lastDay != 0 {
		if sets[2] != lastDay || either {
			return "", refused("schedule", timer.Calendar.String(), "cron knows no L: let it stand for itself, without other days, or use timers of systemd")
		}
		fields[2] = "28-31"
		date := "date"
		if zone := o.foreignZone(timer); zone != "" {
			date = "TZ=" + zone + " date" // CRON_TZ is not the zone of what runs
		}
		command = `[ "$(` + date + ` -d tomorrow +\%d)" != 01 ] || ` + command
	}
	if len(command) > longestCommand {
		return "", refused("timer", timer.Name, "its command is longer than a line of cron may be: use timers of systemd")
	}
	when := strings.Join(fields, " ")
	switch {
	case withUser:
		return when + "  " + user + "  " + command + "\n", nil
	case user != o.User:
		return "# For the crontab of root, as drills need it:\n# " + when + "  " + command + "\n", nil
	}
	return when + "  " + command + "\n", nil
}

// shellWord makes one word of text that checkText has passed. cron takes a percent sign for the end of the command, also where a shell
// would not.
func shellWord(text string) string {
	if !plainWord.MatchString(text) {
		text = `'` + strings.ReplaceAll(text, `'`, `'"'"'`) + `'`
	}
	return strings.ReplaceAll(text, "%", `\%`)
}
