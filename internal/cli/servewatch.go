package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
	"holdfast/internal/durable"
	"holdfast/internal/health"
	"holdfast/internal/metrics"
	"holdfast/internal/seal"
)

const (
	// surveyEvery is how often the stores are looked at, and surveyLeast how long one look follows another at the least.
	surveyEvery = 5 * time.Minute
	surveyLeast = 15 * time.Second
	// surveyTime bounds one look at the stores, and the telling of what it found.
	surveyTime = 10 * time.Minute
)

// beside are the service's parts besides the scheduler.
func (s *server) beside(cfg *config.Config) []daemon.Service {
	if s.quiet() {
		return []daemon.Service{&reporter{s}}
	}
	watcher := &watcher{server: s, metrics: metrics.New(metrics.Build{Version: s.app.Version, GoVersion: runtime.Version()})}
	parts := []daemon.Service{&reporter{s}, watcher}
	if cfg.Service.Listen != "" {
		parts = append(parts, &listener{server: s, watcher: watcher})
	}
	return parts
}

// reporter writes for other commands what the service does: whenever that changes and, so that they know that it still does, every tellEvery.
type reporter struct{ *server }

// Run writes until ctx is cancelled.
func (r *reporter) Run(ctx context.Context) error {
	for failed := false; ; {
		err := r.write()
		if err != nil && !failed {
			r.log.Error("what the service does cannot be told to other commands", "error", holdfast.Sentence(err))
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-time.After(tellEvery):
		}
	}
}

// write removes what it cannot write anew, which needs no room: nobody is to believe what was so before.
func (r *reporter) write() error {
	path := serviceFileOf(r.config())
	data, err := json.Marshal(r.serviceFile())
	if err != nil {
		return err
	}
	if err = durable.WriteFile(path, data, 0o600); err != nil {
		_ = os.Remove(path) // one that stays is soon too old
	}
	return err
}

func (s *server) serviceFile() serviceFile {
	s.mu.Lock()
	f := serviceFile{Started: s.started, File: s.cfg.File, Sum: sumOf(s.cfg), Config: s.problem, Clock: s.clock, Channels: s.channels, Running: map[string]time.Time{}}
	s.mu.Unlock()
	status := s.daemon.Status()
	f.Waiting, f.Trouble = status.Waiting, status.Trouble
	for _, run := range status.Running {
		f.Running[run.Task.Name()] = run.Began
	}
	return f
}

// watcher looks at the stores, and judges.
type watcher struct {
	*server
	ready   atomic.Bool // a first look is done
	metrics *metrics.Set
	said    string // in the log, of how things stand

	seen *lookout         // nil before the first look
	keys []seal.PublicKey // of those whose word counts for it
	book *alarmFile       // nil before the first look
}

// Run looks until ctx is cancelled.
func (w *watcher) Run(ctx context.Context) error {
	clock := newClockGuard(w.app.Now)
	for {
		w.setClock(clock.odd())
		if err := w.lookOnce(ctx); err != nil && ctx.Err() == nil {
			for line := range strings.Lines(holdfast.Sentence(err)) {
				w.log.Error("not all was looked at and told", "error", strings.TrimSpace(line))
			}
		}
		if !w.pause(ctx) {
			return nil
		}
	}
}

// pause waits for the next look; false: there is none.
func (w *watcher) pause(ctx context.Context) bool {
	least := time.NewTimer(surveyLeast)
	defer least.Stop()
	most := time.NewTimer(surveyEvery)
	defer most.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-least.C:
	}
	select {
	case <-ctx.Done():
		return false
	case <-w.look:
	case <-most.C:
	}
	return true
}

func (w *watcher) setClock(text string) {
	w.mu.Lock()
	w.clock = text
	w.mu.Unlock()
}

