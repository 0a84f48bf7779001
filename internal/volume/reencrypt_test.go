package volume_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/volume"
)

func bothKeys() map[volume.Role]holdfast.Secret {
	return map[volume.Role]holdfast.Secret{volume.Operational: operational, volume.Recovery: recovery}
}

// large is a volume with so much data that its reencryption tells of its progress and can be ended on the way.
func large(t *testing.T, size int64) volume.Volume {
	t.Helper()
	path := made(t)
	if err := os.Truncate(path, headerSize+size); err != nil {
		t.Fatal(err)
	}
	return volume.Volume{Name: "pg-data", Device: path}
}

// nowhere is a host of whose open devices nothing is known.
func nowhere(t *testing.T, f *fake) volume.Host {
	return volume.Host{Run: f.run, Now: today, Root: t.TempDir()}
}

func TestReencrypt(t *testing.T) {
	v := large(t, 8<<20)
	host := volume.Host{Now: today, Root: t.TempDir()}
	// The recovery key in a slot before the operational one.
	if _, _, err := host.RotateKey(t.Context(), v.Device, volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: recovery}); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "header")
	before, err := host.BackupHeader(t.Context(), v.Device, backup)
	if err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(v.Device)
	if err != nil {
		t.Fatal(err)
	}
	var done, total int64
	keys := map[volume.Role]holdfast.Secret{volume.Operational: fresh, volume.Recovery: recovery}
	if err := host.Reencrypt(t.Context(), v, keys, func(d, of int64) { done, total = d, of }); err != nil {
		t.Fatal(err)
	}
	if total != 8<<20 || done != total {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	after, err := host.Header(t.Context(), v.Device)
	if err != nil || after.UUID != before.UUID || after.Cipher != before.Cipher || after.KeyBits != 512 || after.Offset != before.Offset || after.Reencrypting {
		t.Errorf("got %+v, %v", after, err)
	}
	if got := opened(t, v.Device, fresh, recovery, operational); !strings.HasSuffix(got[0], " operational") || !strings.HasSuffix(got[1], " recovery") || got[2] != "none" {
		t.Errorf("opened %q", got)
	}
	settled(t, v.Device, 2)
	is, err := os.ReadFile(v.Device)
	if err != nil {
		t.Fatal(err)
	}
	for at := headerSize; at < len(is); at += 4096 {
		if bytes.Equal(is[at:at+4096], was[at:at+4096]) {
			t.Fatalf("the bytes at %d are the old ones", at)
		}
	}
	// Slots and tokens have other numbers now, and keys are rotated all the same.
	if _, _, err := host.RotateKey(t.Context(), v.Device, volume.Rotation{Role: volume.Recovery, Old: recovery, New: fresher, Other: fresh}); err != nil {
		t.Error(err)
	}
	settled(t, v.Device, 2)
	if _, _, err := host.RotateKey(t.Context(), v.Device, volume.Rotation{Role: volume.Operational, Old: fresh, New: operational, Other: fresher}); err != nil {
		t.Error(err)
	}
	settled(t, v.Device, 2)
}

