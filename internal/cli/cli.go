// Package cli is the command line: commands, flags, what is printed, and exit codes.
//
// It hides cobra and the terminal. wire.go is the only file of the project that names drivers. It is not its job to
// decide anything about data: the verbs are in engine. Its law: errors become exit codes in one place, and every
// mistake of a user ends in one sentence and a hint.
package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
	"holdfast/internal/seal"
)

// Process is what the command line sees of the world.
type Process struct {
	Args    []string
	In      *os.File
	Out     io.Writer
	Err     *os.File
	Environ []string
	Now     func() time.Time
	Version string
}

// The exit codes; docs/exit-codes.md and `holdfast help` show the same table.
const (
	exitGood        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitIncomplete  = 3
	exitDifference  = 4
	exitBusy        = 5
	exitCannotTest  = 6
	exitInterrupted = 130
)

const exitTable = `Exit codes:
  0    good
  1    failed
  2    bad usage or configuration
  3    incomplete: a source or a copy is missing
  4    a difference was found
  5    another run holds the job
  6    cannot test: something a drill needs is missing
  130  interrupted`

// app is one invocation.
type app struct {
	Process
	flags     globalFlags
	printer   *printer
	held      held           // by a restore with hooks
	state     string         // folder, once the configuration says which
	cfg       *config.Config // in force, once it was read
	ran       string         // the command, as it is called: "holdfast key new"
	emergency bool           // somebody calls what the command does one
	about     journal.Record // what the command is about, for the journal
	began     time.Time
	stores    openStores
	journal   *journal.Journal           // nil until something is recorded
	opened    map[string][]seal.Identity // by the path of their file, so that a passphrase is asked for once

	serves   atomic.Bool // it is a service, which drains by its own rules
	unusable error       // why a configured key opens nothing here
}

// globalFlags are the flags that every command takes.
type globalFlags struct {
	config  string
	json    bool
	engine  string
	state   string
	logFile string
	quiet   bool
}

// Main runs one command and returns its exit code.
func Main(p Process) int {
	a := &app{Process: p, began: p.Now()}
	ctx, stop := a.withSignals()
	defer stop()
	root := a.root()
	root.SetArgs(p.Args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	err := root.ExecuteContext(ctx)
	a.noteCommand(ctx, err)
	err = joinClose(err, a.signJournal())
	a.tellRetries()
	err = joinClose(err, a.closeStores())
	if err == nil {
		err = a.finish(nil)
	} else {
		err = errors.Join(err, a.finish(err))
	}
	if err != nil && errors.Is(context.Cause(ctx), holdfast.ErrInterrupted) {
		err = holdfast.ErrInterrupted
	}
	if errors.Is(err, seal.ErrNoIdentity) && a.unusable != nil {
		err = holdfast.WithHint(fmt.Errorf("%w (%w)", err, a.unusable), holdfast.Hint(a.unusable))
	}
	code := exitCode(err)
	if err = unshown(err); err != nil {
		a.tell(err, code)
	}
	return code
}

// unshown is what of an error the output of the command has not told; nil: nothing is left.
func unshown(err error) error {
	if told := (shown{}); !errors.As(err, &told) {
		return err
	}
	joined, is := err.(interface{ Unwrap() []error })
	if !is {
		return nil
	}
	var left []error
	for _, one := range joined.Unwrap() {
		left = append(left, unshown(one))
	}
	return errors.Join(left...)
}

// sameWish is how long a signal says the same as the one before it.
const sameWish = time.Second / 2

// withSignals ends the context at the first SIGINT or SIGTERM, so that the run cleans up; the second one ends the
// process at once, as if nothing was listening.
func (a *app) withSignals() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-signals:
		case <-done:
			return
		}
		// Whoever read what is printed may be gone, and cleaning up goes on.
		signal.Ignore(syscall.SIGPIPE)
		if !a.serves.Load() {
			fmt.Fprintln(a.Err, "holdfast: interrupted, cleaning up (once more to end at once)")
		}
		cancel(holdfast.ErrInterrupted)
		// The kernel tells of a parent's death once for each of its threads, within milliseconds (prctl(2), PR_SET_PDEATHSIG).
		select {
		case <-time.After(sameWish):
		case <-done:
		}
		signal.Stop(signals)
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel(nil)
	}
}

// exitCode maps an error to a code. The order matters: what a person must act on first wins.
func exitCode(err error) int {
	for _, row := range []struct {
		sentinel error
		code     int
	}{
		{holdfast.ErrInterrupted, exitInterrupted},
		{holdfast.ErrBusy, exitBusy},
		{holdfast.ErrDifference, exitDifference},
		{holdfast.ErrCannotTest, exitCannotTest},
		{holdfast.ErrIncomplete, exitIncomplete},
		{holdfast.ErrUsage, exitUsage},
		{seal.ErrNoIdentity, exitUsage},
	} {
		if errors.Is(err, row.sentinel) {
			return row.code
		}
	}
	if err != nil {
		return exitFailed
	}
	return exitGood
}

