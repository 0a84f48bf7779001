//go:build machine

package volume_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/volume"
)

// These tests are for the virtual machine, which runs this package's test program, built with this tag.

func realHost() volume.Host { return volume.Host{Now: time.Now} }

func realVolume(t *testing.T, filesystem string) (volume.Volume, volume.Creation) {
	t.Helper()
	dir := t.TempDir()
	v := volume.Volume{
		Name: "pg-data", Device: filepath.Join(dir, "pg-data.luks"), Mount: filepath.Join(dir, "mnt"),
		Filesystem: filesystem, UID: 999, GID: 998, Mode: 0o700, Data: "pgdata",
	}
	t.Cleanup(func() {
		host := realHost()
		if err := errors.Join(host.Lock(context.Background(), v), host.Unguard(v)); err != nil {
			t.Error(err)
		}
	})
	size := int64(96 << 20)
	if filesystem == volume.XFS {
		size = 340 << 20
	}
	return v, volume.Creation{
		Volume: v, Size: size, Operational: operational, Recovery: recovery, KDF: volume.KDF{MemoryKiB: 1024, Iterations: 4, Lanes: 1},
		Backup: func(ctx context.Context, device string) error {
			header, err := realHost().Header(ctx, device)
			if err == nil && (header.Creating || header.Label != "pg-data" || len(header.Slots) != 2) {
				err = fmt.Errorf("header %+v", header)
			}
			return err
		},
	}
}

