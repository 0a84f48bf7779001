package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
)

const (
	cipher  = "aes-xts-plain64"
	keyBits = 512 // two keys of 256: of 256 bits XTS would make AES-128
)

// Creation is a volume to be made.
type Creation struct {
	Volume                Volume
	Size                  int64 // of the file, bytes; rounded up to a MiB. 0 for a block device, which is taken whole
	Operational, Recovery holdfast.Secret
	Confirm               Name // the volume's name, typed: what the device or file holds may be lost
	KDF                   KDF
	// Backup keeps a copy of the header away from this machine, before the volume is one: device is the header as it will be, as a file in
	// memory that [Host.BackupHeader] and [Host.Open] take. Required.
	Backup func(ctx context.Context, device string) error
}

// creating is the mapping of a volume that is being made, and the label of its header: no other volume can have that.
func (n Name) creating() string { return string(n) + ".creating" }

// unfinishedFile is where a volume in a file is made.
func (v Volume) unfinishedFile() string { return realPath(v.Device) + ".creating" }

// unfinished reports whether a header says that create never finished with it. The label says so from the format on, which is one write;
// the token says the same to who looks for it.
func (h Header) unfinished(name Name) bool {
	return h.Creating || h.Subsystem == subsystem && h.Label == name.creating()
}

// of reports whether a header is of this volume, finished or not.
func (h Header) of(name Name) bool {
	return h.Subsystem == subsystem && (h.Label == string(name) || h.Label == name.creating())
}

// own reads a header, and reports whether it says that it is of this volume, finished or not.
func (h Host) own(ctx context.Context, v Volume, path string) (Header, bool) {
	header, err := h.Header(ctx, path)
	return header, err == nil && header.of(v.Name)
}

// Create makes a volume, and leaves it mounted, with its data folder, over a guarded mount point. It wraps [ErrSigned] when the device or
// file holds something and Confirm has not its name, and [ErrInUse]. Each step may be the last: the next Create undoes what was begun and
// begins anew, and where the volume was whole already and both passphrases open it, it goes on from there. A file has its name only once
// it is whole; a block device says in its header that it is not.
func (h Host) Create(ctx context.Context, c Creation) (Header, error) {
	if err := c.check(); err != nil {
		return Header{}, err
	}
	isBlock, err := kindOf(c)
	if err != nil {
		return Header{}, err
	}
	if err := h.sweep(ctx, c.Volume, isBlock); err != nil {
		return Header{}, fmt.Errorf("undo what was begun of volume %s: %w", c.Volume.Name, err)
	}
	whole, err := h.whole(ctx, c)
	if err != nil {
		return Header{}, err
	}
	if !whole {
		if err := h.refuse(ctx, c, isBlock); err != nil {
			return Header{}, err
		}
		if err := h.make(ctx, c, isBlock); err != nil {
			return Header{}, h.giveUp(ctx, c.Volume, isBlock, err)
		}
	}
	h.step("guard the mount point")
	if err := h.Guard(c.Volume); err != nil {
		return Header{}, advise(fmt.Errorf("volume %s is made, but: %w", c.Volume.Name, err), "put that right, then run the same again")
	}
	if _, err := h.Unlock(ctx, c.Volume, c.Operational); err != nil {
		return Header{}, advise(fmt.Errorf("volume %s is made, but: %w", c.Volume.Name, err), "put that right, then unlock it")
	}
	return h.Header(ctx, c.Volume.Device)
}

func (c Creation) check() error {
	v := c.Volume
	if _, err := ParseName(string(v.Name)); err != nil {
		return err
	}
	usage := func(text, hint string) error {
		return holdfast.WithHint(fmt.Errorf("%w: %s", holdfast.ErrUsage, text), hint)
	}
	switch {
	case !filepath.IsAbs(v.Device) || !filepath.IsAbs(v.Mount):
		return usage("device and mount point of a volume are absolute paths", "write them from / on")
	case covers(filepath.Clean(v.Mount), filepath.Clean(v.Device)):
		return usage(fmt.Sprintf("%s is below its own mount point %s", v.Device, v.Mount), "put the file elsewhere")
	case v.Data == "" || !filepath.IsLocal(v.Data) || filepath.Clean(v.Data) == ".":
		return usage(fmt.Sprintf("%q is no folder on the volume", v.Data), "use a plain name such as pgdata: the root of a file system has lost+found, which initdb refuses")
	case v.filesystem() != Ext4 && v.filesystem() != XFS:
		return usage(fmt.Sprintf("%q is no file system for a volume", v.Filesystem), "use ext4 or xfs")
	case c.Confirm != "" && c.Confirm != v.Name:
		return usage(fmt.Sprintf("%q was typed, and the volume is %q", c.Confirm, v.Name), "type the volume's name")
	case c.Backup == nil:
		return errors.New("volume: Creation.Backup is required")
	}
	return differ(c.Operational, c.Recovery)
}

