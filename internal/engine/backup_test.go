package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/engine"
	"holdfast/internal/seal"
)

// failing lists the moments at which a source can fail.
func failing() map[string]*fake {
	return map[string]*fake{
		"capture": {name: "bad", content: "x", capture: errBroken},
		"open":    {name: "bad", content: "x", open: errBroken},
		"read":    {name: "bad", content: strings.Repeat("x", 3<<20), read: errBroken},
		"end":     {name: "bad", content: "x", end: errBroken},
		"facts":   {name: "bad", content: "x", facts: errBroken},
		"close":   {name: "bad", content: "x", close: errBroken},
	}
}

func TestFailingSourceIsAbsentAsAWhole(t *testing.T) {
	for moment, bad := range failing() {
		t.Run(moment, func(t *testing.T) {
			k := newKit(t)
			result, err := k.backup(t, good("app"), bad.named(), good("etc"))
			if !errors.Is(err, holdfast.ErrIncomplete) || !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "source bad") {
				t.Errorf("error %v, want ErrIncomplete with the cause", err)
			}
			if bad.closed != bad.captured {
				t.Errorf("%d captures, %d closed", bad.captured, bad.closed)
			}
			if result.Entry.Complete || len(result.Missing) != 1 || len(k.list(t)) != 1 {
				t.Errorf("result %+v", result)
			}
			for _, name := range k.memory.Names() {
				if strings.Contains(name, "/bad.") {
					t.Errorf("%s was left", name)
				}
			}
			b, err := k.archive().Open(t.Context(), result.Entry)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Verify(t.Context(), holdfast.L2, nil); err != nil {
				t.Error(err)
			}
			missing, err := b.Missing(t.Context())
			if err != nil || len(b.Manifest.Sources) != 2 || !strings.Contains(missing["bad"], errBroken.Error()) || b.Manifest.Missing[0].Why != "failed" {
				t.Errorf("sources %v, missing %v, %v", b.Manifest.Sources, missing, err)
			}
			if !k.told(holdfast.EventWarning, "not in this backup") {
				t.Error("nobody was warned")
			}
		})
		t.Run(moment+" of all", func(t *testing.T) {
			k := newKit(t)
			other := *bad
			other.name = "worse"
			_, err := k.backup(t, bad.named(), other.named())
			if !errors.Is(err, errBroken) || errors.Is(err, holdfast.ErrIncomplete) || !strings.Contains(err.Error(), "source worse") {
				t.Errorf("error %v, want both causes and no backup", err)
			}
			if names := k.memory.Names(); len(names) > 0 {
				t.Errorf("left: %q", names)
			}
		})
	}
}

func TestAbsentSource(t *testing.T) {
	for _, optional := range []bool{true, false} {
		t.Run(fmt.Sprintf("optional %v", optional), func(t *testing.T) {
			k := newKit(t)
			absent := (&fake{name: "etc", capture: fmt.Errorf("look: %w", fs.ErrNotExist)}).named()
			absent.Optional = optional
			result, err := k.backup(t, good("app"), absent)
			if errors.Is(err, holdfast.ErrIncomplete) == optional || optional && err != nil {
				t.Errorf("error %v", err)
			}
			if result.Entry.Complete != optional || len(k.list(t)) != 1 || result.Manifest.Missing[0].Why != "absent" {
				t.Errorf("entry %+v, missing %+v", result.Entry, result.Manifest.Missing)
			}
			if !k.told(holdfast.EventWarning, "not in this backup") {
				t.Error("nobody was warned")
			}
		})
	}
	t.Run("optional and failed", func(t *testing.T) {
		k := newKit(t)
		bad := (&fake{name: "etc", capture: errBroken}).named()
		bad.Optional = true
		if _, err := k.backup(t, good("app"), bad); !errors.Is(err, holdfast.ErrIncomplete) {
			t.Errorf("error %v, want ErrIncomplete", err)
		}
	})
}

func TestStoreFailureIsFatal(t *testing.T) {
	k := newKit(t)
	second := &fake{name: "second", content: "y"}
	// Calls 1 to 5 list the backups; the first Put and all that follow fail.
	k.memory.CutAt(6)
	_, err := k.backup(t, good("app"), second.named())
	if !errors.Is(err, archive.ErrStore) || errors.Is(err, holdfast.ErrIncomplete) {
		t.Errorf("error %v, want ErrStore", err)
	}
	if second.captured != 0 {
		t.Error("a second source was tried on a store that takes nothing")
	}
	k.memory.Restore()
	if entries := k.list(t); len(entries) != 0 {
		t.Errorf("listed %v", entries)
	}
}

