package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/unit"
)

// installFlags say what is installed, and how.
type installFlags struct {
	timers, drill, replace, print, userColumn bool
	dir, user, identity, program              string
}

func (a *app) installCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "install", Short: "Write what runs holdfast by itself: units of systemd, or lines of cron"}
	cmd.AddCommand(a.installSystemdCommand(), a.installCronCommand())
	return cmd
}

func (a *app) installSystemdCommand() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use: "systemd", Short: "Write services and timers of systemd", Args: cobra.NoArgs,
		Long: "Write holdfast.service, which runs `holdfast serve --tasks backups`, and the files that make its user and its folders. It may write the\n" +
			"state folder, the local stores and the folders of the log alone, and has no right of root's but, where a source needs it, that to read\n" +
			"files of any owner (CAP_DAC_READ_SEARCH). With --timers there is no service: each task of each job's schedule has a timer of its own.\n\n" +
			"Drills need root and the identity. They belong on another machine: there --drill writes holdfast-drill.service, which runs\n" +
			"`holdfast serve --tasks drills`; with --timers and --identity they have timers too.\n\n" +
			"Nothing is started, and no file that is different is overwritten without --replace: what to run next is said at the end. Changes of your own\n" +
			"belong into drop-ins (systemctl edit). After a change of sources, stores or schedules, run it again with --replace.",
		Example: "  holdfast install systemd\n  holdfast install systemd --timers --print\n  holdfast install systemd --drill --identity /etc/holdfast-drill/identity.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(config.Flags{Identity: f.identity}, false)
			if err != nil {
				return err
			}
			return a.installSystemd(cmd.Context(), cfg, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.timers, "timers", false, "a timer for each task of each schedule, instead of a service that goes on")
	flags.BoolVar(&f.drill, "drill", false, "the service that drills, for a machine that holds the identity")
	flags.StringVar(&f.dir, "dir", "", "write below `FOLDER` instead of /, for packages")
	flags.BoolVar(&f.print, "print", false, "print the files, and write nothing")
	flags.BoolVar(&f.replace, "replace", false, "overwrite files that are different")
	f.add(cmd)
	return cmd
}

func (a *app) installCronCommand() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use: "cron", Short: "Print lines of cron", Args: cobra.NoArgs,
		Long: "Print a line of crontab(5) for each task of each job's schedule, and with channels one that looks for alarms every ten minutes. cron makes up\n" +
			"for nothing that was missed, and closes nothing to what it runs: prefer `holdfast install systemd`.",
		Example: "  holdfast install cron --user-column > /etc/cron.d/holdfast\n  holdfast install cron --user backup | crontab -u backup -",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load(config.Flags{Identity: f.identity}, false)
			if err != nil {
				return err
			}
			return a.installCron(cfg, f)
		},
	}
	cmd.Flags().BoolVar(&f.userColumn, "user-column", false, "with the user in each line, as files in /etc/cron.d have it")
	f.add(cmd)
	return cmd
}

func (f *installFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.user, "user", "holdfast", "the `USER` that backups run as")
	cmd.Flags().StringVarP(&f.identity, "identity", "i", "", "`FILE` with the identity, for drills and key checks")
	cmd.Flags().StringVar(&f.program, "program", "", "`PATH` of holdfast in what is written (default: this program)")
}

func (a *app) installCron(cfg *config.Config, f installFlags) error {
	p, err := a.newPlan(cfg, f)
	if err != nil {
		return err
	}
	o := p.base()
	o.Jobs, err = p.timers()
	p.tell(a)
	if err != nil {
		return err
	}
	lines, err := unit.Crontab(o, f.userColumn)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.Out, lines)
	return err
}

