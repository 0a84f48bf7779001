package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
)

// make makes the volume up to the moment from which it is one.
func (h Host) make(ctx context.Context, c Creation, isBlock bool) error {
	v, raw := c.Volume, c.Volume.Device
	if isBlock {
		if err := h.format(ctx, c, raw); err != nil {
			return err
		}
	} else {
		raw = v.unfinishedFile()
		if err := h.makeFile(ctx, c, raw); err != nil {
			return err
		}
	}
	if err := h.addKeys(ctx, c, raw); err != nil {
		return err
	}
	if err := h.fill(ctx, c, raw, isBlock); err != nil {
		return err
	}
	if err := h.keepHeader(ctx, c, raw); err != nil {
		return err
	}
	if err := h.clearWork(v); err != nil {
		return err
	}
	h.step("mark it as finished")
	if err := h.markWhole(ctx, v, raw); err != nil {
		return err
	}
	if isBlock {
		return nil
	}
	h.step("give it its name")
	return c.commit(raw, realPath(v.Device))
}

// makeFile makes a file with a header in it. It has no name before it has one: whatever is found under that name was made here.
func (h Host) makeFile(ctx context.Context, c Creation, path string) (err error) {
	h.step("allocate " + Step(path))
	folder := filepath.Dir(path)
	fd, err := unix.Open(folder, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("make a file in %s: %w", folder, err), "the folder must be there, on a local file system that has files without a name (O_TMPFILE): ext4, xfs, btrfs, f2fs or tmpfs")
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { err = errors.Join(err, f.Close()) }()
	size := (c.Size + 1<<20 - 1) >> 20 << 20
	// Space is taken now: a sparse file would fail when the disk is full, and the database on it with it.
	if err := control(f, func(fd int) error { return unix.Fallocate(fd, 0, 0, size) }); err != nil {
		return holdfast.WithHint(fmt.Errorf("allocate %d MiB in %s: %w", size>>20, folder, err), "free space, or choose a smaller size or another folder; the file system must be able to reserve space (fallocate)")
	}
	// cryptsetup is another process: it gets at the file by this one's descriptor.
	if err := h.format(ctx, c, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)); err != nil {
		return err
	}
	h.step("give it the name " + Step(path))
	if err := f.Sync(); err != nil {
		return err
	}
	err = control(f, func(fd int) error {
		return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	})
	if err != nil {
		return &fs.PathError{Op: "link", Path: path, Err: err}
	}
	return nil
}

// format writes the header. Its label says in the same write that it is not finished.
func (h Host) format(ctx context.Context, c Creation, device string) error {
	kdf, err := h.kdf(c.KDF)
	if err != nil {
		return err
	}
	h.step("format")
	args := slices.Concat([]string{"cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--cipher", cipher, "--key-size", strconv.Itoa(keyBits),
		"--label", c.Volume.Name.creating(), "--subsystem", subsystem, "--key-slot", "0", "--key-file", SecretPath(0)}, kdf.args(), []string{device})
	if _, err := h.run(ctx, Command{Args: args, Secrets: []holdfast.Secret{c.Operational}}); err != nil {
		return advise(fmt.Errorf("format %s: %w", c.Volume.Device, err), "see what is wrong there, then run the same again")
	}
	h.step("mark it as unfinished")
	return h.importToken(ctx, device, creatingToken, token{State: stateCreating})
}

// addKeys gives the first slot its role, adds the second, and proves both.
func (h Host) addKeys(ctx context.Context, c Creation, raw string) error {
	h.step("name the operational key")
	m, err := h.metadata(ctx, raw)
	if err != nil {
		return err
	}
	if err := h.label(ctx, raw, m, 0, Operational); err != nil {
		return err
	}
	if _, err := h.AddKey(ctx, raw, c.Operational, c.Recovery, Recovery); err != nil {
		return err
	}
	return h.proven(ctx, raw, c.Operational, 0)
}

// workFolder is where a volume that is being made has its mount and the copy of its header. /run is memory, and is empty after a start.
func (h Host) workFolder(v Volume) string { return h.path("/run/holdfast-volume/" + string(v.Name)) }

func (h Host) workMount(v Volume) string  { return h.workFolder(v) + "/mount" }
func (h Host) headerCopy(v Volume) string { return h.workFolder(v) + "/header" }

