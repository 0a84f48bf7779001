package volume_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/volume"
)

func TestStatus(t *testing.T) {
	tests := []struct {
		name   string
		change func(m *machine, v *volume.Volume)
		want   volume.State
		detail string
	}{
		{name: "mounted", want: volume.Mounted},
		{name: "locked", change: func(m *machine, v *volume.Volume) { m.check(m.host().Lock(m.t.Context(), *v)) }, want: volume.Locked},
		{name: "open", change: func(m *machine, v *volume.Volume) { m.drop() }, want: volume.Open},
		{name: "covered", change: func(m *machine, v *volume.Volume) {
			m.check(errors.Join(m.host().Lock(m.t.Context(), *v), m.host().Unguard(*v)))
			write(m.t, v.Mount+"/PG_VERSION", "15")
		}, want: volume.Covered},
		{name: "covered while it is open", change: func(m *machine, v *volume.Volume) {
			m.drop()
			m.check(m.host().Unguard(*v))
			write(m.t, v.Mount+"/PG_VERSION", "15")
		}, want: volume.Covered},
		{name: "another mount above", change: func(m *machine, v *volume.Volume) {
			m.drop()
			m.mounts = append(m.mounts, played{v.Mount, "other", "8:9"})
			m.tell()
		}, want: volume.Elsewhere},
		{name: "another mapping of the name", change: func(m *machine, v *volume.Volume) {
			m.check(m.host().Lock(m.t.Context(), *v))
			m.device("dm-9", map[string]string{"dm/name": "pg-data", "dm/uuid": "CRYPT-LUKS2-ff-pg-data", "dev": "253:9", "slaves/sdz": ""})
		}, want: volume.Elsewhere, detail: "and not of /"},
		{name: "another mapping of the name, mounted there", change: func(m *machine, v *volume.Volume) {
			m.check(m.host().Lock(m.t.Context(), *v))
			m.device("dm-9", map[string]string{"dm/name": "pg-data", "dm/uuid": "CRYPT-LUKS2-ff-pg-data", "dev": "253:9", "slaves/sdz": ""})
			m.mounts = append(m.mounts, played{v.Mount, "pg-data", "253:9"})
			m.tell()
		}, want: volume.Elsewhere, detail: "and not of /"},
		{name: "another name", change: func(m *machine, v *volume.Volume) {
			kernel, _ := m.kernel("pg-data")
			m.drop()
			m.device(kernel, map[string]string{"dm/name": "by-hand"})
		}, want: volume.Locked, detail: "under another name, /dev/mapper/by-hand"},
		{name: "missing", change: func(m *machine, v *volume.Volume) {
			m.check(errors.Join(m.host().Lock(m.t.Context(), *v), os.Remove(v.Device)))
		}, want: volume.Missing},
		{name: "missing, half made", change: func(m *machine, v *volume.Volume) {
			m.check(errors.Join(m.host().Lock(m.t.Context(), *v), os.Rename(v.Device, v.Device+".creating")))
		}, want: volume.Creating, detail: "was begun"},
		{name: "not LUKS", change: func(m *machine, v *volume.Volume) {
			m.check(m.host().Lock(m.t.Context(), *v))
			write(m.t, v.Device, strings.Repeat("x", 1<<20))
		}, want: volume.NotLUKS},
		{name: "it lost its header while it is open", change: func(m *machine, v *volume.Volume) {
			f, err := os.OpenFile(v.Device, os.O_WRONLY, 0)
			m.check(err)
			_, err = f.WriteAt(make([]byte, 16<<20), 0)
			m.check(errors.Join(err, f.Close()))
		}, want: volume.NotLUKS, detail: "still open"},
		{name: "another label", change: func(m *machine, v *volume.Volume) {
			cryptsetup(m.t, nil, "", "config --label pg-date --subsystem holdfast "+v.Device)
		}, want: volume.Mounted, detail: `the name "pg-date"`},
		{name: "half made", change: func(m *machine, v *volume.Volume) {
			m.check(m.host().Lock(m.t.Context(), *v))
			cryptsetup(m.t, nil, `{"type":"holdfast","keyslots":[],"state":"creating"}`, "token import --json-file - --token-id 31 "+v.Device)
		}, want: volume.Creating},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			v := m.made()
			if test.change != nil {
				test.change(m, &v)
			}
			status := m.state(t, v, test.want)
			if !strings.Contains(status.Detail, test.detail) || test.detail == "" && status.Detail != "" {
				t.Errorf("detail %q, want %q", status.Detail, test.detail)
			}
			if test.want == volume.Mounted && (status.Size == 0 || status.Used == 0 || status.Free == 0) {
				t.Errorf("%+v", status)
			}
			if test.want == volume.Locked && status.Size != 48<<20 {
				t.Errorf("size %d", status.Size)
			}
			before := len(m.ran())
			// What the header says, and whether it is there, is not looked at.
			want := test.want == volume.Mounted || test.detail == "still open"
			if mounted, err := m.host().Mounted(v); err != nil || mounted != want || len(m.ran()) != before {
				t.Errorf("mounted: %t, %v; it ran %q", mounted, err, m.ran()[before:])
			}
			// To look changes nothing.
			m.state(t, v, test.want)
		})
	}
}

