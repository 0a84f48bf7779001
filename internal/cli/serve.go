package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
	"holdfast/internal/health"
	"holdfast/internal/journal"
)

func (a *app) serveCommand() *cobra.Command {
	return a.servingCommand(&server{app: a}, &cobra.Command{
		Use: "serve", Short: "Run what is due, watch, and raise alarms, until it is told to stop",
		Long: "Run every job's tasks when its schedule says so, in processes of their own that do what the same command does by hand; what came due\n" +
			"while nothing ran is made up for once. Look at all stores every few minutes, and tell what is wrong: as metrics, and as alarms.\n\n" +
			"Drills and key checks need an identity, which the host that backs up must not have: another machine, or a unit of its own, runs\n" +
			"`holdfast serve --tasks drills --identity FILE`. By default all tasks are run that can be.\n\n" +
			"SIGHUP reads the configuration anew, and keeps the one that runs when the new one is not valid. SIGTERM starts nothing more and\n" +
			"waits for what runs; a second one ends what runs, which is run again when the service is back.",
		Example: "  holdfast serve\n  holdfast serve --tasks drills --identity /etc/holdfast-drill/identity.txt --state /var/lib/holdfast-drill",
	})
}

func (a *app) workerCommand() *cobra.Command {
	return a.servingCommand(&server{app: a, worker: true}, &cobra.Command{
		Use: "worker", Short: "Share the work of a queue on a server with other machines",
		Long: "Take tasks from the queue of `service.queue`, on a PostgreSQL server, and run them as `holdfast serve` does, which must run somewhere to\n" +
			"put there what is due. Any number of workers share the work: no two are at one task at once, and what a worker was at that died is\n" +
			"taken over. Signals do what they do with serve.",
		Example: "  holdfast worker --tasks drills --identity /etc/holdfast-drill/identity.txt",
	})
}

// What --tasks takes.
const (
	roleAll     = "all"
	roleBackups = "backups"
	roleDrills  = "drills"
)

// servingCommand makes of cmd one that runs s.
func (a *app) servingCommand(s *server, cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains([]string{roleAll, roleBackups, roleDrills}, s.role) {
			return holdfast.WithHint(fmt.Errorf("%w: --tasks %q is not known", holdfast.ErrUsage, s.role), "use all, backups or drills")
		}
		cfg, err := a.load(s.flags, false)
		if err != nil {
			return err
		}
		if s.worker && cfg.Service.Queue.Conn == "" {
			return holdfast.WithHint(fmt.Errorf("%w: there is no queue to share", holdfast.ErrUsage), "put service: {queue: {url: postgres://…}} into the configuration: docs/fleet.md; one machine alone needs `holdfast serve` only")
		}
		return a.serve(cmd.Context(), s, cfg)
	}
	f := cmd.Flags()
	f.StringVar(&s.role, "tasks", roleAll, "what is run: all, backups (with their copies, checks and prunes), or drills (with key checks)")
	f.StringVarP(&s.flags.Identity, "identity", "i", "", "`FILE` with the identity that opens backups, for drills and key checks")
	f.StringVar(&s.signers, "allowed-signers", "", "`FILE` of the hosts whose backups are accepted (default: allowed_signers beside the identity)")
	return cmd
}

// server is a running service.
type server struct {
	app     *app
	flags   config.Flags
	role    string
	signers string
	worker  bool // others say what is due
	log     *slog.Logger
	started time.Time
	daemon  *daemon.Daemon
	wake    chan struct{} // something changed that the reporter tells
	look    chan struct{} // a run ended: the stores have something new
	socket  net.Listener  // nil when nothing listens

	mu       sync.Mutex // guards what follows
	cfg      *config.Config
	content  *os.File // memory with the configuration that runs are given; nil when it was not read from a file
	problem  string   // why the configuration that runs is not the one that was asked for; ""
	clock    string   // what was odd about the clock; ""
	channels []health.Channel
}