// kindOf finds out whether the device is a block device, and refuses what is neither that nor a file.
func kindOf(c Creation) (isBlock bool, err error) {
	info, err := os.Stat(c.Volume.Device)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if strings.HasPrefix(c.Volume.Device, "/dev/") {
			return false, holdfast.WithHint(err, "a file below /dev would be gone after the next start: check the name of the device")
		}
	case err != nil:
		return false, err
	case info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0:
		if c.Size != 0 {
			return false, holdfast.WithHint(fmt.Errorf("%w: a block device is taken whole", holdfast.ErrUsage), "leave the size out, or name a file")
		}
		return true, nil
	case !info.Mode().IsRegular():
		return false, holdfast.WithHint(fmt.Errorf("%w: %s is neither a file nor a block device", holdfast.ErrUsage, c.Volume.Device), "name a file that is to be made, or a block device")
	}
	if least := leastSize(c.Volume); c.Size < least {
		return false, holdfast.WithHint(fmt.Errorf("%w: a volume with %s has at least %d MiB, and %d bytes were asked for", holdfast.ErrUsage, c.Volume.filesystem(), least>>20, c.Size), "give a larger size")
	}
	return false, nil
}

// leastSize is the header and the smallest file system that mkfs makes with a journal.
func leastSize(v Volume) int64 {
	const header = 16 << 20
	if v.filesystem() == XFS {
		return header + 300<<20
	}
	return header + 32<<20
}

// whole reports whether the device is this volume already, finished, and both keys are the given ones: a create whose end was not seen.
func (h Host) whole(ctx context.Context, c Creation) (bool, error) {
	header, err := h.Header(ctx, c.Volume.Device)
	if errors.Is(err, ErrNotVolume) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if header.Subsystem != subsystem || header.Label != string(c.Volume.Name) || header.unfinished(c.Volume.Name) {
		return false, nil
	}
	for role, pass := range map[Role]holdfast.Secret{Operational: c.Operational, Recovery: c.Recovery} {
		slot, has := header.Slot(role)
		if !has {
			return false, nil
		}
		number, err := h.Open(ctx, c.Volume.Device, pass)
		if errors.Is(err, ErrPassphrase) || err == nil && number != slot.Number {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// refuse looks whether something would be lost.
func (h Host) refuse(ctx context.Context, c Creation, isBlock bool) error {
	v := c.Volume
	if err := h.checkFree(v, isBlock); err != nil {
		return err
	}
	mounts, err := h.mounts()
	if err != nil {
		return err
	}
	if on, mounted := mountOn(mounts, realPath(v.Mount)); mounted {
		return elsewhere(v, on)
	}
	names, err := bare(realPath(v.Mount))
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return covered(v, names)
	}
	held, err := h.held(ctx, v, isBlock)
	if err != nil || held == "" || c.Confirm == v.Name {
		return err
	}
	return holdfast.WithHint(fmt.Errorf("%s: %w: %s", v.Device, ErrSigned, held),
		"if nothing of that is needed, run it again with --confirm "+string(v.Name)+"; if it is this volume already: holdfast volume unlock "+string(v.Name))
}

// checkFree wraps [ErrInUse] when the device has a user.
func (h Host) checkFree(v Volume, isBlock bool) error {
	inUse := func(how string) error {
		return holdfast.WithHint(fmt.Errorf("%s is %w: %s", v.Device, ErrInUse, how), "name another device, or stop what uses it: lsblk shows it")
	}
	_, named, others, err := h.mappingOf(string(v.Name), v.Device)
	switch {
	case err != nil:
		return err
	case len(others) > 0:
		return inUse("it is open as /dev/mapper/" + others[0].name)
	case named:
		return holdfast.WithHint(fmt.Errorf("%s is open already, of another device", v.Name.Mapper()), "give the volume another name")
	}
	if !isBlock {
		if loops := h.loopsOf(v.Device, false); len(loops) > 0 {
			return inUse("/dev/" + loops[0] + " is its loop")
		}
		return nil
	}
	// The kernel knows best: mounts, swaps, RAID and LVM hold a device, and its partitions.
	fd, err := unix.Open(v.Device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return inUse("the kernel holds it")
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: v.Device, Err: err}
	}
	return unix.Close(fd)
}

// held says what a device or file has that would be lost; "": nothing.
func (h Host) held(ctx context.Context, v Volume, isBlock bool) (string, error) {
	info, err := os.Stat(v.Device)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !isBlock && info.Size() == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if isBlock {
		if header, own := h.own(ctx, v, v.Device); own && header.unfinished(v.Name) {
			return "", nil
		}
	}
	signatures, err := h.signatures(ctx, v.Device)
	switch {
	case err != nil:
		return "", err
	case len(signatures) > 0:
		return strings.Join(signatures, ", "), nil
	case !isBlock:
		return fmt.Sprintf("a file of %d bytes", info.Size()), nil
	}
	return "", nil
}

// signatures are what wipefs(8) finds: file systems, partition tables, parts of RAID and LVM, LUKS.
func (h Host) signatures(ctx context.Context, device string) ([]string, error) {
	out, err := h.run(ctx, Command{Args: []string{"wipefs", "--no-act", "--parsable", "--noheadings", "--output", "TYPE,LABEL", device}})
	if err != nil {
		return nil, fmt.Errorf("look for signatures on %s: %w", device, err)
	}
	var found []string
	for line := range strings.Lines(string(out.Stdout)) {
		kind, label, _ := strings.Cut(strings.TrimSpace(line), ",")
		if kind == "" || strings.HasPrefix(kind, "#") {
			continue
		}
		if label != "" {
			kind += fmt.Sprintf(" %q", label)
		}
		if !slices.Contains(found, kind) {
			found = append(found, kind)
		}
	}
	return found, nil
}