// lookOnce looks at everything with stores of its own, which are closed afterwards: what was unplugged or cut off meanwhile is noticed, and
// what is back is found. Whatever else goes wrong is returned, and keeps it from nothing; but while it is not known whose word counts, nothing
// can be judged.
func (w *watcher) lookOnce(ctx context.Context) (err error) {
	cfg := w.config()
	own := &app{Process: w.app.Process, flags: w.app.flags}
	own.flags.quiet = true
	logErr := own.start(cfg)
	if logErr != nil {
		bare := *cfg
		bare.LogFile = ""
		logErr = errors.Join(logErr, own.start(&bare))
	}
	defer func() { err = errors.Join(logErr, err, own.closeStores(), own.finish(nil)) }()
	keys, keysErr := trusted(cfg, &storeFlags{allowedSigners: w.signers})
	switch {
	case keysErr != nil && w.seen == nil:
		return keysErr
	case keysErr != nil:
		keys = w.keys
	case w.seen == nil || !slices.EqualFunc(keys, w.keys, seal.PublicKey.Equal):
		w.seen, w.keys = &lookout{}, keys // what it remembers was believed by others
	}
	service := w.serviceFile()
	state, err := own.stateOf(ctx, cfg, keys, w.seen, &service)
	if err != nil {
		return err
	}
	state.Service.Config = w.fileChanged()
	if keysErr != nil {
		state.Service.Config = "the allowed signers cannot be read, and those before count: " + holdfast.Sentence(keysErr)
	}
	return w.judge(ctx, cfg, own, state)
}

// judge tells what the look found: to whoever scrapes, and to the channels.
func (w *watcher) judge(ctx context.Context, cfg *config.Config, own *app, state health.State) error {
	if w.book == nil {
		w.book = own.openAlarms(cfg)
	}
	findings := w.book.judge(cfg, &state)
	w.metrics.Update(state, limitsOf(cfg), findings)
	w.ready.Store(true)
	var fileErr error
	if cfg.Service.Textfile != "" {
		fileErr = w.metrics.WriteTextfile(cfg.Service.Textfile)
	}
	level := slog.LevelInfo
	if len(findings) > 0 {
		level = slog.LevelWarn
	}
	if text := health.Sentence(state, findings); text != w.said {
		w.log.Log(ctx, level, text)
		w.said = text
	}
	tellErr := own.tellAlarms(ctx, cfg, w.book, findings)
	w.mu.Lock()
	w.channels = w.book.channels(cfg)
	w.mu.Unlock()
	w.changed()
	return errors.Join(fileErr, tellErr)
}

// clockGuard notices a wall clock that goes otherwise than time does.
type clockGuard struct {
	now  func() time.Time
	wall time.Time
	mono time.Time
}

func newClockGuard(now func() time.Time) *clockGuard {
	return &clockGuard{now: now, wall: now().Round(0), mono: time.Now()}
}

// mostJump is by how much the wall clock may differ from the time that went by, between two looks. A machine that slept differs forwards.
const mostJump = 5 * time.Minute

// odd says what is odd about the clock since it was last asked; "" when nothing is.
func (c *clockGuard) odd() string {
	wall, mono := c.now().Round(0), time.Now()
	off := wall.Sub(c.wall) - mono.Sub(c.mono)
	c.wall, c.mono = wall, mono
	switch {
	case off < -mostJump:
		return fmt.Sprintf("the clock was set back by %s", health.Span(-off))
	case off > mostJump:
		return fmt.Sprintf("the clock jumped forward by %s, or the machine slept", health.Span(off))
	}
	return ""
}

// listener answers for machines.
type listener struct {
	*server
	watcher *watcher
}

// listen takes an address.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	socket, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("listen for metrics: %w", err), "choose another service.listen, or end what listens there")
	}
	return socket, nil
}

// Run answers until ctx is cancelled.
func (l *listener) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", l.watcher.metrics.Handler())
	mux.HandleFunc("GET /healthz", l.healthz)
	mux.HandleFunc("GET /readyz", l.readyz)
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(l.socket) }()
	select {
	case err := <-ended:
		return fmt.Errorf("answer for metrics: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := web.Shutdown(closing)
	<-ended // http.ErrServerClosed
	if errors.Is(err, context.DeadlineExceeded) {
		return web.Close()
	}
	return err
}

// healthz says whether the service works: its queue can be written.
func (l *listener) healthz(w http.ResponseWriter, _ *http.Request) {
	if trouble := l.daemon.Status().Trouble; trouble != "" {
		http.Error(w, "the queue has trouble", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// readyz says whether what it tells is based on a look.
func (l *listener) readyz(w http.ResponseWriter, _ *http.Request) {
	if !l.watcher.ready.Load() {
		http.Error(w, "the stores were not looked at yet", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