// While a volume is re-encrypted online, there are helpers between the mapping and its device.
func TestStatusWhileReencrypting(t *testing.T) {
	m := newMachine(t)
	v := m.made()
	kernel, _ := m.kernel("pg-data")
	slaves, err := os.ReadDir(m.root + "/sys/class/block/" + kernel + "/slaves")
	m.check(err)
	m.check(os.Remove(m.root + "/sys/class/block/" + kernel + "/slaves/" + slaves[0].Name()))
	m.device(kernel, map[string]string{"slaves/dm-8": ""})
	m.device("dm-8", map[string]string{"dm/name": "pg-data-overlay", "dm/uuid": "SUBDEV-CRYPT-LUKS2-0123", "dev": "253:8", "slaves/" + slaves[0].Name(): ""})
	m.state(t, v, volume.Mounted)
	// A loop among them ends.
	m.check(os.Remove(m.root + "/sys/class/block/dm-8/slaves/" + slaves[0].Name()))
	m.device("dm-8", map[string]string{"slaves/dm-8": ""})
	m.state(t, v, volume.Elsewhere)
}

func verified(t *testing.T, m *machine, v volume.Volume, keys map[volume.Role]holdfast.Secret) map[string]volume.Check {
	t.Helper()
	checks, err := m.host().Verify(t.Context(), v, keys, false)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]volume.Check{}
	for _, check := range checks {
		if strings.Contains(check.Text+check.Fix, marker) {
			t.Errorf("a passphrase is in %+v", check)
		}
		if check.Good != (check.Fix == "") || check.Text == "" {
			t.Errorf("%+v", check)
		}
		byName[check.Name] = check
	}
	return byName
}