// Interrupted before, between or at its end, a reencryption leaves a volume that both keys open, and the next call ends it.
func TestReencryptInterrupted(t *testing.T) {
	template := large(t, 1<<20)
	whole := realRunner(t)
	v := template
	v.Device = duplicate(t, template.Device)
	if err := nowhere(t, whole).Reencrypt(t.Context(), v, bothKeys(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(whole.actions(), func(s string) bool { return s != "cryptsetup reencrypt" })); n != 2 {
		t.Fatalf("it ran %q", whole.ran())
	}
	// One after the other: cryptsetup locks by the UUID, which the copies share.
	for name, fault := range interruptions(whole.actions()) {
		for _, how := range []struct {
			name string
			keys map[volume.Role]holdfast.Secret
		}{{"both keys", bothKeys()}, {"one key", map[volume.Role]holdfast.Secret{volume.Recovery: recovery}}} {
			if !fault.how.done && len(how.keys) == 1 {
				continue
			}
			t.Run(name+", then "+how.name, func(t *testing.T) {
				v := template
				v.Device = duplicate(t, template.Device)
				f := realRunner(t).fail(fault.n, fault.how)
				err := nowhere(t, f).Reencrypt(t.Context(), v, bothKeys(), nil)
				if err == nil {
					t.Fatal("it did not fail")
				}
				sane(t, err)
				state := opened(t, v.Device, operational, recovery)
				if !strings.HasSuffix(state[0], " operational") || !strings.HasSuffix(state[1], " recovery") {
					t.Fatalf("opened %q", state)
				}
				header, err := volume.Host{}.Header(t.Context(), v.Device)
				if err != nil {
					t.Fatal(err)
				}
				if header.Reencrypting {
					_, err := nowhere(t, realRunner(t)).AddKey(t.Context(), v.Device, operational, fresh, volume.Recovery)
					if err == nil || !strings.Contains(err.Error(), "is not finished") {
						t.Errorf("a key meanwhile: %v", err)
					}
					sane(t, err)
					_, err = nowhere(t, realRunner(t)).BackupHeader(t.Context(), v.Device, filepath.Join(t.TempDir(), "header"))
					if err == nil || !strings.Contains(err.Error(), "is not finished") {
						t.Errorf("a backup meanwhile: %v", err)
					}
					sane(t, err)
				}
				if !fault.how.done && fault.n > 1 {
					return
				}
				err = nowhere(t, realRunner(t)).Reencrypt(t.Context(), v, how.keys, nil)
				if len(how.keys) == 1 && !header.Reencrypting {
					if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "that key would be lost") {
						t.Errorf("a new one with one key: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				settled(t, v.Device, 2)
				if state := opened(t, v.Device, operational, recovery); !strings.HasSuffix(state[0], " operational") || !strings.HasSuffix(state[1], " recovery") {
					t.Errorf("opened %q in the end", state)
				}
			})
		}
	}
}

// Ended by ctx in the middle of its work, it goes on from there.
func TestReencryptEndedOnTheWay(t *testing.T) {
	const size = 768 << 20
	v := large(t, 0)
	path := filepath.Join(t.TempDir(), "pg-data.luks")
	if err := errors.Join(exec.Command("cp", v.Device, path).Run(), os.Truncate(path, headerSize+size)); err != nil {
		t.Fatal(err)
	}
	v.Device = path
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var at int64
	err := volume.Host{Now: today, Root: t.TempDir()}.Reencrypt(ctx, v, bothKeys(), func(done, total int64) {
		if at == 0 && done < total {
			at = done
			cancel(holdfast.ErrInterrupted)
		}
	})
	if err == nil && at == 0 {
		t.Skip("this host was done before it told of its progress")
	}
	if !errors.Is(err, holdfast.ErrInterrupted) {
		t.Fatalf("got %v", err)
	}
	sane(t, err)
	header, err := volume.Host{}.Header(t.Context(), v.Device)
	if err != nil || !header.Reencrypting {
		t.Fatalf("got %+v, %v", header, err)
	}
	if state := opened(t, v.Device, operational, recovery); !strings.HasSuffix(state[0], " operational") || !strings.HasSuffix(state[1], " recovery") {
		t.Errorf("opened %q", state)
	}
	var first int64 = -1
	err = volume.Host{Now: today, Root: t.TempDir()}.Reencrypt(t.Context(), v, bothKeys(), func(done, _ int64) {
		if first < 0 {
			first = done
		}
	})
	if err != nil || first < at || at == 0 {
		t.Errorf("it went on from %d, was ended at %d: %v", first, at, err)
	}
	settled(t, v.Device, 2)
}

func TestReencryptRefuses(t *testing.T) {
	template := large(t, 1<<20)
	three := template
	three.Device = duplicate(t, template.Device)
	another(t, three.Device, fresh)
	foreign := template
	foreign.Device = duplicate(t, template.Device)
	byHand(t, foreign.Device, 2, fresh)
	lone := template
	lone.Device = single(t)
	changing := template
	changing.Device = duplicate(t, template.Device)
	token(t, changing.Device, 30, `{"type":"holdfast","keyslots":[],"state":"changing","slot":1,"replaces":0,"role":"operational"}`)
	none := template
	none.Device += ".none"
	keys := func(operational, recovery holdfast.Secret) map[volume.Role]holdfast.Secret {
		return map[volume.Role]holdfast.Secret{volume.Operational: operational, volume.Recovery: recovery}
	}
	for _, test := range []struct {
		name   string
		volume volume.Volume
		keys   map[volume.Role]holdfast.Secret
		is     error
		says   string
	}{
		{"no keys", template, nil, holdfast.ErrUsage, "no passphrase was given"},
		{"one key", template, map[volume.Role]holdfast.Secret{volume.Operational: operational}, holdfast.ErrUsage, "key slot 1 (recovery) is needed too"},
		{"a wrong key", template, keys(operational, wrong), volume.ErrPassphrase, "the passphrase of the recovery key"},
		{"keys that are swapped", template, keys(recovery, operational), volume.ErrPassphrase, "it opens slot 1, which is not the operational key"},
		{"a line break", template, keys(holdfast.NewSecret(marker+"\n"), recovery), holdfast.ErrUsage, "line break"},
		{"two operational keys", three, bothKeys(), holdfast.ErrUsage, "key slot 2 (operational) is needed too"},
		{"a key of no role", foreign, bothKeys(), holdfast.ErrUsage, "key slot 2 (of no role) is needed too"},
		{"no recovery key", lone, map[volume.Role]holdfast.Secret{volume.Operational: operational}, holdfast.ErrUsage, "it has no recovery key"},
		{"a rotation was interrupted", changing, bothKeys(), nil, "a rotation of the operational key was interrupted"},
		{"missing", none, bothKeys(), os.ErrNotExist, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := realRunner(t)
			err := nowhere(t, f).Reencrypt(t.Context(), test.volume, test.keys, nil)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
			if slices.Contains(f.actions(), "cryptsetup reencrypt") {
				t.Errorf("it ran %q", f.ran())
			}
		})
	}
}

// What cryptsetup is told depends on whether the volume is open, and under which name.
func TestReencryptTarget(t *testing.T) {
	v := large(t, 1<<20)
	header, err := volume.Host{}.Header(t.Context(), v.Device)
	if err != nil {
		t.Fatal(err)
	}
	id := "CRYPT-LUKS2-" + strings.ReplaceAll(header.UUID, "-", "")
	for _, test := range []struct {
		name, mapped string
		device       string
		want         string
		err          string
	}{
		{name: "a locked file", mapped: "CRYPT-LUKS2-00000000000000000000000000000000-pg-data", want: "--force-offline-reencrypt " + v.Device},
		{name: "a locked device", device: "/dev/null", want: "/dev/null"},
		{name: "open", mapped: id + "-pg-data", want: "--active-name pg-data"},
		{name: "open under another name", mapped: id + "-pg-data-creating", err: "in use: it is open under the name pg-data-creating"},
		{name: "gone", device: "/dev/no-such-device", err: "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			if test.mapped != "" {
				write(t, filepath.Join(root, "sys/block/dm-3/dm/uuid"), test.mapped+"\n")
			}
			f := realRunner(t).on("cryptsetup reencrypt", says("", 0))
			at := v
			if test.device != "" {
				at.Device = test.device
				f.other = func(ctx context.Context, c volume.Command) (volume.Output, error) {
					c.Args = slices.Clone(c.Args)
					c.Args[slices.Index(c.Args, at.Device)] = v.Device
					return volume.RunProgram(ctx, c)
				}
			}
			err := volume.Host{Run: f.run, Now: today, Root: root}.Reencrypt(t.Context(), at, bothKeys(), nil)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v", err)
				}
				sane(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, line := range f.ran() {
				if rest, is := strings.CutPrefix(line, "cryptsetup reencrypt "); is {
					got = append(got, rest)
				}
			}
			want := []string{"--batch-mode --init-only " + test.want, "--batch-mode --resume-only --key-file /dev/fd/3 --progress-json --progress-frequency 1 --hotzone-size 64M " + test.want}
			if !slices.Equal(got, want) {
				t.Errorf("ran %q", got)
			}
		})
	}
}

