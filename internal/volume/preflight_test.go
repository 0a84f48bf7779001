package volume_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/testbed"
	"holdfast/internal/volume"
)

const speedOfTests = `# Tests are approximate using memory only (no storage IO).
# Algorithm |       Key |      Encryption |      Decryption
    aes-xts        512b      2136.7 MiB/s      2131.4 MiB/s
`

// able is a machine whose kernel and processor have what volumes need.
func able(t *testing.T) *machine {
	m := newMachine(t)
	for path, text := range map[string]string{
		"/proc/self/status": "Name:\tholdfast\nCapEff:\t000001fffeffffff\n",
		"/proc/misc":        "236 device-mapper\n237 loop-control\n",
		"/proc/devices":     "Block devices:\n  7 loop\n",
		"/proc/cpuinfo":     "processor\t: 0\nflags\t\t: fpu aes avx\n",
		"/proc/crypto":      "",
	} {
		write(t, m.root+path, text)
	}
	m.check(errors.Join(os.MkdirAll(m.root+"/sys/module/dm_crypt", 0o755), os.MkdirAll(m.root+"/sys/module/loop", 0o755)))
	m.on("cryptsetup benchmark", says(speedOfTests, 0)).on("mkfs.ext4", says("", 0)).on("mkfs.xfs", says("", 0)).on("mount", says("", 0)).on("umount", says("", 0))
	return m
}

