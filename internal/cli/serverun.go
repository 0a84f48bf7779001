package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/child"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
)

// run does a task in a process of its own: what the same command does by hand, under the same locks. It counts as good when the command says
// so itself, and not because it ended with 0.
func (s *server) run(ctx context.Context, run daemon.Run) (daemon.Outcome, error) {
	defer s.ended()
	cfg, content, err := s.handOn()
	if err != nil {
		return daemon.Failed, err
	}
	if content != nil {
		defer content.Close()
	}
	program, err := os.Executable()
	if err != nil {
		return daemon.Failed, fmt.Errorf("find this program: %w", err)
	}
	args, err := s.arguments(cfg, run)
	if err != nil {
		return daemon.Refused, err
	}
	c := child.Command{Path: program, Args: args, Env: s.app.Environ, Stall: cfg.Service.Stall}
	if content != nil {
		c.Env = append(append([]string{}, c.Env...), config.EnvContent+"=3")
		c.Files = []*os.File{content}
	}
	heard := hearing{log: s.log.With("task", run.Task.Name())}
	c.Line = heard.line
	ended, err := child.Run(ctx, c)
	if err != nil {
		return daemon.Failed, err
	}
	return outcome(ctx, run.Task.Task, ended, &heard, cfg.Service.Stall)
}

// ended tells that the stores may have something new.
func (s *server) ended() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// handOn returns the configuration in force, and a descriptor of its content that is the caller's to close.
func (s *server) handOn() (*config.Config, *os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.content == nil {
		return s.cfg, nil, nil
	}
	// A reload closes the one that is kept.
	file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", s.content.Fd()))
	if err != nil {
		return nil, nil, fmt.Errorf("hand on the configuration: %w", err)
	}
	return s.cfg, file, nil
}