// cryptsetup's own word is not enough.
func TestReencryptNotDone(t *testing.T) {
	v := large(t, 1<<20)
	resumed := func(ctx context.Context, c volume.Command) (volume.Output, error) {
		if slices.Contains(c.Args, "--resume-only") {
			return volume.Output{}, nil
		}
		return volume.RunProgram(ctx, c)
	}
	err := nowhere(t, realRunner(t).on("cryptsetup reencrypt", resumed)).Reencrypt(t.Context(), v, bothKeys(), nil)
	if err == nil || !strings.Contains(err.Error(), "the header says that it is not done") {
		t.Errorf("got %v", err)
	}
	sane(t, err)
	emptied := func(ctx context.Context, c volume.Command) (volume.Output, error) {
		out, err := volume.RunProgram(ctx, c)
		if err == nil && slices.Contains(c.Args, "--resume-only") {
			cryptsetup(t, nil, "", "token remove --token-id 1 "+v.Device)
		}
		return out, err
	}
	err = nowhere(t, realRunner(t).on("cryptsetup reencrypt", emptied)).Reencrypt(t.Context(), v, bothKeys(), nil)
	if err == nil || !strings.Contains(err.Error(), "no recovery key any more") {
		t.Errorf("got %v", err)
	}
	sane(t, err)
}

func TestParseProgress(t *testing.T) {
	for line, want := range map[string]string{
		`{"device":"/dev/sdb","device_bytes":"512","device_size":"1024","speed":"42","eta_ms":"0","time_ms":"39"}`: "512 of 1024 true",
		`{"device":"r","device_bytes":"2048","device_size":"1024"}`:                                                "2048 of 1024 false",
		`{"device":"r","device_bytes":"-1","device_size":"1024"}`:                                                  "-1 of 1024 false",
		`{"device":"r","device_bytes":5,"device_size":"1024"}`:                                                     "0 of 0 false",
		`{"device":"r","device_bytes":"x","device_size":"1024"}`:                                                   "0 of 0 false",
		`{"device":"r","device_bytes":"1","device_size":"x"}`:                                                      "1 of 0 false",
		`Finished, time 00m03s`: "0 of 0 false",
	} {
		done, total, ok := volume.ParseProgress(line)
		if got := fmt.Sprint(done, " of ", total, " ", ok); got != want {
			t.Errorf("%s is %s, want %s", line, got, want)
		}
	}
}
