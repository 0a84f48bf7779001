package volume_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/volume"
)

func (m *machine) state(t *testing.T, v volume.Volume, want volume.State) volume.Status {
	t.Helper()
	status, err := m.host().Status(t.Context(), v)
	if err != nil || status.State != want {
		t.Errorf("state %q (%s), %v; want %q", status.State, status.Detail, err, want)
	}
	return status
}

func TestUnlock(t *testing.T) {
	m := newMachine(t)
	v := m.made()
	m.check(m.host().Lock(t.Context(), v))
	before := len(m.ran())
	if slot, err := m.host().Unlock(t.Context(), v, recovery); err != nil || slot != 1 {
		t.Errorf("the recovery key opened slot %d, %v", slot, err)
	}
	m.whole(t, v)
	ran := slices.DeleteFunc(m.actions()[before:], func(a string) bool { return strings.Contains(a, "luksDump") })
	if want := []string{"cryptsetup open", "fsck.ext4", "mount"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
	before = len(m.ran())
	if slot, err := m.host().Unlock(t.Context(), v, wrong); err != nil || slot != -1 {
		t.Errorf("of a mounted volume: slot %d, %v", slot, err)
	}
	if len(m.ran()) > before {
		t.Errorf("of a mounted volume it ran %q", m.ran()[before:])
	}
	t.Run("FromWhereItStopped", func(t *testing.T) {
		_, err := m.umount(t.Context(), volume.Command{Args: []string{"umount", v.Mount}})
		m.check(err)
		m.state(t, v, volume.Open)
		if slot, err := m.host().Unlock(t.Context(), v, wrong); err != nil || slot != -1 { // it is open: no passphrase is asked for
			t.Errorf("slot %d, %v", slot, err)
		}
		m.whole(t, v)
	})
	t.Run("WithoutAWord", func(t *testing.T) {
		m.check(m.host().Lock(t.Context(), v))
		m.on("cryptsetup open", func(ctx context.Context, c volume.Command) (volume.Output, error) {
			_, err := m.openMapping(ctx, c)
			return volume.Output{}, err
		})
		if slot, err := m.host().Unlock(t.Context(), v, operational); err != nil || slot != -1 {
			t.Errorf("slot %d, %v", slot, err)
		}
		m.whole(t, v)
	})
}

// Whatever fails, the volume is locked afterwards, and nothing was opened that was refused before.
func TestUnlockFails(t *testing.T) {
	tests := []struct {
		name   string
		change func(m *machine, v *volume.Volume)
		pass   holdfast.Secret
		is     error
		want   string
		state  volume.State // "": locked
		slot   int          // that was opened, and 1; 0: none
	}{
		{name: "a wrong passphrase", pass: wrong, is: volume.ErrPassphrase},
		{name: "an empty passphrase", pass: holdfast.NewSecret(""), is: volume.ErrPassphrase},
		{name: "no device mapper", change: func(m *machine, _ *volume.Volume) {
			m.on("cryptsetup open", says("Cannot initialize device-mapper.", 1))
		}, pass: recovery, want: "cryptsetup open ended with exit status 1", slot: 2},
		{name: "no device mapper, and a wrong passphrase", change: func(m *machine, _ *volume.Volume) {
			m.on("cryptsetup open", says("Cannot initialize device-mapper.", 1))
		}, pass: wrong, is: volume.ErrPassphrase},
		{name: "a damaged file system", change: func(m *machine, _ *volume.Volume) {
			m.on("fsck.ext4", says("UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.", 4))
		}, pass: operational, want: "UNEXPECTED INCONSISTENCY", slot: 1},
		{name: "a check that wants a restart", change: func(m *machine, _ *volume.Volume) { m.on("fsck.ext4", says("", 3)) }, pass: operational, want: "exit status 3", slot: 1},
		{name: "no mount", change: func(m *machine, _ *volume.Volume) { m.on("mount", says("", 32)) }, pass: operational, want: "mount ended with exit status 32", slot: 1},
		{name: "a mount that lies", change: func(m *machine, _ *volume.Volume) { m.lies = true }, pass: operational, want: "the volume is not at", slot: 1},
		{name: "read-only", change: func(m *machine, _ *volume.Volume) { m.readOnly = true }, pass: recovery, want: "cannot be written", slot: 2},
		{name: "files in the mount point", change: func(m *machine, v *volume.Volume) {
			m.check(m.host().Unguard(*v))
			write(m.t, v.Mount+"/PG_VERSION", "15")
		}, pass: operational, want: "holds files", state: volume.Covered},
		{name: "another mount", change: func(m *machine, v *volume.Volume) {
			m.mounts = append(m.mounts, played{v.Mount, "x", "8:9"})
			m.tell()
		}, pass: operational, want: "something else is mounted", state: volume.Elsewhere},
		{name: "another device under that name", change: func(m *machine, _ *volume.Volume) {
			m.device("dm-9", map[string]string{"dm/name": "pg-data", "dm/uuid": "CRYPT-LUKS2-ff-pg-data", "dev": "253:9", "slaves/sdz": ""})
		}, pass: operational, want: "is not ", state: volume.Elsewhere},
		{name: "open under another name", change: func(m *machine, v *volume.Volume) {
			_, err := m.openMapping(m.t.Context(), volume.Command{Args: []string{"cryptsetup", "open", "--key-file", "/dev/fd/3", v.Device, "by-hand"}, Secrets: []holdfast.Secret{operational}})
			m.check(err)
		}, pass: operational, is: volume.ErrInUse, want: "/dev/mapper/by-hand"},
		{name: "no header", change: func(m *machine, v *volume.Volume) { write(m.t, v.Device, "x") }, pass: operational, is: volume.ErrNotVolume, state: volume.NotLUKS},
		{name: "no file", change: func(m *machine, v *volume.Volume) { m.check(os.Remove(v.Device)) }, pass: operational, is: os.ErrNotExist, state: volume.Missing},
		{name: "never finished", change: func(m *machine, v *volume.Volume) {
			cryptsetup(m.t, nil, "", "config --label pg-data.creating --subsystem holdfast "+v.Device)
		}, pass: operational, want: "never finished", state: volume.Creating},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			v := m.made()
			m.check(m.host().Lock(t.Context(), v))
			if test.change != nil {
				test.change(m, &v)
			}
			mappings := len(m.mapped)
			slot, err := m.host().Unlock(t.Context(), v, test.pass)
			if slot != test.slot-1 {
				t.Errorf("slot %d", slot)
			}
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v (%s)", err, holdfast.Hint(err))
			}
			if test.name != "a mount that lies" && test.name != "no file" && holdfast.Hint(err) == "" {
				t.Errorf("%v has no hint", err)
			}
			if len(m.mapped) != mappings {
				t.Errorf("open: %v", m.mapped)
			}
			if test.state == "" {
				test.state = volume.Locked
			}
			m.state(t, v, test.state)
		})
	}
}

