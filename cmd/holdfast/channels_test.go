package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sink is a service that messages are sent to, and what came.
type sink struct {
	*httptest.Server

	mu     sync.Mutex // guards what follows
	came   []request
	answer http.HandlerFunc // nil: 200 with "OK"
}

type request struct {
	path, query, body string
}

func newSink(t *testing.T, answer http.HandlerFunc) *sink {
	t.Helper()
	s := &sink{answer: answer}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.came = append(s.came, request{r.URL.Path, r.URL.RawQuery, string(body)})
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	fmt.Fprint(w, "OK")
}

// took returns what came since it was last asked.
func (s *sink) took() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	came := s.came
	s.came = nil
	return came
}

// alarms are the messages that came to a webhook, each with its kind and its alarm.
func (s *sink) alarms(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, r := range s.took() {
		var m struct{ Kind, Alarm, Title string }
		if err := json.Unmarshal([]byte(r.body), &m); err != nil {
			t.Fatalf("%v: %s", err, r.body)
		}
		word := m.Kind + " " + m.Alarm
		if strings.Contains(m.Title, "still") {
			word = "still " + m.Alarm
		}
		all = append(all, word)
	}
	return all
}

// secret writes a file with a secret and returns how a configuration names it.
func (s site) secret(t *testing.T, name, text string) string {
	t.Helper()
	return fmt.Sprintf("{file: %q}", s.write(t, "secrets/"+name, text))
}

func (s *site) channels(t *testing.T, text string) {
	t.Helper()
	s.configure(t, fmt.Sprintf(siteConfig, "", "")+"channels:\n"+text)
}

// TestAlarmsAreTold: once when they begin, again while they last, once when they ended.
func TestAlarmsAreTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	hook := newSink(t, nil)
	s.channels(t, "  hook: {kind: webhook, url: "+s.secret(t, "hook", hook.URL+"/hook")+"}\n")
	at := noon
	told := func(pass time.Duration, code int, want ...string) {
		t.Helper()
		at = at.Add(pass)
		s.at(t, at, "notify", "alarms").expect(t, code)
		if got := hook.alarms(t); !slices.Equal(got, want) {
			t.Errorf("at %s it was told %q, want %q", at, got, want)
		}
	}
	told(0, 1, "alarm stale", "alarm key_due")
	told(5*time.Minute, 1)
	told(10*time.Hour, 1)
	told(15*time.Hour, 1, "still stale", "still key_due")
	s.at(t, at, "backup").expect(t, 0, "committed")
	told(5*time.Minute, 3)
	told(20*time.Minute, 3, "resolved stale")
	told(5*time.Minute, 3)
	// What nobody took is told again, and that it was not is an error.
	hook.answer = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) }
	at = at.Add(24 * time.Hour)
	s.at(t, at, "notify", "alarms").expect(t, 1, "an alarm reached nobody: channel hook: webhook 127.0.0.1:", "answered 503 Service Unavailable")
	hook.answer = nil
	hook.took()
	told(5*time.Minute, 1, "alarm stale", "still key_due")
}