func (h Host) clearWork(v Volume) error {
	for _, path := range []string{h.headerCopy(v), h.workMount(v), h.workFolder(v)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// fill makes the file system and the data folder, under a name and at a place that nobody waits for: a server that starts by itself must not
// find a half-made volume.
func (h Host) fill(ctx context.Context, c Creation, raw string, isBlock bool) error {
	v, name := c.Volume, c.Volume.Name.creating()
	h.step("open")
	if _, err := h.openMapping(ctx, raw, name, c.Operational); err != nil {
		return err
	}
	h.step(Step("make the file system " + v.filesystem()))
	if _, err := h.run(ctx, Command{Args: v.mkfs("/dev/mapper/"+name, isBlock)}); err != nil {
		return advise(err, "what mkfs says stands above; "+v.filesystem()+" may need a larger volume")
	}
	if err := os.MkdirAll(h.workMount(v), 0o700); err != nil {
		return err
	}
	h.step("mount it apart")
	if err := h.mount(ctx, v, "/dev/mapper/"+name, h.workMount(v)); err != nil {
		return err
	}
	h.step("make the data folder")
	if err := v.makeData(h.workMount(v)); err != nil {
		return err
	}
	h.step("unmount and close")
	return h.takeDown(ctx, name, raw, realPath(h.workMount(v)))
}

func (v Volume) mkfs(device string, isBlock bool) []string {
	if v.filesystem() == XFS {
		return []string{"mkfs.xfs", "-q", "-L", cut(string(v.Name), 12), device}
	}
	args := []string{"mkfs.ext4", "-q", "-L", cut(string(v.Name), 16)}
	if !isBlock {
		// Left for later, the tables are written in the background for minutes after the first mount, into blocks that the file has
		// only reserved: just when the copy of a migration is made and measured. On a large disk it would take too long to wait for.
		args = append(args, "-E", "lazy_itable_init=0,lazy_journal_init=0")
	}
	return append(args, device)
}

func cut(text string, most int) string { return text[:min(len(text), most)] }

// makeData makes the data folder below a mount, and has all of the file system on the disk.
func (v Volume) makeData(below string) (err error) {
	path, mode := filepath.Join(below, v.Data), v.Mode
	if mode == 0 {
		mode = 0o700
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := errors.Join(os.Chown(path, v.UID, v.GID), os.Chmod(path, mode)); err != nil {
		return err
	}
	dir, err := os.Open(below)
	if err != nil {
		return err
	}
	return errors.Join(control(dir, unix.Syncfs), dir.Close())
}

// keepHeader hands on a copy of the header as it will be. The volume's own still says that it is not finished, and who puts that one back some
// day would have a volume that create takes for its own leavings.
func (h Host) keepHeader(ctx context.Context, c Creation, raw string) error {
	file := h.headerCopy(c.Volume)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if _, err := h.BackupHeader(ctx, raw, file); err != nil {
		return err
	}
	err := h.markWhole(ctx, c.Volume, file)
	if err == nil {
		h.step("keep the header in the store")
		if err = c.Backup(ctx, file); err != nil {
			err = advise(fmt.Errorf("keep a copy of the header: %w", err), "a volume is not made without one: put that right, then run the same again")
		}
	}
	return errors.Join(err, os.Remove(file))
}

// markWhole gives a header its final label, and takes away what says that it is unfinished.
func (h Host) markWhole(ctx context.Context, v Volume, device string) error {
	if _, err := h.run(ctx, Command{Args: []string{"cryptsetup", "config", device, "--label", string(v.Name), "--subsystem", subsystem}}); err != nil {
		return err
	}
	return h.removeToken(ctx, device, creatingToken)
}

// commit gives the file its name. What came there meanwhile is not replaced unless that was asked for.
func (c Creation) commit(from, to string) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if info, err := os.Lstat(to); err == nil && (c.Confirm == c.Volume.Name || info.Mode().IsRegular() && info.Size() == 0) {
		flags = 0
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return durable.SyncDir(filepath.Dir(to))
}

// giveUp takes away what a failed create made. Also after an interruption, so not by its ctx.
func (h Host) giveUp(ctx context.Context, v Volume, isBlock bool, cause error) error {
	if err := h.sweep(context.WithoutCancel(ctx), v, isBlock); err != nil {
		return holdfast.WithHint(errors.Join(cause, fmt.Errorf("undo that: %w", err)), "put that right, then run the same again: it undoes what is left")
	}
	return cause
}

// sweep takes away what creates before left: the mapping with its mount, the copy of the header, and the file under its unfinished name. A block
// device keeps its header, which says that it is unfinished. It touches only what says itself that it is of this volume's creation.
func (h Host) sweep(ctx context.Context, v Volume, isBlock bool) error {
	raw := v.Device
	if !isBlock {
		raw = v.unfinishedFile()
	}
	if err := h.takeDown(ctx, v.Name.creating(), raw, realPath(h.workMount(v))); err != nil {
		return err
	}
	if err := h.clearWork(v); err != nil {
		return err
	}
	if isBlock {
		return nil
	}
	if _, err := os.Lstat(raw); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	header, err := h.Header(ctx, raw)
	if err == nil && header.of(v.Name) {
		return os.Remove(raw)
	}
	if err != nil && !errors.Is(err, ErrNotVolume) {
		return err
	}
	return holdfast.WithHint(fmt.Errorf("%s: %w, and it is not of an unfinished volume %s", raw, ErrSigned, v.Name), "move it away: that name is where the volume is made")
}