// The canary fails on this machine, which seals nothing: that it can is the point. Its own tests, and the virtual machine's, have the rest.
func TestVerify(t *testing.T) {
	keys := func() map[volume.Role]holdfast.Secret {
		return map[volume.Role]holdfast.Secret{volume.Operational: operational, volume.Recovery: recovery}
	}
	tests := []struct {
		name   string
		change func(m *machine, v *volume.Volume, keys map[volume.Role]holdfast.Secret)
		fails  string // "": only the canary
		want   string
	}{
		{name: "whole"},
		{name: "a wrong key", change: func(_ *machine, _ *volume.Volume, keys map[volume.Role]holdfast.Secret) {
			keys[volume.Recovery] = wrong
		}, fails: "recovery key", want: "no key available"},
		{name: "the other key", change: func(_ *machine, _ *volume.Volume, keys map[volume.Role]holdfast.Secret) {
			keys[volume.Operational] = recovery
		}, fails: "operational key", want: `opens slot 1, which is not the operational key but "recovery"`},
		{name: "no guard", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			m.check(m.host().Unguard(*v))
		}, fails: "guard", want: "can be written"},
		{name: "locked", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			m.check(m.host().Lock(m.t.Context(), *v))
		}, fails: "data folder", want: "is locked"},
		{name: "a data folder on the plain disk", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			m.check(os.Rename(v.DataPath(), v.DataPath()+".away"))
			m.check(os.Symlink(m.t.TempDir(), v.DataPath()))
		}, fails: "data folder", want: "lies on / (device 8:1)"},
		{name: "a data folder on another mount", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			text, err := os.ReadFile(m.root + "/proc/self/mountinfo")
			m.check(err)
			write(m.t, m.root+"/proc/self/mountinfo", string(text)+"99 10 8:9 / "+strings.ReplaceAll(v.DataPath(), " ", `\040`)+" rw - ext4 /dev/sdb1 rw\n")
		}, fails: "data folder", want: "(device 8:9)"},
		{name: "no data folder", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			m.check(os.Remove(v.DataPath()))
		}, fails: "data folder", want: "no such file"},
		{name: "a file", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			m.check(os.Remove(v.DataPath()))
			write(m.t, v.DataPath(), "")
		}, fails: "data folder", want: "is no folder"},
		{name: "another owner", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			m.check(os.Chown(v.DataPath(), 0, 0))
		}, fails: "data folder", want: "belongs to 0:0, and not to 999:998"},
		{name: "open to others", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			m.check(os.Chmod(v.DataPath(), 0o770))
		}, fails: "data folder", want: "mode 0770"},
		{name: "not a volume", change: func(m *machine, v *volume.Volume, _ map[volume.Role]holdfast.Secret) {
			v.Device = filepath.Join(m.t.TempDir(), "x")
			write(m.t, v.Device, strings.Repeat("x", 4096))
		}, fails: "LUKS2", want: "not a LUKS2 volume"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			v := m.made()
			given := keys()
			if test.change != nil {
				test.change(m, &v, given)
			}
			checks := verified(t, m, v, given)
			for name, check := range checks {
				switch {
				case name == test.fails:
					if check.Good || !strings.Contains(check.Text, test.want) {
						t.Errorf("%+v, want %q", check, test.want)
					}
				case name == "canary":
					if check.Good || !strings.Contains(check.Text+check.Fix, "nothing is proven") && !strings.Contains(check.Text, "not planted") {
						t.Errorf("%+v", check)
					}
				case !check.Good:
					t.Errorf("%+v", check)
				}
			}
			if _, has := checks[test.fails]; !has && test.fails != "" {
				t.Errorf("checks %v", checks)
			}
			if entries, _ := filepath.Glob(v.Mount + "/.holdfast*"); len(entries) > 0 {
				t.Errorf("left %q", entries)
			}
		})
	}
}

func TestCountersOfVolume(t *testing.T) {
	m := newMachine(t)
	v := m.made()
	got, err := m.host().Counters(v)
	if err != nil || got.Requests != 4 || !got.At.Equal(today()) {
		t.Errorf("%+v, %v", got, err)
	}
	m.check(m.host().Lock(t.Context(), v))
	if _, err := m.host().Counters(v); err == nil || !strings.Contains(err.Error(), "is locked") || holdfast.Hint(err) == "" {
		t.Error(err)
	}
	if _, err := (volume.Host{Root: t.TempDir(), Now: today}).Status(t.Context(), v); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without /proc: %v", err)
	}
	m.unlock(v)
	m.check(os.Remove(m.root + "/proc/self/mountinfo"))
	if mounted, err := m.host().Mounted(v); !errors.Is(err, fs.ErrNotExist) || mounted {
		t.Errorf("mounted without /proc: %t, %v", mounted, err)
	}
}