// TestChannelFaults: whatever a channel does costs no run anything but time, is said, and holds up no other; and no secret is said.
func TestChannelFaults(t *testing.T) {
	t.Parallel()
	const canary = "canary-hook-41d0c7"
	s := newSite(t, "", "")
	good := newSink(t, nil)
	never := make(chan struct{})
	slow := newSink(t, func(http.ResponseWriter, *http.Request) { <-never })
	t.Cleanup(func() { close(never) }) // before the server is closed, which waits
	moved := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/"+canary, http.StatusFound)
	})
	page := newSink(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>Sign in to see "+r.URL.Path+"</html>")
	})
	down := newSink(t, nil)
	down.Close()
	hook := func(name string, to *sink) string {
		return fmt.Sprintf("  %s: {kind: webhook, runs: [success, failure], url: %s, authorization: %s}\n", name, s.secret(t, name, to.URL+"/"+canary), s.secret(t, "token", "Bearer token-"+canary))
	}
	text := hook("down", down) + hook("good", good) + hook("moved", moved) + hook("page", page)
	text += fmt.Sprintf("  page2: {kind: healthchecks, url: %s}\n", s.secret(t, "page2", down.URL+"/ping/"+canary))
	s.channels(t, text+hook("slow", slow))

	var said []outcome
	o := s.at(t, noon, "notify", "test")
	said = append(said, o)
	o.expect(t, 1, "channel good (webhook): the test was taken", "channel down: webhook 127.0.0.1:", "connection refused", "channel slow: ", "no answer within 10s",
		"channel moved: ", "answered 302 Found, a redirect to http://169.254.169.254; redirects are not followed", "channel page: ", "with a page, not an acknowledgement", "channel page2: ")
	if strings.Count(o.out, "was taken") != 1 {
		t.Errorf("more than one took it:\n%s", o.out)
	}
	said = append(said, s.at(t, noon, "notify", "test", "good"), s.at(t, noon, "notify", "test", "down"), s.at(t, noon, "notify", "test", "down", "--json"), s.at(t, noon, "config", "show"))
	for i, code := range []int{0, 1, 1, 0} {
		said[1+i].expect(t, code)
	}
	good.took()

	o = s.at(t, noon, "backup", "app")
	said = append(said, o)
	o.expect(t, 0, "committed", "warning: channel down did not hear of this run: ", "warning: channel slow did not hear of this run: ", "warning: channel moved did", "warning: channel page did", "warning: channel page2 did")
	if got := good.alarms(t); !slices.Equal(got, []string{"success "}) {
		t.Errorf("of the run was told: %q", got)
	}
	s.channels(t, text) // ten seconds of each message are enough
	if err := os.Rename(s.path("data"), s.path("away")); err != nil {
		t.Fatal(err)
	}
	o = s.at(t, noon.Add(time.Minute), "backup", "app")
	said = append(said, o)
	o.expect(t, 1, "warning: channel down did not hear of this run: ")
	if got := good.alarms(t); !slices.Equal(got, []string{"failure "}) {
		t.Errorf("of the run that failed was told: %q", got)
	}

	// That the others fail is told through the one that does not.
	o = s.at(t, noon.Add(2*time.Minute), "notify", "alarms")
	said = append(said, o)
	o.expect(t, 1)
	if got := good.alarms(t); !slices.Contains(got, "alarm failed") {
		t.Errorf("told %q", got)
	}
	o = s.at(t, noon.Add(7*time.Minute), "notify", "alarms")
	said = append(said, o)
	if got := good.alarms(t); !slices.Equal(got, slices.Repeat([]string{"alarm channel_failing"}, 3)) {
		t.Errorf("told %q", got)
	}
	said = append(said, s.at(t, noon.Add(8*time.Minute), "status", "--json"), s.at(t, noon.Add(8*time.Minute), "status"))
	// One that was taken out fails no more.
	s.channels(t, "  good: {kind: webhook, url: "+s.secret(t, "good", good.URL+"/"+canary)+"}\n")
	if o := s.at(t, noon.Add(30*time.Minute), "notify", "alarms"); strings.Contains(o.out, "channel_failing") {
		t.Errorf("channels that are gone fail:\n%s", o.out)
	}

	for _, o := range said {
		if strings.Contains(o.out+o.err, canary) {
			t.Errorf("a secret was said:\n%s%s", o.out, o.err)
		}
	}
	for _, path := range tree(t, s.dir) {
		if !strings.HasPrefix(path, s.path("secrets/")) && wordIn(t, path, []string{canary}) != "" {
			t.Errorf("a secret stands in %s", path)
		}
	}
}