func TestInterruptedBackupLeavesNothing(t *testing.T) {
	for _, cause := range []error{holdfast.ErrInterrupted, nil} {
		k := newKit(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		slow := &fake{name: "slow", content: strings.Repeat("x", 1<<20), reading: func() { cancel(cause) }}
		_, err := engine.Backup(ctx, k.archive(), plan(good("app"), slow.named(), good("etc")), nil)
		if want := context.Canceled; cause == nil && !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
		if cause != nil && !errors.Is(err, cause) {
			t.Errorf("error %v, want %v", err, cause)
		}
		if slow.closed != 1 {
			t.Errorf("the capture was closed %d times", slow.closed)
		}
		if names := k.memory.Names(); len(names) > 0 {
			t.Errorf("left: %q", names)
		}
	}
}

func TestInterruptedBeforeItBegan(t *testing.T) {
	k := newKit(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(holdfast.ErrInterrupted)
	if _, err := engine.Backup(ctx, k.archive(), plan(good("app")), nil); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("error %v, want ErrInterrupted", err)
	}
}

func TestClockThatWentBackwards(t *testing.T) {
	for _, c := range []struct {
		back time.Duration
		warn bool
	}{{0, false}, {30 * time.Second, false}, {24 * time.Hour, true}} {
		t.Run(c.back.String(), func(t *testing.T) {
			k := newKit(t)
			first, err := k.backup(t, good("app"))
			if err != nil {
				t.Fatal(err)
			}
			p := plan(good("app"))
			p.Now = start.Add(-c.back)
			second, err := engine.Backup(t.Context(), k.archive(), p, k.observe)
			if err != nil {
				t.Fatal(err)
			}
			if !second.Entry.Time.Equal(first.Entry.Time.Add(time.Second)) {
				t.Errorf("the second is of %v, the first of %v", second.Entry.Time, first.Entry.Time)
			}
			if newest, err := archive.Find(k.list(t), ""); err != nil || newest.ID != second.Entry.ID {
				t.Errorf("the newest is %v, %v", newest.ID, err)
			}
			if k.told(holdfast.EventWarning, "the clock says") != c.warn {
				t.Errorf("warned: %v, want %v", !c.warn, c.warn)
			}
		})
	}
}

func TestBegunIsToldFirst(t *testing.T) {
	k := newKit(t)
	p := plan(good("app"))
	var begun archive.Entry
	p.Begun = func(entry archive.Entry) error {
		begun = entry
		if names := k.memory.Names(); len(names) > 0 {
			t.Errorf("stored already: %q", names)
		}
		return nil
	}
	result, err := engine.Backup(t.Context(), k.archive(), p, nil)
	if err != nil || begun.ID != result.Entry.ID || !begun.Time.Equal(result.Entry.Time) || begun.Job != "job" {
		t.Errorf("begun %+v, result %+v, %v", begun, result.Entry, err)
	}
	p.Begun = func(archive.Entry) error { return errBroken }
	before := len(k.memory.Names())
	if _, err := engine.Backup(t.Context(), k.archive(), p, nil); !errors.Is(err, errBroken) || len(k.memory.Names()) != before {
		t.Errorf("error %v, objects %q", err, k.memory.Names())
	}
}

func TestSecretIsNeverStoredUnsealed(t *testing.T) {
	k := newKit(t)
	k.options.Seal = seal.Options{Plain: true}
	secret := good("keys")
	secret.Secret = true
	result, err := k.backup(t, good("app"), secret)
	if !errors.Is(err, holdfast.ErrIncomplete) || holdfast.Hint(err) == "" || len(result.Manifest.Sources) != 1 {
		t.Errorf("error %v, sources %v", err, result.Manifest.Sources)
	}
	for _, name := range k.memory.Names() {
		if data, _ := k.memory.Bytes(name); strings.Contains(string(data), "content of keys") || strings.Contains(name, "/keys.") {
			t.Errorf("%s has it", name)
		}
	}
}

func TestEachWarningIsToldOnce(t *testing.T) {
	k := newKit(t)
	f := &fake{name: "app", content: "x", warning: "a role was changed", notes: []string{"a role was changed", "a view is not proven"}}
	if _, err := k.backup(t, f.named()); err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range k.events {
		if e.Kind == holdfast.EventWarning {
			told = append(told, string(e.Source)+": "+e.Message)
		}
	}
	if want := []string{"app: a role was changed", "app: a view is not proven"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestNoSource(t *testing.T) {
	if _, err := newKit(t).backup(t); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("error %v, want ErrUsage", err)
	}
}
