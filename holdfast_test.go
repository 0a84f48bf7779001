package holdfast_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"holdfast"
)

func TestNames(t *testing.T) {
	for text, valid := range map[string]bool{
		"a": true, "app": true, "0": true, "my-app-2": true, "a-": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "App": false, "a_b": false, "a.b": false, "a/b": false, "..": false, "a b": false, "a\n": false, "ä": false,
		strings.Repeat("a", 64): false,
	} {
		job, err := holdfast.ParseJobName(text)
		if valid != (err == nil) || valid && string(job) != text || !valid && (!errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "") {
			t.Errorf("ParseJobName(%q) = %q, %v", text, job, err)
		}
		src, err := holdfast.ParseSourceName(text)
		if valid != (err == nil) || valid && string(src) != text {
			t.Errorf("ParseSourceName(%q) = %q, %v", text, src, err)
		}
	}
}

func TestBackupID(t *testing.T) {
	seen := map[holdfast.BackupID]bool{}
	letters := map[rune]bool{}
	for range 2000 {
		id := holdfast.NewBackupID()
		if seen[id] {
			t.Fatalf("%s was drawn twice", id)
		}
		seen[id] = true
		if parsed, err := holdfast.ParseBackupID(string(id)); err != nil || parsed != id {
			t.Fatalf("ParseBackupID(%q) = %q, %v", id, parsed, err)
		}
		for _, r := range id {
			letters[r] = true
		}
	}
	if len(letters) != 32 {
		t.Errorf("IDs have %d different characters, want 32", len(letters))
	}
	for _, text := range []string{"", "aaaaaaaaa", "aaaaaaaaaaa", "AAAAAAAAAA", "iaaaaaaaaa", "oaaaaaaaaa", "aaaaaaaaa1", "aaaa/aaaaa", "aaaaaaaaa\n"} {
		if _, err := holdfast.ParseBackupID(text); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("ParseBackupID(%q): %v", text, err)
		}
	}
}

func TestLevel(t *testing.T) {
	for text, want := range map[string]holdfast.Level{"L0": holdfast.L0, "l1": holdfast.L1, "2": holdfast.L2, "L2": holdfast.L2} {
		if got, err := holdfast.ParseLevel(text); err != nil || got != want || got.String() != "L"+strings.TrimLeft(strings.ToUpper(text), "L") {
			t.Errorf("ParseLevel(%q) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "L", "L3", "-1", "LL1", "1 "} {
		if _, err := holdfast.ParseLevel(text); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("ParseLevel(%q): %v", text, err)
		}
	}
}

func TestHint(t *testing.T) {
	cause := errors.New("cause")
	hinted := holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrCannotTest, cause), "do this")
	for _, c := range []struct {
		name string
		err  error
		hint string
	}{
		{"itself", hinted, "do this"},
		{"wrapped", fmt.Errorf("drill: %w", hinted), "do this"},
		{"joined", errors.Join(errors.New("other"), hinted), "do this"},
		{"hinted again", holdfast.WithHint(fmt.Errorf("drill: %w", hinted), "do that"), "do that"},
		{"without", cause, ""},
		{"nil", nil, ""},
	} {
		if got := holdfast.Hint(c.err); got != c.hint {
			t.Errorf("%s: hint %q, want %q", c.name, got, c.hint)
		}
	}
	if !errors.Is(hinted, cause) || !errors.Is(hinted, holdfast.ErrCannotTest) || hinted.Error() != "cannot test: cause" {
		t.Errorf("a hint changed the error: %v", hinted)
	}
	if err := holdfast.WithHint(nil, "do this"); err != nil {
		t.Errorf("a hint made an error: %v", err)
	}
}

func TestSentinelsAreApart(t *testing.T) {
	all := []error{
		holdfast.ErrUsage, holdfast.ErrIncomplete, holdfast.ErrDifference, holdfast.ErrBusy, holdfast.ErrCannotTest, holdfast.ErrInterrupted,
	}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("%v is %v", a, b)
			}
		}
	}
}

// holder keeps a secret where fmt cannot call its methods.
type holder struct {
	secret holdfast.Secret
	Public holdfast.Secret
	ptr    *holdfast.Secret
}

func TestSecretIsNotShown(t *testing.T) {
	const text = "hunter2"
	s := holdfast.NewSecret(text)
	if s.Reveal() != text || s.IsZero() || !(holdfast.Secret{}).IsZero() || !holdfast.NewSecret("").IsZero() || (holdfast.Secret{}).Reveal() != "" {
		t.Error("a secret is not what was put in")
	}
	var shown []string
	h := holder{s, s, &s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t", "%p", "%T", "%5.2f", "%U"} {
		for _, value := range []any{s, &s, h, &h, []holdfast.Secret{s}, map[string]holdfast.Secret{"a": s}, [1]any{s}} {
			shown = append(shown, fmt.Sprintf(verb, value))
		}
	}
	shown = append(shown, fmt.Sprint(s), fmt.Sprintln(h), fmt.Errorf("connect: %v %d", s, s).Error())
	data, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": h})
	if err != nil {
		t.Fatal(err)
	}
	shown = append(shown, string(data))
	var log strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("m", "secret", s, "pointer", &s, "holder", h)
	}
	shown = append(shown, log.String())
	for _, text := range shown {
		if strings.Contains(text, "hunter2") || strings.Contains(strings.ToLower(text), "68756e74657232") {
			t.Errorf("a secret is shown: %s", text)
		}
	}
	if !strings.Contains(string(data), "********") {
		t.Errorf("the mask is not shown: %s", data)
	}
}

func TestEqualSecretsAreEqual(t *testing.T) {
	if a, b := holdfast.NewSecret("x"), holdfast.NewSecret("x"); a.Reveal() != b.Reveal() {
		t.Error("two secrets of one text differ")
	}
}