func (a *app) serve(ctx context.Context, s *server, cfg *config.Config) (err error) {
	s.log, s.started = a.logger(), a.Now()
	s.wake, s.look = make(chan struct{}, 1), make(chan struct{}, 1)
	if err := s.adopt(cfg); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	tasks, err := s.check(cfg)
	if err != nil {
		return err
	}
	// A wish that comes before everything is ready must not end the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	password, err := cfg.Service.Queue.Password.Resolve(ctx)
	if err != nil {
		return fmt.Errorf("the queue's server: %w", err)
	}
	s.daemon, err = daemon.Open(ctx, daemon.Options{
		Dir: serveDir(cfg), Workers: cfg.Service.Workers, Now: a.Now, Run: s.run, Log: s.log,
		Server: cfg.Service.Queue.Conn, Password: password, Queues: s.queues(cfg), WorkOnly: s.worker,
		Beside: s.beside(cfg), Interrupted: s.interrupted, Changed: s.changed,
		Seen: s.seen(ctx, cfg),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.daemon.Close()) }()
	if cfg.Service.Listen != "" && !s.quiet() {
		// Before anything is run: an address that is taken would end the service only after what it began.
		if s.socket, err = listen(ctx, cfg.Service.Listen); err != nil {
			return err
		}
		defer s.socket.Close()
	}
	if err := s.daemon.Plan(ctx, tasks); err != nil {
		return err
	}
	for _, warning := range s.warnings(cfg) {
		s.log.Warn(warning)
	}
	s.log.Info("serving", "version", a.Version, "jobs", len(cfg.Jobs), "tasks", len(tasks), "workers", cfg.Service.Workers, "state", cfg.State)
	a.serves.Store(true)
	abort, stop := s.signals(ctx, hangup)
	defer stop()
	a.notifySystemd("READY=1")
	err = s.daemon.Run(ctx, abort)
	s.log.Info("stopped")
	return err
}

// logger writes what happens to standard error, and to the log file if there is one.
func (a *app) logger() *slog.Logger {
	var out io.Writer = a.Err
	if a.printer.log != nil {
		out = each{a.Err, appender(a.printer.log.Name())}
	}
	if a.flags.json {
		return slog.New(slog.NewJSONHandler(out, nil))
	}
	return slog.New(slog.NewTextHandler(out, nil))
}

// each writes to all of several, whichever of them fails.
type each []io.Writer

func (e each) Write(line []byte) (int, error) {
	var problems error
	for _, w := range e {
		_, err := w.Write(line)
		problems = errors.Join(problems, err)
	}
	return len(line), problems
}

// appender is a file that is opened for each line, so that it can be rotated while the service goes on.
type appender string

func (a appender) Write(line []byte) (int, error) {
	f, err := os.OpenFile(string(a), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(line)
	return n, errors.Join(err, f.Close())
}

// signals tells a reload and the second wish to stop. The first one cancels ctx. After the second a third ends the process.
func (s *server) signals(ctx context.Context, hangup <-chan os.Signal) (abort <-chan struct{}, stop func()) {
	term := make(chan os.Signal, 2)
	signal.Notify(term, os.Interrupt, syscall.SIGTERM)
	aborted, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for stops := 0; ; {
			select {
			case <-done:
				return
			case <-hangup:
				s.reload(ctx)
			case <-term:
				if stops++; stops == 1 {
					s.log.Info("told to stop: waiting for what runs; once more to end it")
					s.app.notifySystemd("STOPPING=1")
				}
				if stops == 2 {
					signal.Stop(term)
					close(aborted)
				}
			}
		}
	}()
	return aborted, func() {
		signal.Stop(term)
		close(done)
		<-ended
	}
}

// notifySystemd tells the service manager, if there is one: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html.
func (a *app) notifySystemd(state string) {
	address := a.env("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte(state), 0, &unix.SockaddrUnix{Name: address}); err != nil {
		a.printer.warn("the service manager was not told " + state + ": " + err.Error())
	}
}

