package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

// Unlock opens a volume, checks its file system, mounts it and proves that it can be written. What is done already stays: a volume that is
// mounted is left alone, and the passphrase is not looked at. What fails is undone, so that a volume is mounted and writable or locked.
// Errors wrap [ErrPassphrase] and [ErrNotVolume]; a mount point that holds files, or another mount, is refused before anything is opened.
// A guard stays: mounting over an immutable folder works.
//
// slot is the one that the passphrase opened, also where something failed after that. It is -1 where the passphrase was not looked at, opened
// none, or cryptsetup did not say which.
func (h Host) Unlock(ctx context.Context, v Volume, pass holdfast.Secret) (slot int, err error) {
	slot = anySlot
	m, open, err := h.opened(v)
	if err != nil {
		return slot, err
	}
	mounts, err := h.mounts()
	if err != nil {
		return slot, err
	}
	point := realPath(v.Mount)
	if on, mounted := mountOn(mounts, point); mounted {
		if open && on.dev == m.dev {
			return slot, nil
		}
		return slot, elsewhere(v, on)
	}
	if err := makeFolder(point, 0o700); err != nil {
		return slot, fmt.Errorf("make the mount point: %w", err)
	}
	names, err := bare(point)
	if err != nil {
		return slot, err
	}
	if len(names) > 0 {
		return slot, covered(v, names)
	}
	if !open {
		if err := h.checkWhole(ctx, v); err != nil {
			return slot, err
		}
		h.step("open")
		if slot, err = h.openMapping(ctx, v.Device, string(v.Name), pass); err != nil {
			return slot, err
		}
	}
	if err := h.attach(ctx, v, point); err != nil {
		return slot, h.detach(ctx, v, point, err)
	}
	return slot, nil
}

// elsewhere is the refusal to mount where something is mounted.
func elsewhere(v Volume, on mount) error {
	return holdfast.WithHint(fmt.Errorf("something else is mounted at %s: %s on device %s", v.Mount, on.kind, on.dev), "unmount it, or give the volume another mount point")
}

// checkWhole refuses what create did not finish: nothing is on it yet, or not all.
func (h Host) checkWhole(ctx context.Context, v Volume) error {
	header, err := h.Header(ctx, v.Device)
	if err != nil {
		return err
	}
	if header.unfinished(v.Name) {
		return holdfast.WithHint(fmt.Errorf("volume %s was never finished", v.Name), "run `holdfast volume create` again: it begins anew")
	}
	return nil
}

// openMapping makes the device's mapping, and returns the slot that was opened for it, anySlot where that is not known.
func (h Host) openMapping(ctx context.Context, device, name string, pass holdfast.Secret) (slot int, err error) {
	slot, cut, err := h.unseal(ctx, pass, "open", "--type", "luks2", device, name)
	switch {
	case cut:
		err = errors.Join(err, h.takeDown(context.WithoutCancel(ctx), name, device))
	case err != nil && !errors.Is(err, ErrPassphrase):
		// Without device mapper cryptsetup does not come to look at the passphrase. A wrong one is to be known as that all the same.
		opened, tried := h.Open(ctx, device, pass)
		if errors.Is(tried, ErrPassphrase) {
			return anySlot, tried
		}
		if tried == nil {
			slot = opened
		}
	}
	if err != nil {
		return slot, advise(fmt.Errorf("open %s: %w", device, err), "look at the kernel's words: dmesg; a container needs the host's /dev/mapper and the right to use it")
	}
	return slot, nil
}

// attach checks, mounts and tries what is open.
func (h Host) attach(ctx context.Context, v Volume, point string) error {
	h.step("check the file system")
	if err := h.checkFilesystem(ctx, v, v.Name.Mapper()); err != nil {
		return err
	}
	h.step("mount")
	if err := h.mount(ctx, v, v.Name.Mapper(), point); err != nil {
		return advise(fmt.Errorf("mount volume %s: %w", v.Name, err), "look at the kernel's words: dmesg; a damaged file system needs fsck or xfs_repair by hand, or a restore")
	}
	m, _, err := h.opened(v)
	if err != nil {
		return err
	}
	mounts, err := h.mounts()
	if err != nil {
		return err
	}
	if on, mounted := mountOn(mounts, point); !mounted || on.dev != m.dev {
		return fmt.Errorf("mount volume %s: mount said that it was done, but the volume is not at %s", v.Name, v.Mount)
	}
	h.step("try to write")
	if err := checkWrites(point); err != nil {
		return holdfast.WithHint(fmt.Errorf("volume %s is mounted, but cannot be written: %w", v.Name, err), "look at the kernel's words: dmesg; a full or damaged disk makes the file system read-only")
	}
	return nil
}

// detach takes down what a failed unlock made. Also after an interruption, so not by its ctx.
func (h Host) detach(ctx context.Context, v Volume, point string, cause error) error {
	ctx = context.WithoutCancel(ctx)
	err := h.takeDown(ctx, string(v.Name), v.Device, point)
	if err == nil {
		return cause
	}
	return holdfast.WithHint(errors.Join(cause, fmt.Errorf("undo that: %w", err)), strings.TrimPrefix(holdfast.Hint(cause)+"; then run: holdfast volume lock "+string(v.Name), "; "))
}

// takeDown unmounts a mapping from the given places and closes it, if it lies on the device. What is not there is done.
func (h Host) takeDown(ctx context.Context, name, device string, points ...string) error {
	m, open, _, err := h.mappingOf(name, device)
	if err != nil || !open {
		return err
	}
	if !h.liesOn(m.kernel, device) {
		return holdfast.WithHint(fmt.Errorf("/dev/mapper/%s is open, but it is not of %s", name, device), "look with: cryptsetup status "+name)
	}
	for range deepest { // the same place may have it more than once
		mounts, err := h.mounts()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(points, func(point string) bool { on, mounted := mountOn(mounts, point); return mounted && on.dev == m.dev })
		if i < 0 {
			break
		}
		if err := h.unmount(ctx, points[i]); err != nil {
			return err
		}
	}
	return h.closeMapping(ctx, name)
}
