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

// single is a file with the operational key alone.
func single(t *testing.T) string {
	t.Helper()
	path := formatted(t)
	token(t, path, 0, `{"type":"holdfast","keyslots":["0"],"role":"operational","created":"2026-01-01"}`)
	return path
}

// byHand puts a key into a slot, as other programs do.
func byHand(t *testing.T, path string, slot int, pass holdfast.Secret) {
	t.Helper()
	cryptsetup(t, []holdfast.Secret{operational, pass}, "", fmt.Sprintf("luksAddKey --batch-mode --key-slot %d --key-file /dev/fd/3 %s %s /dev/fd/4", slot, kdfOfTests, path))
}

// another puts a second operational key into slot 2.
func another(t *testing.T, path string, pass holdfast.Secret) {
	t.Helper()
	byHand(t, path, 2, pass)
	token(t, path, 2, `{"type":"holdfast","keyslots":["2"],"role":"operational","created":"2026-01-03"}`)
}

func TestAddKey(t *testing.T) {
	path := single(t)
	host := volume.Host{Now: today}
	slot, err := host.AddKey(t.Context(), path, operational, recovery, volume.Recovery)
	if err != nil || slot.Number != 1 || slot.Role != volume.Recovery || slot.Created.Format("2006-01-02") != "2026-11-29" {
		t.Fatalf("got %+v, %v", slot, err)
	}
	if got := opened(t, path, operational, recovery); !slices.Equal(got, []string{"0 operational", "1 recovery"}) {
		t.Errorf("opened %q", got)
	}
	settled(t, path, 2)
	lone := single(t)
	byHand(t, lone, 1, fresh)
	for _, test := range []struct {
		name, path string
		with, pass holdfast.Secret
		role       volume.Role
		is         error
		says, hint string
	}{
		{"let in by a wrong one", lone, wrong, fresher, volume.Recovery, volume.ErrPassphrase, "no key available", "type it"},
		{"it opens already", lone, operational, fresh, volume.Recovery, holdfast.ErrUsage, "opens slot 1 already", "another passphrase"},
		{"the same", lone, operational, operational, volume.Recovery, holdfast.ErrUsage, "are the same", "of its own"},
		{"empty", lone, operational, holdfast.Secret{}, volume.Recovery, holdfast.ErrUsage, "is empty", "give a passphrase"},
		{"no such role", lone, operational, fresher, "owner", holdfast.ErrUsage, "no role", "operational or recovery"},
		{"the role has one", lone, operational, fresher, volume.Operational, holdfast.ErrUsage, "slot 0 has the operational key already", "holdfast volume key rotate"},
		{"the other role has one", path, operational, fresher, volume.Recovery, holdfast.ErrUsage, "slot 1 has the recovery key already", "holdfast volume key rotate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := opened(t, test.path, operational, recovery, fresh, fresher)
			_, err := host.AddKey(t.Context(), test.path, test.with, test.pass, test.role)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || !strings.Contains(holdfast.Hint(err), test.hint) {
				t.Errorf("got %v (%s)", err, holdfast.Hint(err))
			}
			sane(t, err)
			if after := opened(t, test.path, operational, recovery, fresh, fresher); !slices.Equal(after, before) {
				t.Errorf("opened %q, then %q", before, after)
			}
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

// Whatever command says no, the error is a sentence with what to do.
func TestKeysExitStatus(t *testing.T) {
	template, lone := made(t), single(t)
	another(t, template, fresher)
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
		template := template
		if name == "add" {
			template = lone
		}
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
			_, err := hostOf(realRunner(t)).AddKey(ctx, lone, operational, fresh, volume.Recovery)
			if !errors.Is(err, holdfast.ErrInterrupted) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
		})
	}
}

// Interrupted at any command, an addition leaves the keys that were there, and the next one ends it, with the same passphrase or with another.
func TestAddKeyInterrupted(t *testing.T) {
	template := single(t)
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
			state := opened(t, path, operational, fresh)
			if state[0] != "0 operational" || state[1] != "none" && state[1] != "1 recovery" {
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
				case ended:
					if !errors.Is(err, holdfast.ErrUsage) {
						t.Errorf("it was added already: %v", err)
					}
				case err != nil || slot.Role != volume.Recovery || opened(t, path, pass)[0] != "1 recovery":
					t.Errorf("again: %+v, %v", slot, err)
				}
				settled(t, path, 2)
			}
		})
	}
}

// The key of the other role is added after an addition was interrupted: what has its name by then stays, because somebody may have noted its
// passphrase; what has none yet goes.
func TestAddOtherKeyAfterInterruption(t *testing.T) {
	template := formatted(t)
	whole := realRunner(t)
	if _, err := hostOf(whole).AddKey(t.Context(), duplicate(t, template), operational, recovery, volume.Recovery); err != nil {
		t.Fatal(err)
	}
	actions := whole.actions()
	named := slices.Index(actions, "cryptsetup luksAddKey")
	named += slices.Index(actions[named:], "cryptsetup token") + 1
	for name, fault := range interruptions(actions) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := duplicate(t, template)
			if _, err := hostOf(realRunner(t).fail(fault.n, fault.how)).AddKey(t.Context(), path, operational, recovery, volume.Recovery); err == nil {
				t.Fatal("it did not fail")
			}
			slot, err := volume.Host{Now: today}.AddKey(t.Context(), path, operational, fresh, volume.Operational)
			if err != nil || slot.Role != volume.Operational {
				t.Fatalf("got %+v, %v", slot, err)
			}
			want := []string{"0 ", "none", "1 operational"}
			if fault.n > named || fault.n == named && fault.how.done {
				want = []string{"0 ", "1 recovery", "2 operational"}
			}
			if got := opened(t, path, operational, recovery, fresh); !slices.Equal(got, want) {
				t.Errorf("opened %q, want %q", got, want)
			}
			if changing(t, path) {
				t.Error("the header says that keys are being changed")
			}
		})
	}
}