// inMemory keeps a content where nobody changes it any more: runs get a descriptor of it, and whoever has one could open it for writing.
func inMemory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("holdfast.yaml", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "holdfast.yaml")
	_, err = file.Write(content)
	if err == nil {
		err = unix.Fchmod(fd, 0o400)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// arguments are those of the command that does a task.
func (s *server) arguments(cfg *config.Config, run daemon.Run) ([]string, error) {
	args := []string{"--json", "--state", cfg.State}
	if cfg.File != "" {
		args = append(args, "--config", cfg.File)
	}
	if s.app.flags.engine != "" {
		args = append(args, "--engine", s.app.flags.engine)
	}
	if cfg.LogFile != "" {
		args = append(args, "--log-file", cfg.LogFile)
	}
	task, err := taskArguments(cfg, run.Task.Job, run.Task.Task)
	if err != nil {
		return nil, err
	}
	args = append(args, task...)
	if run.Task.Task.Opens() {
		args = append(args, "--identity", cfg.Identity)
	}
	if s.signers != "" && run.Task.Task != holdfast.TaskBackup && run.Task.Task != holdfast.TaskHourly {
		args = append(args, "--allowed-signers", s.signers)
	}
	return args, nil
}

// taskArguments are the words by which a task of a job is run by hand.
func taskArguments(cfg *config.Config, name holdfast.JobName, task holdfast.Task) ([]string, error) {
	job, err := cfg.Job(name)
	if err != nil {
		return nil, err
	}
	switch task {
	case holdfast.TaskBackup:
		return []string{"backup", string(name)}, nil
	case holdfast.TaskHourly:
		return []string{"backup", string(name), "--kind", "hourly"}, nil
	case holdfast.TaskMirror:
		return []string{"mirror", string(name)}, nil
	case holdfast.TaskVerify:
		return []string{"verify", "--job", string(name), "--rotate"}, nil
	case holdfast.TaskPrune:
		return []string{"prune", string(name)}, nil
	case holdfast.TaskDrill:
		return []string{"drill", "--job", string(name), "--store", job.Store.Name}, nil
	case holdfast.TaskDrillCopy:
		return []string{"drill", "--job", string(name), "--pick", "mirror"}, nil
	case holdfast.TaskDrillOld:
		return []string{"drill", "--job", string(name), "--store", job.Store.Name, "--pick", "random", "--older-than", "14d"}, nil
	case holdfast.TaskKeyCheck:
		return []string{"key", "check", "--job", string(name), "--store", job.Store.Name}, nil
	}
	return nil, fmt.Errorf("%w: there is no task %q", holdfast.ErrUsage, task)
}

// results are the events by which commands say that they did what they were called for. A task that is not here says nothing but its exit
// code when there was nothing to do.
func results(task holdfast.Task) string {
	switch task {
	case holdfast.TaskBackup, holdfast.TaskHourly:
		return "backup"
	case holdfast.TaskVerify:
		return "verify"
	case holdfast.TaskDrill, holdfast.TaskDrillCopy, holdfast.TaskDrillOld:
		return "drill"
	}
	return ""
}

// hearing follows what a run says.
type hearing struct {
	log      *slog.Logger
	events   map[string]bool
	complete bool // of the backup
	problem  error
}

func (h *hearing) line(line []byte) {
	var e struct {
		Event    string `json:"event"`
		Message  string `json:"message"`
		Hint     string `json:"hint"`
		Complete bool   `json:"complete"`
		ID       string `json:"id"`
		Verdict  string `json:"verdict"`
	}
	if err := json.Unmarshal(line, &e); err != nil || e.Event == "" {
		return // a list, or a line that was cut
	}
	if h.events == nil {
		h.events = map[string]bool{}
	}
	h.events[e.Event] = true
	switch e.Event {
	case "backup":
		h.complete = e.Complete
		h.log.Info("backup made", "backup", e.ID, "complete", e.Complete)
	case "drill":
		h.log.Info("drilled", "backup", e.ID, "verdict", e.Verdict)
	case "warning":
		h.log.Warn(e.Message)
	case "error":
		h.problem = holdfast.WithHint(errors.New(e.Message), e.Hint)
	}
}

// outcome is what the end of a run means for the queue.
func outcome(ctx context.Context, task holdfast.Task, ended child.Ended, heard *hearing, stall time.Duration) (daemon.Outcome, error) {
	problem := heard.problem
	if problem == nil && ended.Errors != "" {
		last := ended.Errors[strings.LastIndexByte(ended.Errors, '\n')+1:]
		problem = errors.New(last)
	}
	switch {
	case ended.Hung:
		return daemon.Failed, fmt.Errorf("it showed no sign of life for %s and was ended", stall)
	case ctx.Err() != nil && ended.Exit != exitGood:
		return daemon.Cancelled, holdfast.ErrInterrupted
	case ended.Signal != 0:
		return daemon.Failed, fmt.Errorf("it was ended by signal %s", ended.Signal)
	}
	if problem == nil {
		problem = fmt.Errorf("it ended with %d", ended.Exit)
	}
	switch ended.Exit {
	case exitGood:
		if heard.events["disabled"] {
			return daemon.Refused, errors.New("ENABLE_BACKUPS switches backups off")
		}
		if want := results(task); want != "" && !heard.events[want] {
			return daemon.Failed, errors.New("it ended with 0 and without a result")
		}
		return daemon.Good, nil
	case exitBusy:
		return daemon.Busy, problem
	case exitUsage, exitDifference, exitCannotTest:
		return daemon.Refused, problem
	}
	if task == holdfast.TaskPrune {
		return daemon.Refused, problem // what blocks it is an alarm, and blocks the next try too
	}
	switch ended.Exit {
	case exitIncomplete:
		if heard.events["backup"] && heard.complete {
			// The backup is there and a copy is not; the next run, or a mirror, makes up for it. Another backup would not help.
			return daemon.Refused, problem
		}
	}
	return daemon.Failed, problem
}
