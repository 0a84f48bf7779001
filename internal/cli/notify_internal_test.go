package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/daemon"
	"holdfast/internal/health"
	"holdfast/internal/metrics"
	"holdfast/internal/notify"
)

// inbox is a service that messages are sent to.
type inbox struct {
	*httptest.Server

	mu     sync.Mutex // guards what follows
	told   []string
	answer http.HandlerFunc // nil: they are taken
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	h := &inbox{}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// channels is the configuration of some that lead there, by a variable of the environment.
func (h *inbox) channels(names ...string) string {
	text := "channels:\n"
	for _, name := range names {
		text += fmt.Sprintf("  %s: {kind: webhook, url: {env: HOOK}}\n", name)
	}
	return text
}

func (h *inbox) env() string { return "HOOK=" + h.URL }

func (h *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct{ Alarm, Store string }
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	h.mu.Lock()
	if err != nil {
		m.Alarm = err.Error()
	}
	h.told = append(h.told, strings.TrimSpace(m.Alarm+" "+m.Store))
	answer := h.answer
	h.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
}

// took returns what was told since it was last asked, sorted.
func (h *inbox) took() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := h.told
	h.told = nil
	slices.Sort(told)
	return told
}

// TestTellingIsCutOff: what a stop cuts off says nothing of a channel, and is due again.
func TestTellingIsCutOff(t *testing.T) {
	hook := newInbox(t)
	d := newDesk(t, localStore+oneJob+hook.channels("hook"), hook.env())
	ctx, stop := context.WithCancelCause(t.Context())
	hook.answer = func(_ http.ResponseWriter, r *http.Request) {
		stop(holdfast.ErrInterrupted)
		<-r.Context().Done()
	}
	book := d.openAlarms(d.cfg)
	findings := []health.Finding{{Alarm: health.Stale, Job: "app", Text: "old", Hint: "do"}, {Alarm: health.KeyDue, What: "ops/age", Text: "old", Hint: "do"}}
	if err := d.tellAlarms(ctx, d.cfg, book, findings); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("it ended with %v", err)
	}
	if len(book.Channels) != 0 || len(hook.took()) != 1 {
		t.Errorf("these fail: %v", book.Channels)
	}
	hook.answer = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }
	if err := d.tellAlarms(t.Context(), d.cfg, book, findings); !errors.Is(err, errUnheard) || book.Channels["hook"].Failed == "" {
		t.Errorf("of a channel that refuses: %v, %v", err, book.Channels)
	}
	// Nor does it say that one takes messages again.
	if err := d.tellAlarms(ctx, d.cfg, book, findings); err == nil || book.Channels["hook"].Failed == "" {
		t.Errorf("of a channel that refuses, after a stop: %v, %v", err, book.Channels)
	}
	hook.answer = nil
	hook.took()
	if err := d.tellAlarms(t.Context(), d.cfg, d.openAlarms(d.cfg), findings); err != nil {
		t.Error(err)
	}
	if got := hook.took(); !slices.Equal(got, []string{"key_due", "stale"}) {
		t.Errorf("it told %q", got)
	}
}

// TestFailingChannelIsTriedAgain: one that failed is tried once an hour with a test, and what it takes ends its alarm, whatever else there is to
// tell. One that some people do hear of is tried once a day.
func TestFailingChannelIsTriedAgain(t *testing.T) {
	hook := newInbox(t)
	d := newDesk(t, localStore+oneJob+hook.channels("hook"), hook.env())
	now := noon
	d.Now = func() time.Time { return now }
	refuses := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }
	look := func(pass time.Duration, findings []health.Finding, sent int, fails bool) {
		t.Helper()
		now = now.Add(pass)
		book := d.openAlarms(d.cfg)
		if err := d.tellAlarms(t.Context(), d.cfg, book, findings); err != nil && !errors.Is(err, errUnheard) {
			t.Error(err)
		}
		if got := hook.took(); len(got) != sent {
			t.Errorf("at %s it sent %q", now, got)
		}
		if failed := d.openAlarms(d.cfg).Channels["hook"].Failed != ""; failed != fails {
			t.Errorf("at %s it fails: %v", now, failed)
		}
	}
	hook.answer = refuses
	look(0, []health.Finding{{Alarm: health.Stale, Job: "app", Text: "old", Hint: "do"}}, 1, true)
	look(59*time.Minute, nil, 0, true)
	look(time.Minute, nil, 1, true)
	hook.answer = nil
	look(59*time.Minute, nil, 0, true)
	look(time.Minute, nil, 1, false)
	look(2*time.Hour, nil, 0, false)
	// A clock that was wrong for a while holds back nothing for long.
	hook.answer = refuses
	now = now.AddDate(1, 0, 0)
	look(0, []health.Finding{{Alarm: health.Stale, Job: "app", Text: "old", Hint: "do"}}, 1, true)
	now = now.AddDate(-1, 0, 0)
	look(0, nil, 1, true)

	book := d.openAlarms(d.cfg)
	all := tellers(t.Context(), d.cfg)
	book.heard(all, sent{took: 1, failed: map[string]error{"hook": fmt.Errorf("%w: one address was refused", notify.ErrPartly)}}, func(teller) bool { return true }, now)
	if next := book.Channels["hook"].Next; !next.Equal(now.Add(24 * time.Hour)) {
		t.Errorf("what some hear of is tried again at %s", next)
	}
}

