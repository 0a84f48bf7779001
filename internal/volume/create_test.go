package volume_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/testbed"
	"holdfast/internal/volume"
)

// whole fails the test unless the volume is there with its keys, mounted, guarded, with its data folder, and nothing is left of its making.
func (m *machine) whole(t *testing.T, v volume.Volume) {
	t.Helper()
	status, err := m.host().Status(t.Context(), v)
	if err != nil || status.State != volume.Mounted || !status.Guarded || status.Detail != "" {
		t.Errorf("status %+v, %v", status, err)
	}
	h := status.Header
	if h.Label != "pg-data" || h.Subsystem != "holdfast" || h.Creating || h.Cipher != "aes-xts-plain64" || h.KeyBits != 512 {
		t.Errorf("header %+v", h)
	}
	settled(t, v.Device, 2)
	if got := opened(t, v.Device, operational, recovery, wrong); !slices.Equal(got, []string{"0 operational", "1 recovery", "none"}) {
		t.Errorf("the keys open %q", got)
	}
	info, err := os.Stat(v.DataPath())
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("data folder: %v, %v", info, err)
	}
	m.nothingLeft(t, v, "mnt point", filepath.Base(v.Device))
}

func (m *machine) nothingLeft(t *testing.T, v volume.Volume, but ...string) {
	t.Helper()
	var names []string
	for _, dir := range []string{filepath.Dir(v.Device), m.root + "/run/holdfast-volume"} {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
	}
	// An empty mount point harms nobody.
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(but, name) || name == "mnt point" })
	if len(names) > 0 || m.mapped["pg-data.creating"] != "" || slices.ContainsFunc(m.mounts, func(p played) bool { return p.mapping == "pg-data.creating" }) {
		t.Errorf("left: %q, mapped %v, mounted %v", names, m.mapped, m.mounts)
	}
}

