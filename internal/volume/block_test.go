package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/volume"
)

// blockDevice is a real one: a loop device. The rest of the machine is played.
func (m *machine) blockDevice() volume.Volume {
	m.t.Helper()
	v := m.volume()
	write(m.t, v.Device, "")
	m.check(os.Truncate(v.Device, 64<<20))
	out, err := exec.Command("losetup", "--find", "--show", v.Device).Output()
	if err != nil {
		m.t.Skipf("no loop devices: %v", err)
	}
	v.Device = strings.TrimSpace(string(out))
	m.t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", v.Device).CombinedOutput(); err != nil {
			m.t.Errorf("%v: %s", err, out)
		}
	})
	var stat unix.Stat_t
	m.check(unix.Stat(v.Device, &stat))
	write(m.t, fmt.Sprintf("%s/sys/dev/block/%d:%d/size", m.root, unix.Major(stat.Rdev), unix.Minor(stat.Rdev)), fmt.Sprintln(64<<20/512))
	return v
}

func (m *machine) blockCreation(v volume.Volume) volume.Creation {
	c := m.creation(v)
	c.Size = 0
	return c
}

func TestCreateOnBlockDevice(t *testing.T) {
	m := newMachine(t)
	v := m.blockDevice()
	c := m.blockCreation(v)
	t.Run("ErrSize", func(t *testing.T) {
		sized := c
		sized.Size = 48 << 20
		if _, err := m.host().Create(t.Context(), sized); !errors.Is(err, holdfast.ErrUsage) {
			t.Error(err)
		}
	})
	if out, err := exec.Command("mkfs.ext4", "-q", "-L", "precious", v.Device).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Run("ErrMounted", func(t *testing.T) {
		point := t.TempDir()
		m.check(unix.Mount(v.Device, point, "ext4", 0, ""))
		forced := c
		forced.Confirm = v.Name
		_, err := m.host().Create(t.Context(), forced)
		if !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), "the kernel holds it") || holdfast.Hint(err) == "" {
			t.Error(err)
		}
		m.check(unix.Unmount(point, 0))
	})
	t.Run("ErrSigned", func(t *testing.T) {
		_, err := m.host().Create(t.Context(), c)
		if !errors.Is(err, volume.ErrSigned) || !strings.Contains(err.Error(), `ext4 "precious"`) || !strings.Contains(holdfast.Hint(err), "--confirm pg-data") {
			t.Errorf("%v (%s)", err, holdfast.Hint(err))
		}
		if out, err := exec.Command("blkid", "-p", v.Device).Output(); err != nil || !strings.Contains(string(out), "precious") {
			t.Errorf("now it holds %s, %v", out, err)
		}
	})
	t.Run("ErrOfAnotherName", func(t *testing.T) {
		// A volume that is half made, but under another name, is somebody else's.
		other := c
		other.Volume.Name, other.Confirm = "other", "other"
		other.Backup = func(context.Context, string) error { return errors.New("the store is away") }
		if _, err := m.host().Create(t.Context(), other); err == nil || !strings.Contains(err.Error(), "the store is away") {
			t.Fatal(err)
		}
		if _, err := m.host().Create(t.Context(), c); !errors.Is(err, volume.ErrSigned) {
			t.Error(err)
		}
	})
	c.Confirm = v.Name
	c.Backup = func(context.Context, string) error { return errors.New("the store is away") }
	if _, err := m.host().Create(t.Context(), c); err == nil || !strings.Contains(err.Error(), "the store is away") {
		t.Fatal(err)
	}
	m.state(t, v, volume.Creating)
	if _, err := m.host().Unlock(t.Context(), v, operational); err == nil || !strings.Contains(err.Error(), "never finished") {
		t.Error(err)
	}
	// What is half made under this name needs no confirmation.
	if _, err := m.host().Create(t.Context(), m.blockCreation(v)); err != nil {
		t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
	m.state(t, v, volume.Mounted)
	settled(t, v.Device, 2)
	m.check(m.host().Lock(t.Context(), v))
	again := m.blockCreation(v)
	again.Recovery = fresh
	if _, err := m.host().Create(t.Context(), again); !errors.Is(err, volume.ErrSigned) {
		t.Errorf("a finished volume was made anew: %v", err)
	}
	if status := m.state(t, v, volume.Locked); status.Size != 64<<20 {
		t.Errorf("%+v", status)
	}
}

// Each step of one on a block device: killed there, the next makes it without a confirmation.
func TestCreateOnBlockDeviceInterrupted(t *testing.T) {
	for n := 1; ; n++ {
		m := newMachine(t)
		v := m.blockDevice()
		died := diesAt(m, m.blockCreation(v), n) != nil
		if _, err := m.host().Create(t.Context(), m.blockCreation(v)); err != nil {
			t.Errorf("after a kill before step %d: %v (%s)", n, err, holdfast.Hint(err))
		}
		m.state(t, v, volume.Mounted)
		settled(t, v.Device, 2)
		m.drop()
		if !died {
			if n < 10 {
				t.Errorf("it has only %d steps", n)
			}
			return
		}
	}
}