// On ext4 the program's own tests do the same: cmd/holdfast.
func TestKernel(t *testing.T) {
	for _, filesystem := range []string{volume.XFS} {
		t.Run(filesystem, func(t *testing.T) {
			host := realHost()
			v, c := realVolume(t, filesystem)
			checks, err := host.Preflight(t.Context(), v, c.Size, c.Confirm)
			if err != nil {
				t.Fatal(err)
			}
			for _, check := range checks {
				t.Logf("%s: %v %v: %s", check.Name, check.Good, check.Warns, check.Text)
				if !check.Good && !check.Warns {
					t.Errorf("preflight: %+v", check)
				}
			}
			if _, err := host.Create(t.Context(), c); err != nil {
				t.Fatalf("%v (%s)", err, holdfast.Hint(err))
			}
			wantState(t, v, volume.Mounted)
			if slot, err := host.Unlock(t.Context(), v, wrong); err != nil || slot != -1 {
				t.Errorf("a mounted volume is left alone: slot %d, %v", slot, err)
			}
			if mounted, err := host.Mounted(v); err != nil || !mounted {
				t.Errorf("mounted: %t, %v", mounted, err)
			}
			if err := os.WriteFile(filepath.Join(v.DataPath(), "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, full := range []bool{false, true} {
				checks, err := host.Verify(t.Context(), v, map[volume.Role]holdfast.Secret{volume.Operational: operational, volume.Recovery: recovery}, full)
				if err != nil {
					t.Fatal(err)
				}
				for _, check := range checks {
					t.Logf("%s: %s", check.Name, check.Text)
					if !check.Good {
						t.Errorf("verify: %+v", check)
					}
				}
			}
			before, err := host.Counters(v)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(v.Mount, "load"), make([]byte, 8<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			unix.Sync()
			after, err := host.Counters(v)
			if load := after.Since(before); err != nil || load.Span <= 0 || after.Requests <= before.Requests {
				t.Errorf("load %+v, %v", load, err)
			}
			busyKernel(t, host, v)
			if err := host.Lock(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			wantState(t, v, volume.Locked)
			if err := os.WriteFile(v.Mount+"/PG_VERSION", nil, 0o600); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("root wrote to the guarded mount point: %v", err)
			}
			if mounted, err := host.Mounted(v); err != nil || mounted {
				t.Errorf("locked: %t, %v", mounted, err)
			}
			if slot, err := host.Unlock(t.Context(), v, wrong); !errors.Is(err, volume.ErrPassphrase) || slot != -1 {
				t.Errorf("a wrong passphrase: slot %d, %v", slot, err)
			}
			wantState(t, v, volume.Locked)
			if slot, err := host.Unlock(t.Context(), v, recovery); err != nil || slot != 1 {
				t.Fatalf("slot %d, %v", slot, err)
			}
			if text, err := os.ReadFile(filepath.Join(v.DataPath(), "PG_VERSION")); err != nil || string(text) != "15\n" {
				t.Errorf("after it was locked: %q, %v", text, err)
			}
		})
	}
}

func wantState(t *testing.T, v volume.Volume, want volume.State) {
	t.Helper()
	status, err := realHost().Status(t.Context(), v)
	if err != nil || status.State != want || !status.Guarded || status.Detail != "" || status.Size == 0 {
		t.Errorf("status %+v, %v; want %s", status, err, want)
	}
}

// busyKernel uses the volume in each way that keeps it from being locked.
func busyKernel(t *testing.T, host volume.Host, v volume.Volume) {
	t.Helper()
	refused := func(how, want string) {
		t.Helper()
		err := host.Lock(t.Context(), v)
		if use := (*volume.InUse)(nil); !errors.Is(err, volume.ErrInUse) || !errors.As(err, &use) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: lock says %v, want %q", how, err, want)
		}
		if status, err := host.Status(t.Context(), v); err != nil || status.State != volume.Mounted {
			t.Errorf("%s: after a refusal: %+v, %v", how, status, err)
		}
	}
	f, err := os.Open(filepath.Join(v.DataPath(), "PG_VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	refused("an open file", "PG_VERSION open")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "600")
	sleeper.Dir = v.Mount
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	refused("a working folder", fmt.Sprintf("process %d (sleep of ", sleeper.Process.Pid))
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	other := filepath.Join(filepath.Dir(v.Mount), "bind")
	if err := errors.Join(os.MkdirAll(other, 0o700), unix.Mount(v.Mount, other, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	refused("a bind mount", other)
	if err := unix.Unmount(other, 0); err != nil {
		t.Fatal(err)
	}
	// A container: a mount namespace of its own, without propagation.
	container := exec.Command("unshare", "--mount", "--propagation", "private", "sleep", "600")
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	awaitNamespace(t, container.Process.Pid)
	refused("a container", "keeps it mounted")
	_ = container.Process.Kill()
	_ = container.Wait()
}

// awaitNamespace waits until a process has a mount namespace of its own and runs its program.
func awaitNamespace(t *testing.T, pid int) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for range 10000 {
		other, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		name, nameErr := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil && nameErr == nil && other != own && string(name) == "sleep\n" {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("unshare does not start")
}

// A create that was killed while it had something open or mounted: the kernel still has that, and the next create must come to the end. What is
// killed at the other steps leaves files alone, which needs no kernel.
func TestKernelInterrupted(t *testing.T) {
	for _, at := range []volume.Step{"make the data folder", "try to write"} {
		t.Run(string(at), func(t *testing.T) {
			host := realHost()
			v, c := realVolume(t, volume.Ext4)
			host.Step = func(s volume.Step) {
				if s == at {
					panic(errKilled)
				}
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("it was not killed")
					}
				}()
				_, _ = host.Create(t.Context(), c)
			}()
			if _, err := realHost().Create(t.Context(), c); err != nil {
				t.Fatalf("the next create: %v", err)
			}
			wantState(t, v, volume.Mounted)
			if err := realHost().Lock(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(filepath.Dir(v.Device))
			if err != nil || len(entries) != 2 {
				t.Errorf("there are %v, %v", entries, err)
			}
			if mappings, err := filepath.Glob("/dev/mapper/pg-data*"); err != nil || len(mappings) > 0 {
				t.Errorf("mapped: %q, %v", mappings, err)
			}
		})
	}
}
