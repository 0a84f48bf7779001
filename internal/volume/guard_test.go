package volume_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/volume"
)

func TestGuard(t *testing.T) {
	m := newMachine(t)
	v := m.volume()
	host := m.host()
	guarded := func(want bool) {
		t.Helper()
		if got, err := host.Guarded(v); err != nil || got != want {
			t.Errorf("guarded: %v, %v; want %v", got, err, want)
		}
	}
	guarded(false)
	m.check(host.Unguard(v))
	for range 2 {
		m.check(host.Guard(v))
		guarded(true)
	}
	// An entrypoint that would make a database there is root.
	for _, err := range []error{os.WriteFile(v.Mount+"/PG_VERSION", nil, 0o600), os.Mkdir(v.Mount+"/base", 0o700), os.Chown(v.Mount, 999, 999), os.Chmod(v.Mount, 0o700), os.Remove(v.Mount)} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("root could: %v", err)
		}
	}
	// Half of it is no guard, and is made whole.
	m.check(host.Unguard(v))
	guarded(false)
	m.check(errors.Join(os.Chown(v.Mount, 0, 0), os.Chmod(v.Mount, 0)))
	guarded(false)
	m.check(host.Guard(v))
	guarded(true)
	m.check(host.Unguard(v))
	write(t, v.Mount+"/PG_VERSION", "15")
	if err := host.Guard(v); err == nil || !strings.Contains(err.Error(), "holds files (PG_VERSION") || holdfast.Hint(err) == "" {
		t.Error(err)
	}
}

// Below a mounted volume the bare folder is seen, guarded and freed, and the volume's own root is left alone.
func TestGuardBelowMount(t *testing.T) {
	m := newMachine(t)
	v := m.made()
	host := m.host()
	root, err := os.Stat(v.Mount)
	m.check(err)
	for _, want := range []bool{false, true} {
		change := host.Unguard
		if want {
			change = host.Guard
		}
		m.check(change(v))
		if got, err := host.Guarded(v); err != nil || got != want {
			t.Errorf("guarded: %v, %v; want %v", got, err, want)
		}
	}
	after, err := os.Stat(v.Mount)
	m.check(err)
	if root.Mode() != after.Mode() || !os.SameFile(root, after) {
		t.Errorf("the root of the volume was %v, and is %v", root.Mode(), after.Mode())
	}
	m.check(host.Lock(t.Context(), v))
	if got, err := host.Guarded(v); err != nil || !got {
		t.Errorf("guarded: %v, %v", got, err)
	}
}

func TestGuardWithoutFlags(t *testing.T) {
	m := able(t)
	v := m.volume()
	dir := t.TempDir()
	if err := unix.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { m.check(unix.Unmount(dir, unix.MNT_DETACH)) })
	bad := v
	bad.Mount = dir + "/mnt"
	err := m.host().Guard(bad)
	if err == nil || !strings.Contains(err.Error(), "has no immutable folders") || !strings.Contains(holdfast.Hint(err), "ext4, xfs or btrfs") {
		t.Errorf("%v (%s)", err, holdfast.Hint(err))
	}
	m.check(os.Chmod(bad.Mount, 0))
	if guarded, err := m.host().Guarded(bad); err != nil || guarded {
		t.Errorf("a mode alone is no guard: %v, %v", guarded, err)
	}
	checks, err := m.host().Preflight(t.Context(), bad, 48<<20, "")
	m.check(err)
	if check := checkNamed(t, checks, "mount point"); check.Good || !strings.Contains(check.Text, "no immutable folders") {
		t.Errorf("%+v", check)
	}
}

func checkNamed(t *testing.T, checks []volume.Check, name string) volume.Check {
	t.Helper()
	for _, check := range checks {
		if check.Name == name {
			return check
		}
	}
	t.Fatalf("there is no check %q in %+v", name, checks)
	return volume.Check{}
}
