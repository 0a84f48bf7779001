package cli

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
	"holdfast/internal/health"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/survey"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// desk is an invocation in a folder of its own.
type desk struct {
	*app
	dir string
	cfg *config.Config
	err *os.File // what was said to people
}

// newDesk makes one with a configuration; DIR in it stands for the folder.
func newDesk(t testing.TB, text string, environ ...string) *desk {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/holdfast.yaml", "version: 1\n"+strings.ReplaceAll(text, "DIR", dir), 0o600)
	said, err := os.Create(dir + "/said")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { said.Close() })
	environ = append(environ, "HOME="+dir, "HOLDFAST_STATE="+dir+"/state")
	a := &app{Process: Process{Out: io.Discard, Err: said, Now: func() time.Time { return noon }, Environ: environ}}
	a.flags.config = dir + "/holdfast.yaml"
	cfg, err := a.load(config.Flags{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cfg.State, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.closeStores(), a.finish(nil)); err != nil {
			t.Error(err)
		}
	})
	return &desk{a, dir, cfg, said}
}

func (d *desk) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(d.err.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const oneJob = "sources: {data: {kind: files, paths: [DIR/data]}}\njobs: {app: {sources: [data], store: main, seal: none, schedule: {backup: \"0 2 * * *\"}}}\n"

const localStore = "stores: {main: {kind: local, path: DIR/store}}\n"

func alarmsOf(findings []health.Finding) []health.Alarm {
	var all []health.Alarm
	for _, f := range findings {
		all = append(all, f.Alarm)
	}
	return all
}

// TestDamagedJournal: what cannot be read of the journal is an alarm of its own, and takes no other away.
func TestDamagedJournal(t *testing.T) {
	d := newDesk(t, localStore+oneJob)
	write(t, d.cfg.State+"/journal/chain", "no name of a chain", 0o600)
	l := &lookout{}
	state, err := d.stateOf(t.Context(), d.cfg, nil, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := alarmsOf(health.Judge(state, limitsOf(d.cfg)))
	for _, want := range []health.Alarm{health.AuditBroken, health.StoreDown} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %q", want, got)
		}
	}
	if err := os.RemoveAll(d.cfg.State + "/journal"); err != nil {
		t.Fatal(err)
	}
	d.note(d.cfg, "REVIEW", nil, nil)
	if state, err = d.stateOf(t.Context(), d.cfg, nil, l, nil); err != nil || state.Audit.Broken != "" || state.Audit.Records != 1 {
		t.Errorf("once it is mended: %+v, %v", state.Audit, err)
	}
}

// TestLostJournal: a journal that is gone, or was cut off with its head, while a store has more of it is an alarm.
func TestLostJournal(t *testing.T) {
	d := newDesk(t, localStore+oneJob)
	write(t, d.dir+"/data/a.txt", "hello", 0o644)
	p := d.Process
	p.Args = []string{"--config", d.cfg.File, "backup", "app", "--create-store"}
	if code := Main(p); code != 0 {
		t.Fatalf("the backup ended with %d: %s", code, d.said(t))
	}
	broken := func(want string) {
		t.Helper()
		state, err := d.stateOf(t.Context(), d.cfg, nil, &lookout{}, nil)
		if err != nil || !strings.Contains(state.Audit.Broken, want) || (want == "") != (state.Audit.Broken == "") {
			t.Errorf("it is said to be %q, error %v, want %q", state.Audit.Broken, err, want)
		}
	}
	broken("")
	if err := os.Rename(d.cfg.State+"/journal", d.cfg.State+"/gone"); err != nil {
		t.Fatal(err)
	}
	broken("it is gone, and store main has 1 records of this host")
}

// TestHeldJournal: whoever holds the journal's lock for ever keeps nothing from being judged.
func TestHeldJournal(t *testing.T) {
	d := newDesk(t, localStore+oneJob)
	d.note(d.cfg, "REVIEW", nil, nil)
	lock, err := os.OpenFile(d.cfg.State+"/journal/lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := &lookout{}
		l.readJournal(t.Context(), d.app, d.cfg, nil)
		if l.audit.Broken != "" || !l.audit.Checked.IsZero() || l.audit.Records != 1 {
			t.Errorf("it is known that %+v", l.audit)
		}
	})
	if said := d.said(t); !strings.Contains(said, "the journal was not checked: ") || !strings.Contains(said, "another process holds") {
		t.Errorf("it said %q", said)
	}
}