func TestUnlockInterrupted(t *testing.T) {
	for n, over := 1, false; !over; n++ {
		for _, how := range []fault{killed(), lost(), exits(1)} {
			m := newMachine(t)
			v := m.made()
			m.check(m.host().Lock(t.Context(), v))
			before := len(m.ran())
			m.fail(n, how)
			_, err := m.host().Unlock(t.Context(), v, operational)
			if len(m.ran())-before < n {
				over = true
				break
			}
			want := volume.Locked
			if err == nil { // 1 of fsck's: it has repaired something
				want = volume.Mounted
			}
			m.state(t, v, want)
			m.unlock(v)
			m.state(t, v, volume.Mounted)
		}
	}
}

func TestLock(t *testing.T) {
	m := newMachine(t)
	v := m.made()
	m.check(m.host().Lock(t.Context(), v))
	m.state(t, v, volume.Locked)
	before := len(m.ran())
	m.check(m.host().Lock(t.Context(), v))
	if ran := m.ran()[before:]; len(ran) > 0 {
		t.Errorf("of a locked volume it ran %q", ran)
	}
	// A file that was removed while it was open can still be locked.
	m.unlock(v)
	m.check(os.Remove(v.Device))
	entries, err := os.ReadDir(m.root + "/sys/class/block")
	m.check(err)
	for _, entry := range entries {
		if path := m.root + "/sys/class/block/" + entry.Name() + "/loop/backing_file"; exists(path) {
			write(t, path, v.Device+" (deleted)\n")
		}
	}
	if status := m.state(t, v, volume.Missing); !strings.Contains(status.Detail, "still open") {
		t.Errorf("%+v", status)
	}
	m.check(m.host().Lock(t.Context(), v))
	if len(m.mapped) > 0 || len(m.mounts) > 0 {
		t.Errorf("mapped %v, mounted %v", m.mapped, m.mounts)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestLockInUse(t *testing.T) {
	tests := []struct {
		name string
		use  func(m *machine, v volume.Volume)
		want string // "": nobody uses it
		pid  int
	}{
		{name: "an open file", use: func(m *machine, v volume.Volume) {
			m.process(70, "postgres", 0, map[string]string{"fd/1": "/dev/null", "fd/7": v.Mount + "/lost+found", "cwd": "/proc"})
		}, want: "process 70 (postgres of root) has ", pid: 70},
		{name: "a working folder, of somebody without a name", use: func(m *machine, v volume.Volume) {
			m.process(71, "bash", 54321, map[string]string{"cwd": v.DataPath()})
		}, want: "process 71 (bash of user 54321) works in ", pid: 71},
		{name: "a program", use: func(m *machine, v volume.Volume) { m.process(72, "x", 0, map[string]string{"exe": v.DataPath()}) }, want: "runs ", pid: 72},
		{name: "a root", use: func(m *machine, v volume.Volume) { m.process(73, "x", 0, map[string]string{"root": v.DataPath()}) }, want: "has its root in ", pid: 73},
		{name: "memory", use: func(m *machine, _ volume.Volume) {
			m.process(74, "postgres", 0, nil)
			dev := m.mounts[0].dev
			write(m.t, m.root+"/proc/74/maps", "7f00-7f01 r--p 00000000 00:00 0\n7f00-7f01 r--s 00000000 "+hexDevice(m.t, dev)+" 12   /srv/a file\n")
		}, want: "has /srv/a file in its memory", pid: 74},
		{name: "a container", use: func(m *machine, _ volume.Volume) {
			m.process(75, "postgres", 0, map[string]string{"ns/mnt": "mnt:[2]"})
			write(m.t, m.root+"/proc/75/mountinfo", "90 0 0:50 / / rw - overlay overlay rw\n91 90 "+m.mounts[0].dev+" /pgdata /var/lib/postgresql/data rw - ext4 /dev/mapper/pg-data rw\n")
			m.process(76, "postgres", 0, map[string]string{"ns/mnt": "mnt:[2]"})
		}, want: "process 75 (postgres of root) keeps it mounted at /var/lib/postgresql/data", pid: 75},
		{name: "a service whose mounts follow", use: func(m *machine, v volume.Volume) {
			m.process(77, "systemd-udevd", 0, map[string]string{"ns/mnt": "mnt:[3]"})
			write(m.t, m.root+"/proc/77/mountinfo", "90 0 8:1 / / rw master:1 - ext4 /dev/sda1 rw\n91 90 "+m.mounts[0].dev+` / `+strings.ReplaceAll(v.Mount, " ", `\040`)+" rw - ext4 /dev/mapper/pg-data rw\n")
		}},
		{name: "a namespace that does not have it", use: func(m *machine, _ volume.Volume) {
			m.process(78, "x", 0, map[string]string{"ns/mnt": "mnt:[4]"})
			write(m.t, m.root+"/proc/78/mountinfo", "90 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
		}},
		{name: "a second mount", use: func(m *machine, _ volume.Volume) {
			m.mounts = append(m.mounts, played{"/mnt/bind", "pg-data", m.mounts[0].dev})
			m.tell()
		}, want: "mounted at /mnt/bind too"},
		{name: "a swap file", use: func(m *machine, v volume.Volume) {
			write(m.t, m.root+"/proc/swaps", "Filename\tType\n"+strings.ReplaceAll(v.Mount, " ", `\040`)+"/swap file\t0\n")
		}, want: "swap file"},
		{name: "a loop", use: func(m *machine, v volume.Volume) {
			m.device("loop9", map[string]string{"loop/backing_file": v.Mount + "/disk"})
		}, want: "loop9"},
		{name: "a device on it", use: func(m *machine, _ volume.Volume) {
			kernel, _ := m.kernel("pg-data")
			m.device(kernel, map[string]string{"holders/dm-8": ""})
		}, want: "dm-8 lies on it"},
		{name: "others", use: func(m *machine, _ volume.Volume) {
			m.process(79, "x", 0, map[string]string{"fd/1": m.root + "/gone", "fd/2": "/dev/null", "cwd": "/proc"})
			write(m.t, m.root+"/proc/79/maps", "7f00-7f01 r--p 00000000 ff:ff 12 /bin/true\n")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			v := m.made()
			m.ownDevice(v)
			test.use(m, v)
			before := len(m.ran())
			err := m.host().Lock(t.Context(), v)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				m.state(t, v, volume.Locked)
				return
			}
			use := (*volume.InUse)(nil)
			if !errors.Is(err, volume.ErrInUse) || !errors.As(err, &use) || !strings.Contains(err.Error(), test.want) || holdfast.Hint(err) == "" {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if len(use.Users) != 1 || use.Users[0].PID != test.pid {
				t.Errorf("users %+v", use.Users)
			}
			if ran := m.ran()[before:]; len(ran) > 0 {
				t.Errorf("it ran %q", ran)
			}
			m.state(t, v, volume.Mounted)
		})
	}
}

// Users who come between the look and the umount are found then; a lock that stopped half-way is ended by the next.
func TestLockInterrupted(t *testing.T) {
	m := newMachine(t)
	v := m.made()
	m.fail(1, exits(32))
	if err := m.host().Lock(t.Context(), v); err == nil || !strings.Contains(err.Error(), "umount ended with exit status 32") {
		t.Error(err)
	}
	m.state(t, v, volume.Mounted)
	m.fail(2, exits(5))
	if err := m.host().Lock(t.Context(), v); err == nil || !strings.Contains(err.Error(), "cryptsetup close ended with exit status 5") {
		t.Error(err)
	}
	m.state(t, v, volume.Open)
	m.check(m.host().Lock(t.Context(), v))
	m.state(t, v, volume.Locked)

	m.unlock(v)
	m.ownDevice(v)
	m.on("umount", func(_ context.Context, _ volume.Command) (volume.Output, error) {
		m.process(80, "late", 0, map[string]string{"cwd": v.Mount})
		return volume.Output{Code: 32, Stderr: []byte("target is busy")}, nil
	})
	if err := m.host().Lock(t.Context(), v); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), "process 80 (late of root) works in") || !strings.Contains(err.Error(), "target is busy") {
		t.Error(err)
	}
	m.vanish(80)
	m.on("umount", m.umount)
	m.check(m.host().Lock(t.Context(), v))
}