// reload puts a new configuration into force, or keeps the one that runs.
func (s *server) reload(ctx context.Context) {
	s.app.notifySystemd("RELOADING=1")
	defer s.app.notifySystemd("READY=1")
	cfg, err := s.resolve()
	var tasks []daemon.Task
	if err == nil {
		tasks, err = s.check(cfg)
	}
	if err == nil && s.needsRestart(cfg) {
		err = holdfast.WithHint(errors.New("state, host, identity, service.workers, service.listen and service.queue change when the service is started anew"), "restart it")
	}
	if err != nil {
		for line := range strings.Lines(holdfast.Sentence(err)) {
			s.log.Error("the new configuration is refused, and the one before stays in force", "mistake", strings.TrimSpace(line))
		}
		s.setProblem("the file is refused, and the service runs with the one before: " + strings.ReplaceAll(holdfast.Sentence(err), "\n", "; "))
		return
	}
	if err := s.adopt(cfg); err != nil {
		s.log.Error("the new configuration is not in force", "error", err)
		s.setProblem("the file is not in force: " + err.Error())
		return
	}
	if err := s.daemon.Plan(ctx, tasks); err != nil {
		s.log.Error("the new schedule is not in force", "error", holdfast.Sentence(err))
		s.setProblem("its schedule is not in force, and the service goes by the one before: " + holdfast.Sentence(err))
		return
	}
	s.setProblem("")
	s.log.Info("configuration read anew", "jobs", len(cfg.Jobs), "tasks", len(tasks))
	for _, warning := range s.warnings(cfg) {
		s.log.Warn(warning)
	}
}

// needsRestart reports whether a configuration changes what is decided once, at the start.
func (s *server) needsRestart(cfg *config.Config) bool {
	was := s.config()
	return cfg.State != was.State || cfg.Service.Workers != was.Service.Workers || cfg.Service.Listen != was.Service.Listen ||
		cfg.Service.Queue.Conn != was.Service.Queue.Conn || !slices.Equal(s.queues(cfg), s.queues(was))
}

// resolve reads the configuration as the command line says, without any effect.
func (s *server) resolve() (*config.Config, error) {
	flags := s.flags
	flags.Engine, flags.State, flags.LogFile = s.app.flags.engine, s.app.flags.state, s.app.flags.logFile
	return config.Resolve(config.Inputs{Path: s.app.flags.config, Environ: s.app.Environ, Flags: flags, Now: s.app.Now()})
}

// adopt puts the content of a configuration where runs read it.
func (s *server) adopt(cfg *config.Config) error {
	var file *os.File
	if content := cfg.Content(); content != nil {
		var err error
		if file, err = inMemory(content); err != nil {
			return fmt.Errorf("keep the configuration in memory: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.content
	s.cfg, s.content = cfg, file
	if old != nil {
		return old.Close()
	}
	return nil
}

func (s *server) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.content == nil {
		return nil
	}
	return s.content.Close()
}

func (s *server) config() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

func (s *server) setProblem(text string) {
	s.mu.Lock()
	s.problem = text
	s.mu.Unlock()
	s.changed()
}

// does reports whether this service runs the task.
func (s *server) does(cfg *config.Config, task holdfast.Task) bool {
	if task.Opens() {
		return s.role != roleBackups && cfg.Identity != ""
	}
	return s.role != roleDrills
}

// check returns what this service runs, or why it cannot serve a configuration.
func (s *server) check(cfg *config.Config) ([]daemon.Task, error) {
	tasks := s.tasks(cfg)
	if len(tasks) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: no job has a schedule that this service could run", holdfast.ErrUsage), "put schedule: {backup: \"0 2 * * *\"} into a job; drills need --identity: docs/service.md")
	}
	if cfg.Service.Queue.Conn != "" && len(s.queues(cfg)) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: drills need an identity", holdfast.ErrUsage), "give --identity FILE, or --tasks backups")
	}
	return tasks, s.canOpen(cfg)
}

// canOpen refuses files that are not there: else every drill would fail, and that in a month.
func (s *server) canOpen(cfg *config.Config) error {
	if _, err := trusted(cfg, &storeFlags{allowedSigners: s.signers}); err != nil {
		return err
	}
	if cfg.Identity == "" || s.role == roleBackups {
		return nil
	}
	file, err := os.Open(cfg.Identity)
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("%w: read the identity: %w", holdfast.ErrUsage, err), "name another file with --identity, or leave drills to another machine: --tasks backups")
	}
	return file.Close()
}

