package testbed

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// MountTmpfs makes dir, if it is missing, and mounts a filesystem in memory on it until the test ends or unmounts it; options
// are those of tmpfs(5). It needs root.
func MountTmpfs(t testing.TB, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
}