func TestCreate(t *testing.T) {
	m := newMachine(t)
	v := m.volume()
	c := m.creation(v)
	kept := 0
	c.Backup = func(ctx context.Context, device string) error {
		kept++
		if _, err := os.Stat(v.Device); err == nil {
			t.Error("the volume has its name before its header is kept")
		}
		header, err := m.host().BackupHeader(ctx, device, filepath.Join(t.TempDir(), "copy"))
		if err != nil || header.Creating || header.Label != "pg-data" || len(header.Slots) != 2 || header.Slots[1].Role != volume.Recovery {
			t.Errorf("what is kept says %+v, %v", header, err)
		}
		for _, pass := range []holdfast.Secret{operational, recovery} {
			if _, err := m.host().Open(ctx, device, pass); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	header, err := m.host().Create(t.Context(), c)
	if err != nil || kept != 1 || header.Label != "pg-data" {
		t.Fatalf("%+v, %v; header kept %d times", header, err, kept)
	}
	m.whole(t, v)
	info, err := os.Stat(v.Device)
	if err != nil || info.Size() != c.Size || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, line := range m.ran() {
		if strings.Contains(line, marker) {
			t.Errorf("a passphrase is an argument: %s", line)
		}
		if strings.HasPrefix(line, "mount ") && !strings.Contains(line, "-o nodev,nosuid,noexec,errors=remount-ro ") {
			t.Errorf("ran %s", line)
		}
	}
	if !slices.ContainsFunc(m.ran(), func(line string) bool {
		return strings.HasPrefix(line, "mkfs.ext4 ") && strings.Contains(line, "lazy_itable_init=0") && strings.Contains(line, "-L pg-data ")
	}) {
		t.Errorf("ran %q", m.ran())
	}

	t.Run("ErrAgainWithOtherKeys", func(t *testing.T) {
		again := c
		again.Recovery = fresh
		m.check(m.host().Lock(t.Context(), v))
		_, err := m.host().Create(t.Context(), again)
		if !errors.Is(err, volume.ErrSigned) || !strings.Contains(holdfast.Hint(err), "--confirm pg-data") || !strings.Contains(holdfast.Hint(err), "volume unlock pg-data") {
			t.Errorf("%v (%s)", err, holdfast.Hint(err))
		}
	})
	t.Run("AgainWithTheSameKeys", func(t *testing.T) {
		m.check(m.host().Unguard(v))
		if _, err := m.host().Create(t.Context(), c); err != nil || kept != 1 {
			t.Errorf("%v; header kept %d times", err, kept)
		}
		m.whole(t, v)
	})
	t.Run("ErrOpen", func(t *testing.T) {
		again := c
		again.Recovery, again.Confirm = fresh, v.Name
		if _, err := m.host().Create(t.Context(), again); !errors.Is(err, volume.ErrInUse) {
			t.Error(err)
		}
		m.whole(t, v)
	})
	t.Run("Confirmed", func(t *testing.T) {
		m.check(m.host().Lock(t.Context(), v))
		again := c
		again.Confirm, again.Recovery = v.Name, fresh
		again.Backup = func(context.Context, string) error { return nil }
		if _, err := m.host().Create(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if got := opened(t, v.Device, recovery, fresh); !slices.Equal(got, []string{"none", "1 recovery"}) {
			t.Errorf("the keys open %q", got)
		}
	})
}

// Whatever command of create fails, is killed or has its answer lost: what failed leaves nothing, and the next create makes the volume. A panic in
// Step is a kill of holdfast itself: nothing is undone then.
func TestCreateInterrupted(t *testing.T) {
	m := newMachine(t)
	steps, host := 0, m.host()
	host.Step = func(volume.Step) { steps++ }
	if _, err := host.Create(t.Context(), m.creation(m.volume())); err != nil {
		t.Fatal(err)
	}
	// Commands that only look leave what was before them: one of each kind is enough.
	changing, looking := []int{}, map[string]int{}
	for i, action := range m.actions() {
		switch action {
		case "cryptsetup luksDump", "cryptsetup luksOpen":
			looking[action] = i + 1
		default:
			changing = append(changing, i+1)
		}
	}
	if len(changing) < 14 || len(looking) != 2 || steps < 14 {
		t.Fatalf("create has %d commands that change something, %d that look, and %d steps", len(changing), len(looking), steps)
	}
	command := func(how func() fault) func(*machine, volume.Creation, int) error {
		return func(m *machine, c volume.Creation, n int) error {
			m.fail(n, how())
			_, err := m.host().Create(m.t.Context(), c)
			return err
		}
	}
	var all []int
	for i := range steps {
		all = append(all, i+1)
	}
	// Killed before a command is like an answer that was lost of the one before it, but for what is said: not each needs a try.
	var third []int
	for i := 0; i < len(changing); i += 3 {
		third = append(third, changing[i])
	}
	for _, interrupted := range []struct {
		name string
		at   []int
		by   func(m *machine, c volume.Creation, n int) error
	}{
		{"killed", third, command(killed)},
		{"lost", changing, command(lost)},
		{"exits", []int{looking["cryptsetup luksDump"], looking["cryptsetup luksOpen"], changing[0], changing[len(changing)/2]}, command(func() fault { return exits(1) })},
		{"cancelled", []int{1, steps / 3, steps / 2, steps - 3}, cancelledAt},
		{"dies", all, diesAt},
	} {
		for _, n := range interrupted.at {
			t.Run(fmt.Sprintf("%s/%d", interrupted.name, n), func(t *testing.T) {
				m := newMachine(t)
				v := m.volume()
				c := m.creation(v)
				err := interrupted.by(m, c, n)
				// Where the answer of the last umount or mount is lost, all is there.
				if err == nil && interrupted.name != "lost" {
					t.Error("nothing failed")
				}
				if strings.Contains(fmt.Sprint(err, holdfast.Hint(err)), marker) {
					t.Errorf("a passphrase is in %v", err)
				}
				if interrupted.name != "dies" {
					m.nothingLeft(t, v, filepath.Base(v.Device))
				}
				clear(m.faults)
				if _, err := m.host().Create(t.Context(), c); err != nil {
					t.Fatalf("the next create: %v (%s), after %v; ran %q", err, holdfast.Hint(err), err, m.actions())
				}
				m.whole(t, v)
			})
		}
	}
}

func cancelledAt(m *machine, c volume.Creation, n int) error {
	ctx, cancel := context.WithCancelCause(m.t.Context())
	host, step := m.host(), 0
	host.Step = func(volume.Step) {
		if step++; step == n {
			cancel(holdfast.ErrInterrupted)
		}
	}
	_, err := host.Create(ctx, c)
	return err
}

func diesAt(m *machine, c volume.Creation, n int) (err error) {
	host, step := m.host(), 0
	host.Step = func(volume.Step) {
		if step++; step == n {
			panic(errKilled)
		}
	}
	defer func() {
		if recover() != nil {
			err = errKilled
		}
	}()
	_, err = host.Create(m.t.Context(), c)
	return err
}

func TestCreateRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(m *machine, c *volume.Creation)
		is     error
		want   string
	}{
		{name: "one passphrase", change: func(_ *machine, c *volume.Creation) { c.Recovery = c.Operational }, is: holdfast.ErrUsage, want: "are the same"},
		{name: "no recovery passphrase", change: func(_ *machine, c *volume.Creation) { c.Recovery = holdfast.Secret{} }, is: holdfast.ErrUsage, want: "is empty"},
		{name: "a bad name", change: func(_ *machine, c *volume.Creation) { c.Volume.Name = "../x" }, is: holdfast.ErrUsage, want: "no name of a volume"},
		{name: "relative", change: func(_ *machine, c *volume.Creation) { c.Volume.Device = "x" }, is: holdfast.ErrUsage, want: "absolute"},
		{name: "below itself", change: func(_ *machine, c *volume.Creation) { c.Volume.Device = c.Volume.Mount + "/x" }, is: holdfast.ErrUsage, want: "below its own mount point"},
		{name: "data outside", change: func(_ *machine, c *volume.Creation) { c.Volume.Data = "../x" }, is: holdfast.ErrUsage, want: "no folder on the volume"},
		{name: "data in the root", change: func(_ *machine, c *volume.Creation) { c.Volume.Data = "." }, is: holdfast.ErrUsage, want: "no folder on the volume"},
		{name: "another file system", change: func(_ *machine, c *volume.Creation) { c.Volume.Filesystem = "btrfs" }, is: holdfast.ErrUsage, want: "no file system for a volume"},
		{name: "another name typed", change: func(_ *machine, c *volume.Creation) { c.Confirm = "pg-date" }, is: holdfast.ErrUsage, want: "was typed"},
		{name: "too small", change: func(_ *machine, c *volume.Creation) { c.Size = 20 << 20 }, is: holdfast.ErrUsage, want: "at least 48 MiB"},
		{name: "too small for xfs", change: func(_ *machine, c *volume.Creation) { c.Volume.Filesystem, c.Size = volume.XFS, 300<<20 }, is: holdfast.ErrUsage, want: "at least 316 MiB"},
		{name: "a device that is not there", change: func(_ *machine, c *volume.Creation) { c.Volume.Device = "/dev/no-such-disk" }, is: os.ErrNotExist},
		{name: "a folder", change: func(m *machine, c *volume.Creation) { c.Volume.Device = m.t.TempDir() }, is: holdfast.ErrUsage, want: "neither a file nor a block device"},
		{name: "a folder that is missing", change: func(_ *machine, c *volume.Creation) { c.Volume.Device += ".d/x" }, want: "no such file"},
		{name: "no room", change: func(m *machine, c *volume.Creation) {
			dir := m.t.TempDir()
			testbed.MountTmpfs(m.t, dir, "size=20M")
			c.Volume.Device = dir + "/x"
		}, want: "allocate 48 MiB"},
		{name: "a file with something", change: func(m *machine, c *volume.Creation) { write(m.t, c.Volume.Device, "precious") }, is: volume.ErrSigned, want: "a file of 8 bytes"},
		{name: "somebody's file with the unfinished name", change: func(m *machine, c *volume.Creation) { write(m.t, c.Volume.Device+".creating", "precious") }, is: volume.ErrSigned},
		{name: "the same, confirmed", change: func(m *machine, c *volume.Creation) {
			write(m.t, c.Volume.Device+".creating", "precious")
			c.Confirm = c.Volume.Name
		}, is: volume.ErrSigned},
		{name: "a mount point with files", change: func(m *machine, c *volume.Creation) {
			m.check(os.MkdirAll(c.Volume.Mount, 0o755))
			write(m.t, c.Volume.Mount+"/PG_VERSION", "15")
		}, want: "holds files (PG_VERSION, 1 in all)"},
		{name: "a mount point with a mount", change: func(m *machine, c *volume.Creation) {
			m.check(os.MkdirAll(c.Volume.Mount, 0o755))
			m.mounts = append(m.mounts, played{point: c.Volume.Mount, mapping: "x", dev: "8:9"})
			m.tell()
		}, want: "something else is mounted"},
		{name: "a file with a loop", change: func(m *machine, c *volume.Creation) {
			write(m.t, c.Volume.Device, "")
			m.device("loop7", map[string]string{"loop/backing_file": c.Volume.Device, "dev": "7:7"})
		}, is: volume.ErrInUse, want: "loop7"},
		{name: "a name that is taken", change: func(m *machine, _ *volume.Creation) {
			m.device("dm-9", map[string]string{"dm/name": "pg-data", "dm/uuid": "CRYPT-PLAIN-pg-data", "dev": "253:9", "slaves/sdz": ""})
		}, want: "is open already, of another device"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			c := m.creation(m.volume())
			test.change(m, &c)
			before := tree(t, filepath.Dir(c.Volume.Device))
			_, err := m.host().Create(t.Context(), c)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) || holdfast.Hint(err) == "" {
				t.Errorf("%v (%s)", err, holdfast.Hint(err))
			}
			if after := tree(t, filepath.Dir(c.Volume.Device)); after != before {
				t.Errorf("there was\n%s\nand is\n%s", before, after)
			}
			if i := slices.IndexFunc(m.ran(), func(line string) bool { return strings.Contains(line, "luksFormat") }); i >= 0 {
				t.Errorf("ran %s", m.ran()[i])
			}
		})
	}
}

// What backs the header up fails: no volume without it.
func TestCreateWithoutHeaderBackup(t *testing.T) {
	m := newMachine(t)
	v := m.volume()
	c := m.creation(v)
	c.Backup = func(context.Context, string) error { return errors.New("the store is away") }
	_, err := m.host().Create(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "the store is away") || holdfast.Hint(err) == "" {
		t.Errorf("%v (%s)", err, holdfast.Hint(err))
	}
	m.nothingLeft(t, v)
}

// tree is what a folder has, with the files' contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		var text []byte
		if entry.Type().IsRegular() { // /dev has what hangs
			text, _ = os.ReadFile(filepath.Join(dir, entry.Name()))
		}
		lines = append(lines, fmt.Sprintf("%s %q", entry.Name(), text))
	}
	return strings.Join(lines, "\n")
}