// TestServiceFileIsGarbage: that a service runs is known, and what it tells is not.
func TestServiceFileIsGarbage(t *testing.T) {
	d := newDesk(t, localStore+oneJob)
	if f := d.loadService(d.cfg); f != nil {
		t.Errorf("where none runs it tells %+v", f)
	}
	write(t, serveDir(d.cfg)+"/lock", "", 0o600)
	lock, err := os.OpenFile(serveDir(d.cfg)+"/lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	write(t, serviceFileOf(d.cfg), "{", 0o600)
	f := d.loadService(d.cfg)
	if f == nil || !f.state().Running || !strings.Contains(d.said(t), "warning: what the service does is not known: ") {
		t.Errorf("it tells %+v, and said %q", f, d.said(t))
	}
	if state, err := d.stateOf(t.Context(), d.cfg, nil, &lookout{}, f); err != nil || len(state.Jobs) != 1 {
		t.Errorf("%v: %+v", err, state)
	}
}

// TestServiceIsSilent: a service that told nothing for a while, or nothing at all, is in trouble; one that has just begun is not.
func TestServiceIsSilent(t *testing.T) {
	d := newDesk(t, localStore+oneJob)
	running, err := daemon.Open(t.Context(), daemon.Options{Dir: serveDir(d.cfg), Workers: 1, Now: d.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	told, lock := serviceFileOf(d.cfg), serveDir(d.cfg)+"/lock"
	for _, c := range []struct {
		what, file string
		age        time.Duration
		text       string
		trouble    string
	}{
		{"it has just begun", lock, 0, "", ""},
		{"it never told anything", lock, 2 * time.Minute, "", "what the service does is not known: "},
		{"it told a while ago", told, 14 * time.Minute, "{}", ""},
		{"it told long ago", told, 16 * time.Minute, "{}", "what the service does is not known: "},
		{"it told of its trouble long ago", told, 16 * time.Minute, `{"queue_problem":"disk is full"}`, "disk is full"},
	} {
		if c.text != "" {
			write(t, told, c.text, 0o600)
		}
		at := time.Now().Add(-c.age)
		if err := os.Chtimes(c.file, at, at); err != nil {
			t.Fatal(err)
		}
		f := d.loadService(d.cfg)
		if f == nil || !strings.HasPrefix(f.Trouble, c.trouble) || (f.Trouble == "") != (c.trouble == "") {
			t.Errorf("%s: %+v", c.what, f)
		}
	}
}

// TestDownIsOpenedOnce: a store that refuses is asked no more often for a whole look than for being opened.
func TestDownIsOpenedOnce(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer server.Close()
	d := newDesk(t, "stores: {main: {kind: s3, endpoint: \""+server.URL+"\", bucket: b, region: r, path_style: true, access_key: {env: ID}, secret_key: {env: SECRET}}}\n"+oneJob+
		"keys: {ops: {recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p}}\n", "ID=AKIA", "SECRET=x")
	d.openPlaces(t.Context(), d.cfg.Stores, nil)
	once := asked.Swap(0)
	state, err := d.stateOf(t.Context(), d.cfg, nil, &lookout{}, nil)
	if err != nil || len(state.Keys) != 1 || len(state.Stores) != 1 || state.Stores[0].Down == "" {
		t.Fatalf("%v: %+v", err, state)
	}
	if got := asked.Load(); got != once || once == 0 {
		t.Errorf("it was asked %d times, and %d times to be opened once", got, once)
	}
}

// mute is a store whose lists do not come.
type mute struct{ *storetest.Memory }

func (mute) List(ctx context.Context, _ string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		<-ctx.Done()
		yield(store.Object{}, ctx.Err())
	}
}

// TestMuteStore: a store that does not answer is told as down after a while, and the look goes on.
func TestMuteStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repo := archive.New(store.New(mute{storetest.NewMemory(t)}, store.Options{}), archive.Options{Now: time.Now})
		open := func(context.Context) []survey.Place { return []survey.Place{{Store: "main", Archive: repo}} }
		jobs := []survey.Job{{Name: "app", Stores: []string{"main"}}}
		began := time.Now()
		_, found, err := look(t.Context(), &survey.Surveyor{}, jobs, open)
		if err != nil || time.Since(began) != surveyTime || found.Down["main"] != "the stores were not looked at within 10 min" || len(found.Jobs) != 1 || !found.Jobs[0].Down() {
			t.Errorf("after %s: %+v, %v", time.Since(began), found, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(holdfast.ErrInterrupted)
		if _, _, err := look(ctx, &survey.Surveyor{}, jobs, open); !errors.Is(err, holdfast.ErrInterrupted) {
			t.Errorf("after it was interrupted: %v", err)
		}
	})
}

// TestUnshown: what the output told already takes nothing else with it.
func TestUnshown(t *testing.T) {
	other := errors.New("close the store")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{shown{errToday}, ""},
		{errors.Join(shown{errToday}, nil), ""},
		{other, "close the store"},
		{errors.Join(errors.Join(nil, shown{errAttention}), other), "close the store"},
		{errors.Join(other, errors.Join(shown{errToday}, other)), "close the store\nclose the store"},
	} {
		got := ""
		if err := unshown(c.err); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("of %q is left %q, want %q", c.err, got, c.want)
		}
	}
}

func TestWatchman(t *testing.T) {
	hook := newInbox(t)
	d := newDesk(t, "stores: {main: {kind: local, path: DIR/store}, away: {kind: local, path: DIR/away}}\n"+hook.channels("hook"), hook.env())
	w, err := d.newWatchman(d.cfg, &watchFlags{every: "15m", drills: "35d"})
	if err != nil {
		t.Fatal(err)
	}
	// At the first look no store answers, and no job is known.
	if err := w.lookAndTell(t.Context()); err != nil {
		t.Error(err)
	}
	if got := hook.took(); !slices.Equal(got, []string{"store_down away", "store_down main"}) {
		t.Errorf("it told %q", got)
	}
	// What was seen is not readable: that is said, and the rest is told.
	if err := os.MkdirAll(d.dir+"/store/.holdfast", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, w.file(), "{", 0o600)
	w.book = nil
	if err := os.Remove(filepath.Join(d.cfg.State, "alarms.json")); err != nil {
		t.Fatal(err)
	}
	if err := w.lookAndTell(t.Context()); err == nil || !strings.Contains(holdfast.Hint(err), "watch.json") {
		t.Errorf("of a memory that is not readable: %v", err)
	}
	if got := hook.took(); !slices.Contains(got, "store_down away") {
		t.Errorf("it told %q", got)
	}
}