func (a *app) installSystemd(ctx context.Context, cfg *config.Config, f installFlags) error {
	switch {
	case f.timers && f.drill:
		return holdfast.WithHint(fmt.Errorf("%w: --timers and --drill contradict each other", holdfast.ErrUsage), "for timers of drills give --timers --identity FILE")
	case f.identity != "" && !f.timers && !f.drill:
		return holdfast.WithHint(fmt.Errorf("%w: the service that backs up takes no identity", holdfast.ErrUsage), "give --drill, or --timers")
	case f.drill && cfg.Identity == "":
		return holdfast.WithHint(fmt.Errorf("%w: drills need an identity", holdfast.ErrUsage), "give --identity FILE")
	}
	p, err := a.newPlan(cfg, f)
	if err != nil {
		return err
	}
	files, err := p.files(ctx)
	var next []string
	if err == nil {
		p.lookAround(files)
		next = p.next(files)
	}
	p.tell(a)
	if err != nil {
		return err
	}
	if f.print {
		return a.printFiles(files)
	}
	if err := a.writeFiles(f, files); err != nil {
		return err
	}
	return a.tellNext(next, f)
}

func (a *app) printFiles(files []unit.File) error {
	for i, file := range files {
		if a.flags.json {
			a.printEvent("file", map[string]any{"path": file.Path, "mode": fmt.Sprintf("%04o", file.Mode), "text": file.Text})
			continue
		}
		gap := "\n"
		if i == 0 {
			gap = ""
		}
		if _, err := fmt.Fprintf(a.Out, "%s# %s\n%s", gap, file.Path, file.Text); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles writes all files, or none when one of them would take the place of another.
func (a *app) writeFiles(f installFlags, files []unit.File) error {
	there := make([]bool, len(files))
	var different []string
	for i, file := range files {
		path := filepath.Join(f.dir, file.Path)
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("look at %s: %w", path, err)
		case !info.Mode().IsRegular():
			return holdfast.WithHint(fmt.Errorf("%w: %s is there and is no file", holdfast.ErrUsage, path), "take it away first; a unit that was masked is a link to /dev/null: systemctl unmask")
		}
		old, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("look at what is there: %w", err)
		}
		if there[i] = bytes.Equal(old, []byte(file.Text)); !there[i] {
			different = append(different, path)
		}
	}
	if len(different) > 0 && !f.replace {
		return holdfast.WithHint(fmt.Errorf("%w: nothing was written, because what is there is different: %s", holdfast.ErrUsage, strings.Join(different, ", ")),
			"compare it with --print; changes of your own belong into a drop-in (systemctl edit UNIT); then --replace overwrites it")
	}
	for i, file := range files {
		path, did := filepath.Join(f.dir, file.Path), "already there"
		if !there[i] {
			did = "wrote"
			err := os.MkdirAll(filepath.Dir(path), 0o755)
			if err == nil {
				err = durable.WriteFile(path, []byte(file.Text), file.Mode)
			}
			if err != nil {
				return holdfast.WithHint(fmt.Errorf("install: %w", err), "run it as root, or write it elsewhere with --dir FOLDER, or only --print it")
			}
		}
		if a.flags.json {
			a.printEvent("file", map[string]any{"path": path, "written": !there[i]})
		}
		a.result("%-13s  %s", did, path)
	}
	return nil
}

// tellNext prints the commands that put into force what was written.
func (a *app) tellNext(commands []string, f installFlags) error {
	if a.flags.json {
		a.printEvent("next", map[string]any{"commands": commands})
		return nil
	}
	where := "next"
	if f.dir != "" {
		where = "next, where it is installed"
	}
	_, err := fmt.Fprintf(a.Out, "\n%s:\n  %s\n", where, strings.Join(commands, "\n  "))
	return err
}

// units are the names of services and timers among files.
func units(files []unit.File) []string {
	var names []string
	for _, file := range files {
		if name := filepath.Base(file.Path); strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".timer") {
			names = append(names, name)
		}
	}
	return names
}

// starts are those of units that are enabled: timers, or else services.
func starts(files []unit.File) []string {
	names := units(files)
	timers := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasSuffix(name, ".timer") })
	if len(timers) > 0 {
		return timers
	}
	return names
}