// TestUnheardIsOneLine: of many alarms that reached nobody each channel is named once, with how many there are.
func TestUnheardIsOneLine(t *testing.T) {
	hook := newInbox(t)
	hook.answer = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }
	d := newDesk(t, localStore+oneJob+hook.channels("hook"), hook.env())
	var findings []health.Finding
	for n := range 20 {
		findings = append(findings, health.Finding{Alarm: health.Stale, Job: holdfast.JobName(fmt.Sprintf("app%d", n)), Text: "old", Hint: "do"})
	}
	err := d.tellAlarms(t.Context(), d.cfg, d.openAlarms(d.cfg), findings)
	text := holdfast.Sentence(err)
	if !errors.Is(err, errUnheard) || strings.Contains(text, "\n") || !strings.HasPrefix(text, "an alarm reached nobody: channel hook: ") || !strings.HasSuffix(text, " (and 19 more)") {
		t.Errorf("it says %q", text)
	}
}

// newWatcher is one of a service that looks at a store that is not there.
func newWatcher(t *testing.T, hook *inbox) (*watcher, *desk) {
	t.Helper()
	d := newDesk(t, localStore+oneJob+hook.channels("hook", "second"), hook.env())
	w := &watcher{server: &server{app: d.app, cfg: d.cfg, log: slog.New(slog.NewTextHandler(d.err, nil)), wake: make(chan struct{}, 1)}, metrics: metrics.New(metrics.Build{})}
	var err error
	w.daemon, err = daemon.Open(t.Context(), daemon.Options{Dir: serveDir(d.cfg), Workers: 1, Now: d.Now, Log: w.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.daemon.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, d
}

// shows reports whether the metrics have a line.
func (w *watcher) shows(line string) bool {
	page := httptest.NewRecorder()
	w.metrics.Handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return strings.Contains(page.Body.String(), "\n"+line+"\n")
}

const storeDown = `holdfast_alarm{alarm="store_down",backup_job="app",severity="warning",store="main"} 1`

// TestBookIsUnreadable: the service judges, shows and tells all the same; that it will not remember is said once, and nothing is told twice.
func TestBookIsUnreadable(t *testing.T) {
	hook := newInbox(t)
	w, d := newWatcher(t, hook)
	if err := os.Mkdir(filepath.Join(d.cfg.State, "alarms.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.lookOnce(t.Context()); err == nil || !strings.Contains(err.Error(), "remember what was told") {
			t.Errorf("the look ended with %v", err)
		}
	}
	if !w.ready.Load() || !w.shows(storeDown) {
		t.Error("nothing is shown")
	}
	for _, name := range []string{"hook", "second"} {
		if !w.shows(`holdfast_channel_failing{channel="` + name + `"} 0`) {
			t.Errorf("nothing is shown of channel %s, which did not fail yet", name)
		}
	}
	// Once through each of two channels.
	if got := slices.DeleteFunc(hook.took(), func(told string) bool { return told != "store_down main" }); len(got) != 2 {
		t.Errorf("it told %q", got)
	}
	if n := strings.Count(d.said(t), "what was told is not known"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, d.said(t))
	}
}

// TestLookGoesOn: neither a log file that cannot be opened nor signers that cannot be read any more keep the service from judging.
func TestLookGoesOn(t *testing.T) {
	hook := newInbox(t)
	w, d := newWatcher(t, hook)
	w.signers = d.dir + "/signers"
	if err := w.lookOnce(t.Context()); err == nil || w.ready.Load() {
		t.Errorf("without signers, of which none were ever read: ready is %v, %v", w.ready.Load(), err)
	}
	write(t, w.signers, "", 0o600)
	d.cfg.LogFile = d.dir + "/not/there"
	if err := os.Mkdir(filepath.Join(d.cfg.State, "alarms.json"), 0o700); err != nil { // which is warned of
		t.Fatal(err)
	}
	if err := w.lookOnce(t.Context()); err == nil || !strings.Contains(err.Error(), "open the log file") {
		t.Errorf("without its log file: %v", err)
	}
	if !w.ready.Load() || !w.shows(storeDown) {
		t.Error("nothing is shown")
	}
	if err := os.Remove(w.signers); err != nil {
		t.Fatal(err)
	}
	hook.took()
	if err := w.lookOnce(t.Context()); err == nil {
		t.Error("nothing is said of the log file")
	}
	if got := hook.took(); !slices.Equal(got, []string{"config_changed", "config_changed"}) {
		t.Errorf("it told %q", got)
	}
}
