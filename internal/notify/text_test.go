package notify_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"pgregory.net/rapid"

	"holdfast/internal/notify"
)

// sizes are what services count in.
var sizes = map[string]func(rune) int{"bytes": notify.InBytes, "units": notify.InUnits, "slack": notify.InSlack, "json": notify.InJSON}

func sizeOf(text string, size func(rune) int) int {
	sum := 0
	for _, r := range text {
		sum += size(r)
	}
	return sum
}

var anyText = rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("ab c\n\r\t<>&\"\\…é😀\u202e"))))

func TestCut(t *testing.T) {
	for name, size := range sizes {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			text, limit := anyText.Draw(t, "text"), rapid.IntRange(-3, 60).Draw(t, "limit")
			got := notify.Cut(text, limit, size)
			if !utf8.ValidString(got) || got != "" && sizeOf(got, size) > limit {
				t.Fatalf("%q is %d of %d", got, sizeOf(got, size), limit)
			}
			if sizeOf(text, size) <= limit && got != text {
				t.Fatalf("%q was cut without need", got)
			}
			if head, was := strings.CutSuffix(got, "…"); got != text && got != "" {
				if !was || !strings.HasPrefix(text, head) {
					t.Fatalf("%q is no beginning", got)
				}
				// As much is kept as there is room for.
				next, _ := utf8.DecodeRuneInString(text[len(head):])
				if sizeOf(got, size)+size(next) <= limit {
					t.Fatalf("%q leaves room for %q", got, next)
				}
			}
		}))
	}
}

// A text of any kind becomes printable lines within the limit, and what to do is never what gives way to a long text.
func TestFit(t *testing.T) {
	for name, size := range sizes {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			m := notify.Message{
				Kind: notify.Alarm, Title: anyText.Draw(t, "title"), Text: anyText.Draw(t, "text") + strings.Repeat("x", rapid.IntRange(0, 3000).Draw(t, "more")),
				Hint: "do this", Host: anyText.Draw(t, "host"), Since: since, Time: now,
			}
			limit := rapid.IntRange(600, 2000).Draw(t, "limit")
			got := m.Fit("HEAD", limit, size)
			if sizeOf(got, size) > limit || !utf8.ValidString(got) {
				t.Fatalf("%d of %d", sizeOf(got, size), limit)
			}
			if strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Fatalf("not printable: %q", got)
			}
			if sizeOf(m.Host, size) < 300 && (!strings.HasPrefix(got, "HEAD\n") || !strings.Contains(got, "\nWhat to do: do this\n")) {
				t.Fatalf("lost: %q", got)
			}
		}))
	}
}

// Each service gets no more than it takes, however much there is to tell, and valid text.
func TestLimits(t *testing.T) {
	long := with(alarm, func(m *notify.Message) {
		m.Title, m.Text = strings.Repeat("title <&> 😀 ", 100), strings.Repeat("a \"line\" <&> of \\ text 😀\n", 5000)
	})
	endless := with(alarm, func(m *notify.Message) {
		m.Title, m.Hint, m.Job = strings.Repeat("😀", 9000), strings.Repeat("<\n", 9000), strings.Repeat("j", 70_000)
	})
	quoted := with(alarm, func(m *notify.Message) { m.Title, m.Text = strings.Repeat("\"", 9000), strings.Repeat("\"", 9000) })
	units := func(text string) int { return len(utf16.Encode([]rune(text))) }
	field := func(t *testing.T, body, name string) string {
		var fields map[string]any
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			t.Fatal(err)
		}
		return fields[name].(string)
	}
	limits := map[string]func(t *testing.T, r request) (text string, size, limit int){
		"slack": func(t *testing.T, r request) (string, int, int) {
			text := field(t, r.body, "text")
			return text, units(text), 3000
		},
		"discord": func(t *testing.T, r request) (string, int, int) {
			text := field(t, r.body, "content")
			return text, units(text), 2000
		},
		"telegram": func(t *testing.T, r request) (string, int, int) {
			text := field(t, r.body, "text")
			return text, units(text), 4096
		},
		"healthchecks": func(_ *testing.T, r request) (string, int, int) { return r.body, len(r.body), 10_000 },
		"ntfy": func(t *testing.T, r request) (string, int, int) {
			if title := field(t, r.body, "title"); len(title) > 250 || len(r.body) > 8192 || !utf8.ValidString(title) {
				t.Errorf("title of %d, body of %d bytes", len(title), len(r.body))
			}
			text := field(t, r.body, "message")
			return text, len(text), 4096
		},
		"kuma": func(t *testing.T, r request) (string, int, int) {
			at, err := url.Parse(r.uri)
			if err != nil {
				t.Fatal(err)
			}
			text := at.Query().Get("msg")
			return text, len(text), 500
		},
	}
	each(t, func(t *testing.T, s service) {
		limit := limits[s.name]
		if limit == nil {
			return // it takes messages as they are
		}
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
		channel := s.must(t, sink.URL, notify.Reach{})
		for i, m := range []notify.Message{long, endless, quoted} {
			if err := channel.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			text, size, most := limit(t, sink.requests()[i])
			if size > most || size < most/2 || !utf8.ValidString(text) || !strings.Contains(text, "…") {
				t.Errorf("%d of %d: %.80q", size, most, text)
			}
		}
		if beat, ok := channel.(notify.Beat); ok {
			if err := beat.End(t.Context(), run, 1, 0, strings.Repeat("😀 line\n", 5000)); err != nil {
				t.Fatal(err)
			}
			if text, size, most := limit(t, sink.requests()[3]); size > most || size < most/2 || !utf8.ValidString(text) {
				t.Errorf("%d of %d", size, most)
			}
		}
	})
}
