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

func hostOf(f *fake) volume.Host { return volume.Host{Run: f.run, Now: today} }

// opened are the slots that passphrases open, and the roles of those.
func opened(t *testing.T, path string, passes ...holdfast.Secret) []string {
	t.Helper()
	host := volume.Host{}
	header, err := host.Header(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, pass := range passes {
		slot, err := host.Open(t.Context(), path, pass)
		if errors.Is(err, volume.ErrPassphrase) {
			all = append(all, "none")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(header.Slots, func(s volume.Slot) bool { return s.Number == slot })
		all = append(all, fmt.Sprintf("%d %s", slot, header.Slots[i].Role))
	}
	return all
}

// settled fails the test unless the header has just these slots, each with its token, and nothing of a change.
func settled(t *testing.T, path string, slots int) {
	t.Helper()
	out, err := volume.RunProgram(t.Context(), volume.Command{Args: []string{"cryptsetup", "luksDump", "--dump-json-metadata", path}})
	if err != nil {
		t.Fatal(err)
	}
	text := string(out.Stdout)
	if tokens := strings.Count(text, `"type":"holdfast"`); strings.Contains(text, "changing") || tokens != slots {
		t.Errorf("the header has %d tokens: %s", tokens, text[strings.Index(text, `"tokens"`):strings.Index(text, `"segments"`)])
	}
	header, err := volume.Host{}.Header(t.Context(), path)
	if err != nil || len(header.Slots) != slots {
		t.Errorf("the header has slots %+v, %v; want %d", header.Slots, err, slots)
	}
	for _, slot := range header.Slots {
		if slot.Role == "" || slot.Created.IsZero() || slot.KDF != "argon2id" || slot.MemoryKiB != 1024 || slot.Time != 4 {
			t.Errorf("slot %+v", slot)
		}
	}
}

func TestAddKey(t *testing.T) {
	path := formatted(t)
	token(t, path, 0, `{"type":"holdfast","keyslots":["0"],"role":"operational","created":"2026-01-01"}`)
	host := volume.Host{Now: today}
	slot, err := host.AddKey(t.Context(), path, operational, recovery, volume.Recovery)
	if err != nil || slot.Number != 1 || slot.Role != volume.Recovery || slot.Created.Format("2006-01-02") != "2026-11-29" {
		t.Fatalf("got %+v, %v", slot, err)
	}
	if slot, err = host.AddKey(t.Context(), path, recovery, fresh, volume.Operational); err != nil || slot.Number != 2 {
		t.Fatalf("got %+v, %v", slot, err)
	}
	if got := opened(t, path, operational, recovery, fresh); !slices.Equal(got, []string{"0 operational", "1 recovery", "2 operational"}) {
		t.Errorf("opened %q", got)
	}
	settled(t, path, 3)
	for _, test := range []struct {
		name       string
		with, pass holdfast.Secret
		role       volume.Role
		is         error
		says       string
	}{
		{"let in by a wrong one", wrong, fresher, volume.Recovery, volume.ErrPassphrase, "no key available"},
		{"it opens already", operational, recovery, volume.Recovery, holdfast.ErrUsage, "opens slot 1 already"},
		{"the same", operational, operational, volume.Recovery, holdfast.ErrUsage, "are the same"},
		{"empty", operational, holdfast.Secret{}, volume.Recovery, holdfast.ErrUsage, "is empty"},
		{"no such role", operational, fresher, "owner", holdfast.ErrUsage, "no role"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := host.AddKey(t.Context(), path, test.with, test.pass, test.role)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
			settled(t, path, 3)
		})
	}
}

// A slot of pbkdf2 does not make the next one weak.
func TestAddKeyBesideAnotherKDF(t *testing.T) {
	path := formatted(t)
	cryptsetup(t, []holdfast.Secret{operational, recovery}, "", "luksAddKey --batch-mode --key-slot 1 --key-file /dev/fd/3 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "+path+" /dev/fd/4")
	root := t.TempDir()
	write(t, root+"/proc/meminfo", "MemTotal: 262144 kB\n")
	f := realRunner(t).on("cryptsetup luksAddKey", func(ctx context.Context, c volume.Command) (volume.Output, error) {
		// cryptsetup measures for seconds otherwise.
		c.Args = slices.Insert(slices.Clone(c.Args), 2, "--pbkdf-force-iterations", "4")
		return volume.RunProgram(ctx, c)
	})
	slot, err := volume.Host{Run: f.run, Now: today, Root: root}.AddKey(t.Context(), path, recovery, fresh, volume.Recovery)
	if err != nil || slot.KDF != "argon2id" || slot.MemoryKiB != 64<<10 {
		t.Errorf("got %+v, %v", slot, err)
	}
	if !slices.ContainsFunc(f.ran(), func(line string) bool {
		return strings.Contains(line, "luksAddKey") && strings.Contains(line, "--pbkdf argon2id --pbkdf-memory 65536 "+path)
	}) {
		t.Errorf("ran %q", f.ran())
	}
	_, err = volume.Host{Now: today, Root: t.TempDir()}.AddKey(t.Context(), path, recovery, fresher, volume.Recovery)
	if err == nil {
		t.Error("a host without memory")
	}
	sane(t, err)
}

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
	if _, err := host.AddKey(t.Context(), path, operational, third, volume.Operational); err != nil {
		t.Fatal(err)
	}
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

// interruption is a fault at the command n.
type interruption struct {
	n   int
	how fault
}

// interruptions are at each command. Only an answer that is lost leaves a header that differs from all others: a kill before a command leaves what
// the command before it had left.
func interruptions(actions []string) map[string]interruption {
	all := map[string]interruption{}
	for i, action := range actions {
		all[fmt.Sprintf("killed at %d, %s", i+1, action)] = interruption{i + 1, killed()}
		if action != "cryptsetup luksDump" && action != "cryptsetup luksOpen" {
			all[fmt.Sprintf("answer lost at %d, %s", i+1, action)] = interruption{i + 1, lost()}
		}
	}
	return all
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

// Whatever command says no, the error is a sentence with what to do.
func TestKeysExitStatus(t *testing.T) {
	template := made(t)
	if _, err := (volume.Host{Now: today}).AddKey(t.Context(), template, operational, fresher, volume.Operational); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(t *testing.T, host volume.Host, path string) error{
		"add": func(t *testing.T, host volume.Host, path string) error {
			_, err := host.AddKey(t.Context(), path, operational, fresh, volume.Recovery)
			return err
		},
		"rotate": func(t *testing.T, host volume.Host, path string) error {
			_, _, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: recovery})
			return err
		},
		"remove": func(t *testing.T, host volume.Host, path string) error {
			return host.RemoveKey(t.Context(), path, 0, recovery)
		},
	} {
		whole := realRunner(t)
		if err := change(t, hostOf(whole), duplicate(t, template)); err != nil {
			t.Fatal(err)
		}
		for n, action := range whole.actions() {
			t.Run(fmt.Sprintf("%s at %d, %s", name, n+1, action), func(t *testing.T) {
				t.Parallel()
				err := change(t, hostOf(realRunner(t).fail(n+1, exits(4))), duplicate(t, template))
				if err == nil || !strings.Contains(err.Error(), action+" ended with exit status 4: the fake says no") {
					t.Errorf("got %v", err)
				}
				sane(t, err)
			})
		}
		t.Run(name+" stopped", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(holdfast.ErrInterrupted)
			_, err := hostOf(realRunner(t)).AddKey(ctx, template, operational, fresh, volume.Recovery)
			if !errors.Is(err, holdfast.ErrInterrupted) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
		})
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

func TestAddKeyInterrupted(t *testing.T) {
	template := made(t)
	whole := realRunner(t)
	if _, err := hostOf(whole).AddKey(t.Context(), duplicate(t, template), operational, fresh, volume.Recovery); err != nil {
		t.Fatal(err)
	}
	for name, fault := range interruptions(whole.actions()) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := duplicate(t, template)
			_, err := hostOf(realRunner(t).fail(fault.n, fault.how)).AddKey(t.Context(), path, operational, fresh, volume.Recovery)
			if err == nil {
				t.Fatal("it did not fail")
			}
			sane(t, err)
			state := opened(t, path, operational, recovery, fresh)
			if state[0] != "0 operational" || state[1] != "1 recovery" || state[2] != "none" && state[2] != "2 recovery" {
				t.Fatalf("opened %q", state)
			}
			if !fault.how.done && fault.n > 1 {
				return
			}
			ended := fault.how.done && fault.n == len(whole.actions())
			for _, pass := range []holdfast.Secret{fresh, fresher} {
				path := duplicate(t, path)
				slot, err := volume.Host{Now: today}.AddKey(t.Context(), path, operational, pass, volume.Recovery)
				switch {
				case ended && pass.Reveal() == fresh.Reveal():
					if !errors.Is(err, holdfast.ErrUsage) {
						t.Errorf("it was added already: %v", err)
					}
					settled(t, path, 3)
				case err != nil || slot.Role != volume.Recovery:
					t.Errorf("again: %+v, %v", slot, err)
				case ended:
					settled(t, path, 4)
				default:
					settled(t, path, 3)
				}
			}
		})
	}
}