// tell prints an error as a sentence, and its hint on a line of its own.
func (a *app) tell(err error, code int) {
	if a.flags.json {
		a.printEvent("error", map[string]any{"message": holdfast.Sentence(err), "hint": holdfast.Hint(err), "exit": code})
		return
	}
	fmt.Fprintln(a.Err, "holdfast: "+holdfast.Sentence(err))
	if hint := holdfast.Hint(err); hint != "" {
		fmt.Fprintln(a.Err, "  hint: "+hint)
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Back up, seal, and prove by restoring",
		Long: "Holdfast backs up PostgreSQL, SQLite, files and secrets, seals them to public keys that this host cannot open,\n" +
			"and proves by restoring them, row by row, that they come back.\n\n" + exitTable,
		SilenceUsage: true, SilenceErrors: true,
		Args:              cobra.ArbitraryArgs,
		RunE:              runGroup,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRun:  func(cmd *cobra.Command, _ []string) { a.ran = cmd.CommandPath() },
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = a.Version
	root.SetVersionTemplate("holdfast {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrUsage, err), "`"+cmd.CommandPath()+" --help` lists the flags")
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.flags.config, "config", "", "configuration `FILE` (default /etc/holdfast/holdfast.yaml, or below ~/.config)")
	flags.BoolVar(&a.flags.json, "json", false, "print JSON lines")
	flags.BoolVarP(&a.flags.quiet, "quiet", "q", false, "print results and warnings only")
	flags.StringVar(&a.flags.engine, "engine", "", "`SOCKET` of the Docker Engine or of Podman, for servers in containers (default unix:///var/run/docker.sock)")
	flags.StringVar(&a.flags.state, "state", "", "`FOLDER` of locks, the signer and reports")
	flags.StringVar(&a.flags.logFile, "log-file", "", "append what is printed to `FILE` (mode 0640)")
	root.AddCommand(
		a.initCommand(), a.doctorCommand(), a.statusCommand(), a.serveCommand(), a.workerCommand(), a.notifyCommand(), a.installCommand(), a.watchCommand(), a.reportCommand(), a.backupCommand(), a.listCommand(), a.showCommand(), a.verifyCommand(),
		a.drillCommand(), a.restoreCommand(), a.mirrorCommand(), a.pruneCommand(), a.pinCommand(), a.unpinCommand(), a.linkCommand(), a.policyCommand(), a.auditCommand(), a.decryptCommand(), a.importCommand(), a.keyCommand(), a.volumeCommand(), a.runbookCommand(), a.configCommand(),
		a.completionCommand(), a.manCommand(), a.versionCommand(),
	)
	for _, cmd := range root.Commands() {
		a.strict(cmd)
	}
	return root
}

// runGroup is what a command does that only has others: help, and for a word that is none of them a mistake of usage.
func runGroup(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hint := "`" + cmd.CommandPath() + " help` lists the commands"
	if cmd.HasParent() {
		hint = "`" + cmd.CommandPath() + " --help` lists the commands"
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean `" + cmd.CommandPath() + " " + near[0] + "`?"
	}
	return holdfast.WithHint(fmt.Errorf("%w: there is no command %q", holdfast.ErrUsage, strings.TrimPrefix(cmd.CommandPath()+" "+args[0], "holdfast ")), hint)
}

// strict makes wrong arguments a mistake of usage with a hint, in every command.
func (a *app) strict(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args, cmd.RunE, cmd.SuggestionsMinimumDistance = cobra.ArbitraryArgs, runGroup, 2
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrUsage, err), "`"+cmd.CommandPath()+" --help` shows what it takes")
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		a.strict(sub)
	}
}

// load resolves the configuration with the flags of one command. A command that makes backups says so: then keys that
// expire soon are warned about.
func (a *app) load(flags config.Flags, seals bool) (*config.Config, error) {
	flags.Engine, flags.State, flags.LogFile = a.flags.engine, a.flags.state, a.flags.logFile
	cfg, err := config.Resolve(config.Inputs{
		Path: a.flags.config, Environ: a.Environ, Flags: flags, Now: a.Now(), Seals: seals,
	})
	if err != nil {
		return nil, err
	}
	if err := a.start(cfg); err != nil {
		return nil, err
	}
	for _, warning := range cfg.Warnings {
		a.printer.warn(warning)
	}
	return cfg, nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.Out, "holdfast "+a.Version)
			return err
		},
	}
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print the completion of bash, zsh or fish",
		Example:   "  holdfast completion bash > /etc/bash_completion.d/holdfast",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var out bytes.Buffer
			var err error
			switch args[0] {
			case "bash":
				err = cmd.Root().GenBashCompletionV2(&out, true)
			case "zsh":
				err = cmd.Root().GenZshCompletion(&out)
			default:
				err = cmd.Root().GenFishCompletion(&out, true)
			}
			if err != nil {
				return fmt.Errorf("write completion: %w", err)
			}
			_, err = a.Out.Write(out.Bytes())
			return err
		},
	}
}