// tasks are what this service runs.
func (s *server) tasks(cfg *config.Config) []daemon.Task {
	var all []daemon.Task
	for _, job := range cfg.Jobs {
		for _, task := range holdfast.Tasks() {
			if job.Schedule.Times[task].IsZero() || cfg.Service.Queue.Conn == "" && !s.does(cfg, task) {
				continue
			}
			t := daemon.Task{Job: job.Name, Task: task, Retries: cfg.Service.Retries, RetryWait: cfg.Service.RetryWait}
			if cfg.Service.Queue.Conn != "" {
				t.Queue = queueOf(job.Schedule, task)
			}
			t.Due = func(at time.Time) (time.Time, time.Time) { return job.Schedule.At(job.Name, task, at) }
			t.Held = func(at time.Time) bool { return heldBack(cfg.Service, job.Schedule, at) }
			if !task.Opens() && task != holdfast.TaskVerify {
				t.Alone = string(job.Name)
			}
			all = append(all, t)
		}
	}
	return all
}

// drillQueue is where what needs an identity waits, in a queue that machines share.
const drillQueue = "drills"

// queueOf is where a task waits that any machine may run, or one alone.
func queueOf(s config.Schedule, task holdfast.Task) string {
	switch {
	case task.Opens():
		return drillQueue
	case s.Host != "":
		return hostQueue(s.Host)
	}
	return ""
}

// hostQueue is that of one host; names of queues are letters, digits and dashes.
func hostQueue(host string) string {
	return "host-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, host)
}

// queues are those that this machine works on; none: its own.
func (s *server) queues(cfg *config.Config) []string {
	if cfg.Service.Queue.Conn == "" {
		return nil
	}
	var all []string
	if s.role != roleDrills {
		all = append(all, "default", hostQueue(cfg.Host))
	}
	if s.role != roleBackups && cfg.Identity != "" {
		all = append(all, drillQueue)
	}
	return all
}

// quiet reports whether this service leaves it to another one to look at the stores, to answer Prometheus, and to raise alarms: it sees what
// that one sees, and everything would be told twice.
func (s *server) quiet() bool { return s.worker || s.role == roleDrills }

// heldBack reports whether a pause or a maintenance window lets nothing of a job begin now.
func heldBack(service config.Service, s config.Schedule, at time.Time) bool {
	if service.Paused || s.Paused {
		return true
	}
	for _, window := range slices.Concat(service.Windows, s.Windows) {
		if _, open := window.Open(at, s.Zone); open {
			return true
		}
	}
	return false
}

// warnings are what a person should know of how this service is set up.
func (s *server) warnings(cfg *config.Config) []string {
	var all []string
	backsUp := slices.ContainsFunc(cfg.Jobs, func(j config.Job) bool {
		return !j.Schedule.Times[holdfast.TaskBackup].IsZero() || !j.Schedule.Times[holdfast.TaskHourly].IsZero()
	})
	switch {
	case s.role == roleAll && cfg.Identity != "" && backsUp:
		all = append(all, "this service backs up and holds an identity too: whoever takes this host over can read every backup; drills belong on another machine, or at least in a unit of their own: docs/service.md")
	case s.role == roleAll && cfg.Identity == "" && backsUp:
		all = append(all, "no drill is run here, because there is no identity here, as it should be; another machine does them: docs/service.md")
	}
	return all
}

// interrupted records that a run was found unfinished.
func (s *server) interrupted(run daemon.Run) {
	s.app.note(s.config(), journal.Interrupted, holdfast.ErrInterrupted, func(r *journal.Record) {
		r.Job, r.Detail = run.Task.Job, string(run.Task.Task)
	})
}

// changed wakes the reporter.
func (s *server) changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fileChanged says whether the file is another one than what runs.
func (s *server) fileChanged() string {
	s.mu.Lock()
	cfg, problem := s.cfg, s.problem
	s.mu.Unlock()
	if problem != "" || cfg.File == "" {
		return problem
	}
	data, err := os.ReadFile(cfg.File)
	switch {
	case err != nil:
		return "the file cannot be read any more: " + err.Error()
	case !bytes.Equal(data, cfg.Content()):
		return fileDiffers
	}
	return ""
}