func TestAfterInterruptedAddition(t *testing.T) {
	path := made(t)
	host := volume.Host{Now: today}
	whole := realRunner(t)
	if _, err := hostOf(whole).AddKey(t.Context(), duplicate(t, path), operational, fresh, volume.Recovery); err != nil {
		t.Fatal(err)
	}
	at := slices.Index(whole.actions(), "cryptsetup luksAddKey") + 1
	if _, err := hostOf(realRunner(t).fail(at, lost())).AddKey(t.Context(), path, operational, fresh, volume.Recovery); err == nil {
		t.Fatal("it did not fail")
	}
	_, _, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, Old: operational, New: fresher, Other: recovery})
	if err == nil || !strings.Contains(err.Error(), "adding the recovery key in slot 2 was interrupted") {
		t.Errorf("got %v", err)
	}
	sane(t, err)
	_, err = host.AddKey(t.Context(), path, operational, fresh, volume.Operational)
	if err == nil || !strings.Contains(err.Error(), "adding the recovery key in slot 2 was interrupted") {
		t.Errorf("for another role: %v", err)
	}
	_, err = host.AddKey(t.Context(), path, fresh, fresher, volume.Recovery)
	if err == nil || !strings.Contains(err.Error(), "adding the recovery key in slot 2 was interrupted") {
		t.Errorf("let in by the unfinished one: %v", err)
	}
	sane(t, err)
	err = host.RemoveKey(t.Context(), path, 1, operational)
	if !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("the last recovery key that is known: %v", err)
	}
}