func TestPreflight(t *testing.T) {
	tests := []struct {
		name    string
		change  func(m *machine, v *volume.Volume)
		confirm volume.Name
		check   string // "": all are good
		warns   bool
		good    bool
		want    string
	}{
		{name: "able"},
		{name: "its speed is said", check: "AES", good: true, want: "2136.7 MiB/s to encrypt, 2131.4 MiB/s to decrypt"},
		{name: "why 512 bits", check: "AES", good: true, want: "one of 256 bits would be AES-128"},
		{name: "no right", change: func(m *machine, _ *volume.Volume) {
			write(m.t, m.root+"/proc/self/status", "CapEff:\t00000000a80425fb\n")
		}, check: "root", want: "CAP_SYS_ADMIN"},
		{name: "rights that cannot be read", change: func(m *machine, _ *volume.Volume) { m.check(os.Remove(m.root + "/proc/self/status")) }, check: "root", want: "no such file"},
		{name: "an old cryptsetup", change: func(m *machine, _ *volume.Volume) { m.on("cryptsetup", says("cryptsetup 2.3.7\n", 0)) }, check: "cryptsetup", want: "2.3.7"},
		{name: "a very old one", change: func(m *machine, _ *volume.Volume) { m.on("cryptsetup", says("cryptsetup 1.7.5\n", 0)) }, check: "cryptsetup", want: "1.7.5"},
		{name: "a new one", change: func(m *machine, _ *volume.Volume) {
			m.on("cryptsetup", says("cryptsetup 2.10.0 flags: UDEV BLKID\n", 0))
		}},
		{name: "a strange one", change: func(m *machine, _ *volume.Volume) { m.on("cryptsetup", says("libre\n", 0)) }, check: "cryptsetup", want: "not understood"},
		{name: "none", change: func(m *machine, _ *volume.Volume) { m.on("cryptsetup", missing) }, check: "cryptsetup", want: "is not installed"},
		{name: "no dm-crypt", change: func(m *machine, _ *volume.Volume) {
			m.check(os.Remove(m.root + "/sys/module/dm_crypt"))
			m.on("modprobe", says("", 1))
		}, check: "device mapper", want: "could not be loaded"},
		{name: "no modprobe", change: func(m *machine, _ *volume.Volume) {
			m.check(os.Remove(m.root + "/sys/module/dm_crypt"))
			m.on("modprobe", missing)
		}, check: "device mapper", want: "could not be loaded"},
		{name: "dm-crypt that can be loaded, or is built in", change: func(m *machine, _ *volume.Volume) {
			m.check(os.Remove(m.root + "/sys/module/dm_crypt"))
			m.on("modprobe", says("", 0))
		}},
		{name: "a device mapper that is not there", change: func(m *machine, _ *volume.Volume) { write(m.t, m.root+"/proc/misc", "237 loop-control\n") }, check: "device mapper", want: "has no device-mapper"},
		{name: "no loops", change: func(m *machine, _ *volume.Volume) { write(m.t, m.root+"/proc/devices", "Block devices:\n") }, check: "loop devices", want: "has no loop"},
		{name: "no AES", change: func(m *machine, _ *volume.Volume) { write(m.t, m.root+"/proc/cpuinfo", "flags\t: fpu avx\n") }, check: "AES", warns: true, want: "no AES instructions; measured in memory on one processor: 2136.7"},
		{name: "AES of arm", change: func(m *machine, _ *volume.Volume) { write(m.t, m.root+"/proc/cpuinfo", "Features\t: fp aes sha1\n") }},
		{name: "another processor", change: func(m *machine, _ *volume.Volume) { write(m.t, m.root+"/proc/cpuinfo", "cpu\t: POWER9\n") }, check: "AES", warns: true, want: "has no flags"},
		{name: "no measure", change: func(m *machine, _ *volume.Volume) { m.on("cryptsetup benchmark", says("not available", 1)) }, check: "AES", good: true, want: "could not be measured"},
		{name: "no mkfs", change: func(m *machine, v *volume.Volume) { v.Filesystem = volume.XFS; m.on("mkfs.xfs", missing) }, check: "programs", want: "is not installed"},
		{name: "no room", change: func(m *machine, v *volume.Volume) { v.Device = "/dev/shm/no-such-folder/x" }, check: "room", want: "no such file"},
		{name: "a file that is there", change: func(m *machine, v *volume.Volume) { write(m.t, v.Device, "precious") }, check: "device", want: "a file of 8 bytes"},
		{name: "a file that is there, confirmed", change: func(m *machine, v *volume.Volume) { write(m.t, v.Device, "precious") }, confirm: "pg-data", check: "device", warns: true, want: "will be lost: "},
		{name: "a signature, confirmed", change: func(m *machine, v *volume.Volume) {
			write(m.t, v.Device, "")
			m.check(os.Truncate(v.Device, 8<<20))
			_, err := volume.RunProgram(m.t.Context(), volume.Command{Args: []string{"mkfs.ext4", "-q", "-L", "precious", v.Device}})
			m.check(err)
		}, confirm: "pg-data", check: "device", warns: true, want: `holds ext4 "precious"`},
		{name: "a file that is there, and another name was typed", change: func(m *machine, v *volume.Volume) { write(m.t, v.Device, "precious") }, confirm: "pg-date", check: "device", want: "a file of 8 bytes"},
		{name: "a file in use, confirmed", change: func(m *machine, v *volume.Volume) {
			write(m.t, v.Device, "precious")
			m.device("loop7", map[string]string{"loop/backing_file": v.Device, "dev": "7:7"})
		}, confirm: "pg-data", check: "device", want: "is in use: /dev/loop7"},
		{name: "wipefs fails", change: func(m *machine, v *volume.Volume) {
			write(m.t, v.Device, "precious")
			m.on("wipefs", func(_ context.Context, c volume.Command) (volume.Output, error) {
				return volume.Output{Code: map[bool]int{true: 1}[len(c.Args) > 2]}, nil
			})
		}, confirm: "pg-data", check: "device", want: "wipefs ended with"},
		{name: "files in the mount point", change: func(m *machine, v *volume.Volume) { write(m.t, v.Mount+"/PG_VERSION", "15") }, check: "mount point", want: "holds files"},
		{name: "a mount there", change: func(m *machine, v *volume.Volume) {
			m.mounts = append(m.mounts, played{v.Mount, "x", "8:9"})
			m.tell()
		}, check: "mount point", want: "something is mounted"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := able(t)
			v := m.volume()
			if test.change != nil {
				test.change(m, &v)
			}
			checks, err := m.host().Preflight(t.Context(), v, 400<<20, test.confirm)
			m.check(err)
			for _, check := range checks {
				if check.Name == test.check {
					if check.Good != test.good || check.Warns != test.warns || !strings.Contains(check.Text, test.want) || check.Good != (check.Fix == "") {
						t.Errorf("%+v, want %q", check, test.want)
					}
				} else if !check.Good && (test.name != "none" || check.Name != "cryptsetup") {
					t.Errorf("%+v", check)
				}
			}
		})
	}
	t.Run("OfTheVolumeItself", func(t *testing.T) {
		m := newMachine(t)
		v := m.made()
		checks, err := m.host().Preflight(t.Context(), v, 48<<20, "")
		m.check(err)
		if check := checkNamed(t, checks, "device"); check.Good || !check.Warns || !strings.Contains(check.Text, "this volume already") {
			t.Errorf("%+v", check)
		}
		if check := checkNamed(t, checks, "mount point"); !check.Good {
			t.Errorf("%+v", check)
		}
		checks, err = m.host().Preflight(t.Context(), v, 48<<20, v.Name)
		m.check(err)
		if check := checkNamed(t, checks, "device"); check.Good || !check.Warns || !strings.Contains(check.Text, "with other passphrases than its two it is made anew") {
			t.Errorf("%+v", check)
		}
		cryptsetup(t, nil, "", "config --label pg-data.creating --subsystem holdfast "+v.Device)
		checks, err = m.host().Preflight(t.Context(), v, 48<<20, "")
		m.check(err)
		if check := checkNamed(t, checks, "device"); !check.Good || !strings.Contains(check.Text, "half made") {
			t.Errorf("%+v", check)
		}
	})
	t.Run("RoomForTheNext", func(t *testing.T) {
		m := newMachine(t)
		v := m.volume()
		dir := t.TempDir()
		testbed.MountTmpfs(t, dir, "size=80M")
		v.Device = dir + "/pg-data.luks"
		room := func(want bool, says string) {
			t.Helper()
			checks, err := m.host().Preflight(t.Context(), v, 48<<20, "")
			m.check(err)
			if check := checkNamed(t, checks, "room"); check.Good != want || !strings.Contains(check.Text, says) {
				t.Errorf("%+v, want %q", check, says)
			}
		}
		room(true, " 80 MiB free")
		// What an interrupted create left goes before the next takes its room.
		if err := diesAt(m, m.creation(v), 8); err == nil {
			t.Fatal("nothing died")
		}
		write(t, dir+"/other", strings.Repeat("x", 16<<20))
		room(true, " 64 MiB free")
		m.check(os.Rename(v.Device+".creating", v.Device+".moved"))
		write(t, v.Device+".creating", strings.Repeat("x", 8<<20)) // somebody else's
		room(false, " 8 MiB free")
		m.check(os.Rename(v.Device+".moved", v.Device+".creating"))
		if _, err := m.host().Create(t.Context(), m.creation(v)); err != nil {
			t.Fatal(err)
		}
		// Now it is there, and the same call again makes no second one.
		room(true, "is this volume already")
		if _, err := m.host().Create(t.Context(), m.creation(v)); err != nil {
			t.Error(err)
		}
	})
	t.Run("TooMuch", func(t *testing.T) {
		m := able(t)
		for _, size := range []int64{1 << 60, 20 << 20} {
			checks, err := m.host().Preflight(t.Context(), m.volume(), size, "")
			m.check(err)
			if check := checkNamed(t, checks, "room"); check.Good || !strings.Contains(check.Text, "MiB") {
				t.Errorf("%+v", check)
			}
		}
	})
	t.Run("ErrCancelled", func(t *testing.T) {
		m := able(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if checks, err := m.host().Preflight(ctx, m.volume(), 48<<20, ""); !errors.Is(err, context.Canceled) || checks != nil {
			t.Errorf("%v, %v", checks, err)
		}
	})
	t.Run("Order", func(t *testing.T) {
		m := able(t)
		checks, err := m.host().Preflight(t.Context(), m.volume(), 48<<20, "")
		m.check(err)
		var names []string
		for _, check := range checks {
			names = append(names, check.Name)
		}
		if want := []string{"root", "cryptsetup", "device mapper", "loop devices", "AES", "programs", "room", "device", "mount point"}; !slices.Equal(names, want) {
			t.Errorf("%q, want %q", names, want)
		}
	})
}

func missing(_ context.Context, c volume.Command) (volume.Output, error) {
	return volume.Output{}, errors.New(c.Args[0] + " is not installed")
}