// changing reports whether a change of keys stands in the header.
func changing(t *testing.T, path string) bool {
	t.Helper()
	out, err := volume.RunProgram(t.Context(), volume.Command{Args: []string{"cryptsetup", "luksDump", "--dump-json-metadata", path}})
	if err != nil || out.Code != 0 {
		t.Fatal(err, out.Code)
	}
	return strings.Contains(string(out.Stdout), "changing")
}

func TestAfterInterruptedAddition(t *testing.T) {
	path := formatted(t)
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
	if err == nil || !strings.Contains(err.Error(), "adding the recovery key in slot 1 was interrupted") {
		t.Errorf("got %v", err)
	}
	sane(t, err)
	_, err = host.AddKey(t.Context(), path, operational, fresh, volume.Operational)
	if err == nil || !strings.Contains(err.Error(), "adding the recovery key in slot 1 was interrupted") {
		t.Errorf("for another role: %v", err)
	}
	_, err = host.AddKey(t.Context(), path, fresh, fresher, volume.Recovery)
	if err == nil || !strings.Contains(err.Error(), "adding the recovery key in slot 1 was interrupted") {
		t.Errorf("let in by the unfinished one: %v", err)
	}
	sane(t, err)

	two := made(t)
	byHand(t, two, 2, fresh)
	token(t, two, 30, `{"type":"holdfast","keyslots":[],"state":"changing","slot":2,"role":"recovery","created":"2026-11-28"}`)
	err = host.RemoveKey(t.Context(), two, 1, operational)
	if !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("the last recovery key that is known: %v", err)
	}
}

// What was written into the header before a slot that never came keeps nobody from the next change, whatever that is.
func TestAfterChangeThatCameToNothing(t *testing.T) {
	template, lone := made(t), single(t)
	three := duplicate(t, template)
	another(t, three, fresher)
	for _, next := range []struct {
		name, path string
		slots      int
		change     func(host volume.Host, path string) error
	}{
		{"add", lone, 2, func(host volume.Host, path string) error {
			_, err := host.AddKey(t.Context(), path, operational, fresh, volume.Recovery)
			return err
		}},
		{"rotate the one", template, 2, func(host volume.Host, path string) error {
			_, _, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: recovery})
			return err
		}},
		{"rotate the other", template, 2, func(host volume.Host, path string) error {
			_, _, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Recovery, Old: recovery, New: fresh, Other: operational})
			return err
		}},
		{"rotate a lost one", template, 2, func(host volume.Host, path string) error {
			_, _, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, New: fresh, Other: recovery})
			return err
		}},
		{"remove", three, 2, func(host volume.Host, path string) error { return host.RemoveKey(t.Context(), path, 0, recovery) }},
		{"reencrypt", template, 2, func(host volume.Host, path string) error {
			host.Root = t.TempDir()
			return host.Reencrypt(t.Context(), volume.Volume{Name: "pg-data", Device: path}, bothKeys(), nil)
		}},
	} {
		for name, change := range map[string]string{
			"an addition": `{"type":"holdfast","keyslots":[],"state":"changing","slot":9,"role":"recovery","created":"2026-11-28"}`,
			"a rotation":  `{"type":"holdfast","keyslots":[],"state":"changing","slot":9,"replaces":0,"role":"operational","created":"2026-11-28"}`,
		} {
			t.Run(next.name+" after "+name, func(t *testing.T) {
				path := duplicate(t, next.path)
				token(t, path, 30, change)
				if err := next.change(volume.Host{Now: today}, path); err != nil {
					t.Fatalf("%v (%s)", err, holdfast.Hint(err))
				}
				settled(t, path, next.slots)
			})
		}
	}
}

func TestRemoveKey(t *testing.T) {
	template := made(t)
	another(t, template, fresh)
	host := volume.Host{Now: today}
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
			_, slot, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, Old: fresh, New: fresher, Other: recovery})
			if err != nil || slot.Number != 0 {
				t.Errorf("the slot that is free: %+v, %v", slot, err)
			}
			settled(t, path, 2)
		})
	}
}

// A slot that somebody added by hand can be removed, and a rotation leaves it alone.
func TestSlotOfOthers(t *testing.T) {
	path := made(t)
	host := volume.Host{Now: today}
	byHand(t, path, 2, fresh)
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
	path := single(t)
	for n := 1; n < 30; n++ {
		token(t, path, n, `{"type":"theirs","keyslots":[]}`)
	}
	_, err := volume.Host{Now: today}.AddKey(t.Context(), path, operational, fresh, volume.Recovery)
	if err == nil || !strings.Contains(err.Error(), "no room for another token") {
		t.Errorf("got %v", err)
	}
	sane(t, err)
	if got := opened(t, path, operational); !slices.Equal(got, []string{"0 operational"}) {
		t.Errorf("opened %q", got)
	}
}