func TestRemoveKey(t *testing.T) {
	template := made(t)
	host := volume.Host{Now: today}
	if _, err := host.AddKey(t.Context(), template, operational, fresh, volume.Operational); err != nil {
		t.Fatal(err)
	}
	two := made(t)
	for _, test := range []struct {
		name, path string
		slot       int
		with       holdfast.Secret
		is         error
		says       string
	}{
		{"one of two", two, 0, recovery, holdfast.ErrUsage, "a volume keeps two keys at every moment, and 1 would stay"},
		{"the last of its role", template, 1, operational, holdfast.ErrUsage, "it is the last recovery key"},
		{"with its own passphrase", template, 2, fresh, volume.ErrPassphrase, "it opens slot 2"},
		{"with a wrong one", template, 2, wrong, volume.ErrPassphrase, "no key available"},
		{"no such slot", template, 9, operational, holdfast.ErrUsage, "no such slot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := opened(t, test.path, operational, recovery, fresh)
			err := host.RemoveKey(t.Context(), test.path, test.slot, test.with)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
			if after := opened(t, test.path, operational, recovery, fresh); !slices.Equal(after, before) {
				t.Errorf("opened %q, then %q", before, after)
			}
		})
	}
	whole := realRunner(t)
	path := duplicate(t, template)
	if err := hostOf(whole).RemoveKey(t.Context(), path, 0, recovery); err != nil {
		t.Fatal(err)
	}
	settled(t, path, 2)
	if got := opened(t, path, operational, recovery, fresh); !slices.Equal(got, []string{"none", "1 recovery", "2 operational"}) {
		t.Errorf("opened %q", got)
	}
	for name, fault := range interruptions(whole.actions()) {
		t.Run(name, func(t *testing.T) {
			path := duplicate(t, template)
			err := hostOf(realRunner(t).fail(fault.n, fault.how)).RemoveKey(t.Context(), path, 0, recovery)
			if err == nil {
				t.Fatal("it did not fail")
			}
			sane(t, err)
			if state := opened(t, path, recovery, fresh); !slices.Equal(state, []string{"1 recovery", "2 operational"}) {
				t.Fatalf("opened %q", state)
			}
			gone := opened(t, path, operational)[0] == "none"
			if err := host.RemoveKey(t.Context(), path, 0, recovery); gone != errors.Is(err, holdfast.ErrUsage) {
				t.Errorf("again: %v", err)
			}
			// What was left behind takes no place.
			slot, err := host.AddKey(t.Context(), path, recovery, fresher, volume.Operational)
			if err != nil || slot.Number != 0 {
				t.Errorf("the slot that is free: %+v, %v", slot, err)
			}
			settled(t, path, 3)
		})
	}
}

// A slot that somebody added by hand can be removed, and a rotation leaves it alone.
func TestSlotOfOthers(t *testing.T) {
	path := made(t)
	host := volume.Host{Now: today}
	cryptsetup(t, []holdfast.Secret{operational, fresh}, "", "luksAddKey --batch-mode --key-slot 2 --key-file /dev/fd/3 "+kdfOfTests+" "+path+" /dev/fd/4")
	if _, added, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, Old: operational, New: fresher, Other: recovery}); err != nil || added.Number != 3 {
		t.Errorf("added %+v, %v", added, err)
	}
	if got := opened(t, path, operational, recovery, fresh, fresher); !slices.Equal(got, []string{"none", "1 recovery", "2 ", "3 operational"}) {
		t.Errorf("opened %q", got)
	}
	if err := host.RemoveKey(t.Context(), path, 2, recovery); err != nil {
		t.Error(err)
	}
	settled(t, path, 2)
}

// Every token's number can be taken.
func TestNoRoomForTokens(t *testing.T) {
	path := made(t)
	for n := 2; n < 30; n++ {
		token(t, path, n, `{"type":"theirs","keyslots":[]}`)
	}
	_, err := volume.Host{Now: today}.AddKey(t.Context(), path, operational, fresh, volume.Recovery)
	if err == nil || !strings.Contains(err.Error(), "no room for another token") {
		t.Errorf("got %v", err)
	}
	sane(t, err)
	if got := opened(t, path, operational, recovery); !slices.Equal(got, []string{"0 operational", "1 recovery"}) {
		t.Errorf("opened %q", got)
	}
}
