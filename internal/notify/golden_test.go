package notify_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/notify"
)

var update = flag.Bool("update", false, "write the golden requests instead of comparing them")

var signature = regexp.MustCompile(`t=[0-9]+,v1=[0-9a-f]{64}`)

// compareGolden compares requests with those in testdata.
func compareGolden(t *testing.T, name string, requests []request) {
	t.Helper()
	var out strings.Builder
	for _, r := range requests {
		fmt.Fprintf(&out, "%s %s\n", r.method, r.uri)
		for _, header := range []string{"User-Agent", "Content-Type", "Authorization", notify.SignatureHeader} {
			if value := r.header.Get(header); value != "" {
				fmt.Fprintf(&out, "%s: %s\n", header, signature.ReplaceAllString(value, "t=…,v1=…"))
			}
		}
		fmt.Fprintf(&out, "\n%s\n\n", r.body)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// What is sent for each kind of message, and for one that tries to break out, is in testdata.
func TestRequests(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
		channel := s.must(t, sink.URL, notify.Reach{})
		for _, m := range []notify.Message{alarm, resolved, locked, success, failure, probe, hostile} {
			if err := channel.Send(t.Context(), m); err != nil {
				t.Errorf("%s: %v", m.Kind, err)
			}
		}
		compareGolden(t, s.name, sink.requests())
	})
}

func TestBeats(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
		beat, ok := s.must(t, sink.URL, notify.Reach{}).(notify.Beat)
		if !ok {
			return
		}
		if err := beat.Start(t.Context(), run); err != nil {
			t.Error(err)
		}
		for _, end := range []struct {
			run  string
			exit int
			took time.Duration
			text string
		}{
			{run, 0, 90 * time.Second, "stored: 3 items\r\n12 MiB & more\x1b"},
			{run, 0, 30 * time.Hour, ""},
			{run, 4, -time.Second, ""},
			{run, 255, time.Millisecond, "one\ntwo"},
			{"", 256, 0, ""},
			{"", -1, 0, ""},
		} {
			if err := beat.End(t.Context(), end.run, end.exit, end.took, end.text); err != nil {
				t.Errorf("%+v: %v", end, err)
			}
		}
		compareGolden(t, s.name+".beats", sink.requests())
	})
}

// A check that a slug makes is answered in another way, and a run without a proper name is not told.
func TestHealthchecksAnswers(t *testing.T) {
	sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, "Created")
	})
	beat, err := notify.NewHealthchecks(notify.HealthchecksOptions{URL: secret(sink.URL + "/pingkey/slug?create=1")})
	if err != nil {
		t.Fatal(err)
	}
	if err := beat.Start(t.Context(), run); err != nil {
		t.Error(err)
	}
	if got := sink.requests()[0].uri; got != "/pingkey/slug/start?create=1&rid="+run {
		t.Errorf("asked %s", got)
	}
	if err := beat.End(t.Context(), "run 7", 0, 0, ""); err == nil || !strings.Contains(err.Error(), "not named by a UUID") || len(sink.requests()) != 1 {
		t.Errorf("got %v after %d requests", err, len(sink.requests()))
	}
}

// What Alertmanager's OpenAPI description of postableAlerts demands, and what makes a resolution end its alarm.
func TestAlertmanagerAccepts(t *testing.T) {
	type postable struct {
		StartsAt     *time.Time        `json:"startsAt"`
		EndsAt       *time.Time        `json:"endsAt"`
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
		GeneratorURL string            `json:"generatorURL"`
	}
	sink := newSink(t, func(http.ResponseWriter, *http.Request) {})
	channel, err := notify.NewAlertmanager(notify.AlertmanagerOptions{URL: sink.URL, Token: secret("abc"), Lasts: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	early := with(resolved, func(m *notify.Message) { m.Time = since.Add(-time.Hour) })
	undated := with(alarm, func(m *notify.Message) { m.Time, m.Since = time.Time{}, time.Time{} })
	var posted []postable
	for i, m := range []notify.Message{alarm, resolved, early, undated, success, locked, hostile} {
		if err := channel.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		var alerts []postable
		decoder := json.NewDecoder(strings.NewReader(sink.requests()[i].body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&alerts); err != nil || len(alerts) != 1 {
			t.Fatalf("%d alerts: %v", len(alerts), err)
		}
		alert := alerts[0]
		for name, value := range alert.Labels {
			if !regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`).MatchString(name) || value == "" {
				t.Errorf("label %q is %q", name, value)
			}
		}
		if alert.Labels["alertname"] == "" || alert.StartsAt == nil || alert.EndsAt != nil && alert.EndsAt.Before(*alert.StartsAt) {
			t.Errorf("not acceptable: %+v", alert)
		}
		posted = append(posted, alert)
	}
	if diff := cmp.Diff(posted[0].Labels, posted[1].Labels); diff != "" {
		t.Errorf("the resolution is of another alert:\n%s", diff)
	}
	if got := posted[0].EndsAt.Sub(now.Truncate(time.Second)); got != time.Hour {
		t.Errorf("the alarm lasts %s", got)
	}
	if !posted[1].EndsAt.Equal(now.Truncate(time.Second)) || posted[4].EndsAt != nil {
		t.Errorf("the resolution ends at %s, the success at %v", posted[1].EndsAt, posted[4].EndsAt)
	}
	if age := time.Since(*posted[3].StartsAt); age < 0 || age > time.Hour {
		t.Errorf("a message without a time began %s ago", age)
	}
	if got := sink.requests()[0].header.Get("Authorization"); got != "Bearer abc" {
		t.Errorf("authorized by %q", got)
	}
}