// TestHeartbeat: a page hears that a run began, and then how it ended, under one name; of runs by hand as of those of a service.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	page := newSink(t, nil)
	text := "  page: {kind: healthchecks, url: " + s.secret(t, "page", page.URL+"/ping/uuid") + "}\n"
	s.channels(t, text)
	beats := func(want ...string) {
		t.Helper()
		var got []string
		runs := map[string]bool{}
		for _, r := range page.took() {
			got = append(got, strings.TrimPrefix(r.path, "/ping/uuid"))
			runs[r.query] = true
		}
		if !slices.Equal(got, want) || len(runs) != 1 || runs[""] {
			t.Errorf("it heard %q under %v, want %q", got, runs, want)
		}
	}
	s.at(t, noon, "backup", "app").expect(t, 0)
	beats("/start", "")
	if err := os.Rename(s.path("data"), s.path("away")); err != nil {
		t.Fatal(err)
	}
	s.at(t, noon.Add(time.Minute), "backup", "app").expect(t, 1)
	beats("/start", "/1")
	if err := os.Rename(s.path("away"), s.path("data")); err != nil {
		t.Fatal(err)
	}
	s.at(t, noon.Add(2*time.Minute), "verify", "--job", "app").expect(t, 0)
	if got := page.took(); len(got) != 0 {
		t.Errorf("of a verification it heard %q", got)
	}
	v := s.serve(t, noon.AddDate(0, 0, 1))
	v.says(1, "msg=done task=app/backup")
	v.stop()
	beats("/start", "")

	// A message of a service that was ended is the number of that, and not nothing.
	hook := s.script(t, "hook", waiting)
	s.configure(t, fmt.Sprintf(siteConfig, "", fmt.Sprintf(before, hook, s.dir))+"channels:\n"+text)
	v = s.serve(t, noon.AddDate(0, 0, 2))
	s.begun(t)
	v.signal(syscall.SIGTERM)
	v.says(1, "waiting for what runs")
	v.signal(syscall.SIGTERM)
	v.exits(0)
	beats("/start", "/130")
}

// TestServiceTellsAlarms: the service tells by itself, and says what it could not.
func TestServiceTellsAlarms(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	hook := newSink(t, nil)
	const canary = "canary-hook-77ae01"
	s.channels(t, "  hook: {kind: webhook, url: "+s.secret(t, "hook", hook.URL+"/"+canary)+"}\n")
	if err := os.RemoveAll(s.path("data")); err != nil {
		t.Fatal(err)
	}
	v := s.serve(t, noon)
	var told []string
	awaits(t, "alarms", func() bool {
		told = append(told, hook.alarms(t)...)
		return slices.Contains(told, "alarm failed")
	})
	v.stop()
	slices.Sort(told)
	if len(told) != len(slices.Compact(slices.Clone(told))) {
		t.Errorf("told twice: %q", told)
	}
	if info, err := os.Stat(filepath.Join(s.path("state"), "alarms.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("what was told: %v, %v", info, err)
	}

	hook.Close()
	v = s.serve(t, noon.AddDate(0, 0, 2))
	v.says(1, "level=ERROR msg=.not all was looked at and told.*an alarm reached nobody: channel hook: webhook 127.0.0.1:.*connection refused")
	v.stop()
	if regexp.MustCompile(canary).MatchString(v.said()) {
		t.Errorf("a secret was said:\n%s", v.said())
	}
}

// TestChannelThatRefuses: when there is much to tell, a channel that takes nothing is soon left alone, and the others hear of everything.
func TestChannelThatRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	good := newSink(t, nil)
	bad := newSink(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	text := fmt.Sprintf(siteConfig, "", "")
	for i := range 5 {
		text = strings.Replace(text, "jobs: {", fmt.Sprintf("jobs: {app%d: {sources: [data], store: main, recipients: [ops], schedule: {backup: \"0 2 * * *\"}}, ", i), 1)
	}
	s.configure(t, text+"channels:\n  bad: {kind: webhook, url: "+s.secret(t, "bad", bad.URL)+"}\n  good: {kind: webhook, url: "+s.secret(t, "good", good.URL)+"}\n")
	for range 2 {
		s.at(t, noon, "notify", "alarms").expect(t, 1)
		if n := len(bad.took()); n != 3 {
			t.Errorf("of the channel that refuses %d messages were tried", n)
		}
		if n := len(good.took()); n < 6 {
			t.Errorf("the other one heard of %d", n)
		}
		if err := os.Remove(s.path("state/alarms.json")); err != nil {
			t.Fatal(err)
		}
	}
}
