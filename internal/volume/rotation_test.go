package volume_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/volume"
)

func TestRotateKey(t *testing.T) {
	for _, test := range []struct {
		rotation volume.Rotation
		was      int
		want     []string // opened by operational, recovery, fresh
	}{
		{volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: recovery}, 0, []string{"none", "1 recovery", "2 operational"}},
		{volume.Rotation{Role: volume.Recovery, Old: recovery, New: fresh, Other: operational}, 1, []string{"0 operational", "none", "2 recovery"}},
	} {
		t.Run(string(test.rotation.Role), func(t *testing.T) {
			path := made(t)
			f := realRunner(t)
			var steps []volume.Step
			host := hostOf(f)
			host.Step = func(s volume.Step) { steps = append(steps, s) }
			removed, added, err := host.RotateKey(t.Context(), path, test.rotation)
			if err != nil || removed.Number != test.was || removed.Role != test.rotation.Role || added.Number != 2 || added.Role != test.rotation.Role || added.Created.Format("2006-01-02") != "2026-11-29" {
				t.Fatalf("removed %+v, added %+v, %v", removed, added, err)
			}
			if got := opened(t, path, operational, recovery, fresh); !slices.Equal(got, test.want) {
				t.Errorf("opened %q, want %q", got, test.want)
			}
			settled(t, path, 2)
			// The new one and the other one were proven between adding and removing.
			names := f.actions()
			between := names[slices.Index(names, "cryptsetup luksAddKey")+1 : slices.Index(names, "cryptsetup luksKillSlot")]
			if proofs := len(slices.DeleteFunc(slices.Clone(between), func(s string) bool { return s != "cryptsetup luksOpen" })); proofs != 2 {
				t.Errorf("%d proofs in %q", proofs, between)
			}
			if want := []volume.Step{
				"write into the header that key slot 2 is being added", volume.Step("add the " + string(test.rotation.Role) + " key in slot 2"), "name key slot 2",
				"prove that key slot 2 opens", volume.Step(fmt.Sprintf("prove that key slot %d opens", 1-test.was)), volume.Step(fmt.Sprintf("remove key slot %d", test.was)),
			}; !slices.Equal(steps, want) {
				t.Errorf("steps %q", steps)
			}
			for _, line := range f.ran() {
				if strings.Contains(line, marker) {
					t.Errorf("a passphrase in the arguments %q", line)
				}
			}
			// And again, into the slot that is free now.
			next := test.rotation
			next.Old, next.New = fresh, fresher
			if removed, added, err = hostOf(f).RotateKey(t.Context(), path, next); err != nil || removed.Number != 2 || added.Number != test.was {
				t.Errorf("removed %+v, added %+v, %v", removed, added, err)
			}
			settled(t, path, 2)
		})
	}
}

func TestRotateKeyRefuses(t *testing.T) {
	path := made(t)
	third := holdfast.NewSecret(marker + " of a second custodian")
	host := volume.Host{Now: today}
	another(t, path, third)
	for _, test := range []struct {
		name     string
		rotation volume.Rotation
		is       error
		says     string
	}{
		{"a wrong old one", volume.Rotation{Role: volume.Operational, Old: wrong, New: fresh, Other: recovery}, volume.ErrPassphrase, "the present operational key"},
		{"a wrong other one", volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: wrong}, volume.ErrPassphrase, "the recovery key: open"},
		{"an other one of the same role", volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: third}, volume.ErrPassphrase, "it opens slot 2, which is not the recovery key"},
		{"an old one of the other role", volume.Rotation{Role: volume.Recovery, Old: third, New: fresh, Other: operational}, volume.ErrPassphrase, "it opens slot 2, which is not the recovery key"},
		{"a new one that opens", volume.Rotation{Role: volume.Operational, Old: operational, New: third, Other: recovery}, holdfast.ErrUsage, "opens slot 2 already"},
		{"two the same", volume.Rotation{Role: volume.Operational, Old: operational, New: recovery, Other: recovery}, holdfast.ErrUsage, "are the same"},
		{"one is empty", volume.Rotation{Role: volume.Operational, Old: operational, New: fresh}, holdfast.ErrUsage, "is empty"},
		{"no role", volume.Rotation{Old: operational, New: fresh, Other: recovery}, holdfast.ErrUsage, "no role"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := host.RotateKey(t.Context(), path, test.rotation)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
			settled(t, path, 3)
		})
	}
	// Another key of the same role stays.
	if removed, _, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, Old: third, New: fresh, Other: recovery}); err != nil || removed.Number != 2 {
		t.Errorf("removed %+v, %v", removed, err)
	}
	if got := opened(t, path, operational, recovery, fresh, third); !slices.Equal(got, []string{"0 operational", "1 recovery", "3 operational", "none"}) {
		t.Errorf("opened %q", got)
	}
}

// Interrupted at any command, a rotation leaves two keys that open, and the next one ends it, with the same passphrase or with another.
func TestRotateKeyInterrupted(t *testing.T) {
	template := made(t)
	for _, rotation := range []volume.Rotation{
		{Role: volume.Operational, Old: operational, New: fresh, Other: recovery},
		{Role: volume.Recovery, Old: recovery, New: fresh, Other: operational},
	} {
		whole := realRunner(t)
		if _, _, err := hostOf(whole).RotateKey(t.Context(), duplicate(t, template), rotation); err != nil {
			t.Fatal(err)
		}
		for name, fault := range interruptions(whole.actions()) {
			if rotation.Role == volume.Recovery && !fault.how.done {
				continue
			}
			t.Run(string(rotation.Role)+" "+name, func(t *testing.T) {
				t.Parallel()
				path := duplicate(t, template)
				_, _, err := hostOf(realRunner(t).fail(fault.n, fault.how)).RotateKey(t.Context(), path, rotation)
				if err == nil {
					t.Fatal("it did not fail")
				}
				sane(t, err)
				header, err := volume.Host{}.Header(t.Context(), path)
				if err != nil || len(header.Slots) < 2 {
					t.Fatalf("got %+v, %v", header, err)
				}
				state := opened(t, path, rotation.Old, rotation.New, rotation.Other)
				if state[0] == "none" && state[1] == "none" || state[2] == "none" || slices.ContainsFunc(state, func(s string) bool { return strings.HasSuffix(s, " ") }) {
					t.Fatalf("opened %q", state)
				}
				if !fault.how.done && fault.n > 1 {
					return
				}
				for _, pass := range []holdfast.Secret{fresh, fresher} {
					path := duplicate(t, path)
					next := rotation
					next.New = pass
					if state[0] == "none" && pass.Reveal() != fresh.Reveal() {
						next.Old = fresh
					}
					if _, added, err := (volume.Host{Now: today}).RotateKey(t.Context(), path, next); err != nil || added.Role != rotation.Role {
						t.Fatalf("again: %+v, %v", added, err)
					}
					settled(t, path, 2)
					if state := opened(t, path, rotation.Old, pass, rotation.Other); state[0] != "none" || state[1] == "none" || state[2] == "none" {
						t.Errorf("opened %q in the end", state)
					}
				}
			})
		}
	}
}

// An interrupted rotation keeps other changes from the header, and takes the passphrase that it had brought as the old one.
func TestAfterInterruptedRotation(t *testing.T) {
	template := made(t)
	rotation := volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: recovery}
	whole := realRunner(t)
	if _, _, err := hostOf(whole).RotateKey(t.Context(), duplicate(t, template), rotation); err != nil {
		t.Fatal(err)
	}
	at := slices.Index(whole.actions(), "cryptsetup luksKillSlot") + 1
	interrupted := func(t *testing.T, how fault) string {
		path := duplicate(t, template)
		if _, _, err := hostOf(realRunner(t).fail(at, how)).RotateKey(t.Context(), path, rotation); err == nil {
			t.Fatal("it did not fail")
		}
		return path
	}
	host := volume.Host{Now: today}
	t.Run("others refuse", func(t *testing.T) {
		path := interrupted(t, killed())
		_, err := host.AddKey(t.Context(), path, recovery, fresher, volume.Recovery)
		if err == nil || !strings.Contains(err.Error(), "a rotation of the operational key was interrupted") {
			t.Errorf("got %v", err)
		}
		sane(t, err)
		_, _, err = host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Recovery, Old: recovery, New: fresher, Other: operational})
		if err == nil || !strings.Contains(err.Error(), "a rotation of the operational key was interrupted") {
			t.Errorf("got %v", err)
		}
		sane(t, err)
		// Nobody may know the passphrase of the slot that was added.
		err = host.RemoveKey(t.Context(), path, 0, recovery)
		if !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("got %v", err)
		}
		sane(t, err)
		// The one that was added may go.
		if err := host.RemoveKey(t.Context(), path, 2, recovery); err != nil {
			t.Error(err)
		}
		settled(t, path, 2)
	})
	t.Run("what it brought is the old one", func(t *testing.T) {
		path := interrupted(t, killed())
		next := rotation
		next.Old, next.New = fresh, fresher
		if removed, _, err := host.RotateKey(t.Context(), path, next); err != nil || removed.Number != 2 {
			t.Errorf("removed %+v, %v", removed, err)
		}
		settled(t, path, 2)
		if got := opened(t, path, operational, fresh, fresher); !slices.Equal(got, []string{"none", "none", "0 operational"}) {
			t.Errorf("opened %q", got)
		}
	})
	t.Run("what it brought is lost", func(t *testing.T) {
		path := interrupted(t, lost())
		next := rotation
		next.New = fresher
		_, _, err := host.RotateKey(t.Context(), path, next)
		if !errors.Is(err, volume.ErrPassphrase) || !strings.Contains(err.Error(), "slot 2 takes the one that it was to bring") {
			t.Errorf("got %v", err)
		}
		sane(t, err)
	})
}

// keepsTwo runs the programs, and fails the test when a removed slot leaves fewer than two.
func keepsTwo(t *testing.T, f *fake) *fake {
	return f.on("cryptsetup luksKillSlot", func(ctx context.Context, c volume.Command) (volume.Output, error) {
		out, err := volume.RunProgram(ctx, c)
		header, headerErr := volume.Host{}.Header(ctx, c.Args[len(c.Args)-2])
		if headerErr != nil || len(header.Slots) < 2 {
			t.Errorf("after %q there are slots %+v, %v", c.Args, header.Slots, headerErr)
		}
		return out, err
	})
}

// A rotation of a lost key that is interrupted at any command is ended by the next one, with the same passphrase or with another, and so is that
// one: two keys are there at every moment.
func TestRotateLostKeyInterrupted(t *testing.T) {
	template := made(t)
	rotation := volume.Rotation{Role: volume.Operational, New: fresh, Other: recovery}
	third := holdfast.NewSecret(marker + " the third that was tried")
	whole := realRunner(t)
	if removed, added, err := hostOf(whole).RotateKey(t.Context(), duplicate(t, template), rotation); err != nil || removed.Number != 0 || added.Number != 2 {
		t.Fatalf("removed %+v, added %+v, %v", removed, added, err)
	}
	ends := func(t *testing.T, path string, pass holdfast.Secret) {
		t.Helper()
		next := rotation
		next.New = pass
		if _, added, err := hostOf(keepsTwo(t, realRunner(t))).RotateKey(t.Context(), path, next); err != nil || added.Role != volume.Operational {
			t.Fatalf("the next: %+v, %v (%s)", added, err, holdfast.Hint(err))
		}
		settled(t, path, 2)
		state := opened(t, path, operational, fresh, fresher, third, recovery)
		if open := slices.DeleteFunc(slices.Clone(state[:4]), func(s string) bool { return s == "none" }); len(open) != 1 || state[4] != "1 recovery" || opened(t, path, pass)[0] != open[0] {
			t.Errorf("opened %q in the end", state)
		}
	}
	removal := slices.Index(whole.actions(), "cryptsetup luksKillSlot") + 1
	for name, fault := range interruptions(whole.actions()) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := duplicate(t, template)
			_, _, err := hostOf(keepsTwo(t, realRunner(t)).fail(fault.n, fault.how)).RotateKey(t.Context(), path, rotation)
			if err == nil {
				t.Fatal("it did not fail")
			}
			sane(t, err)
			if !fault.how.done && fault.n > 1 {
				return
			}
			for _, pass := range []holdfast.Secret{fresh, fresher} {
				ends(t, duplicate(t, path), pass)
			}
			if fault.n != removal {
				return
			}
			next := rotation
			next.New = fresher
			again := realRunner(t)
			if _, _, err := hostOf(again).RotateKey(t.Context(), duplicate(t, path), next); err != nil {
				t.Fatal(err)
			}
			for name, fault := range interruptions(again.actions()) {
				if !fault.how.done {
					continue
				}
				path := duplicate(t, path)
				if _, _, err := hostOf(keepsTwo(t, realRunner(t)).fail(fault.n, fault.how)).RotateKey(t.Context(), path, next); err == nil {
					t.Errorf("%s: it did not fail", name)
				}
				ends(t, path, third)
			}
		})
	}
}

// The one key of a role that is left is not taken away, even if the old one went by other hands before the new one had its name.
func TestRotateLostKeyThatIsGone(t *testing.T) {
	path := made(t)
	byHand(t, path, 2, fresh)
	token(t, path, 30, `{"type":"holdfast","keyslots":[],"state":"changing","slot":2,"replaces":0,"role":"operational","created":"2026-11-28"}`)
	cryptsetup(t, []holdfast.Secret{recovery}, "", "luksKillSlot --batch-mode --key-file /dev/fd/3 "+path+" 0")
	removed, added, err := hostOf(keepsTwo(t, realRunner(t))).RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, New: fresher, Other: recovery})
	if err != nil || removed.Number != 2 || added.Number != 0 {
		t.Errorf("removed %+v, added %+v, %v", removed, added, err)
	}
	settled(t, path, 2)
}
