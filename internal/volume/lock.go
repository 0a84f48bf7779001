package volume

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
)

// Lock takes a volume down: it is unmounted, and its key leaves the kernel. What is locked already stays so. It ends nobody's work: errors
// wrap [ErrInUse], and an [*InUse] among them has who it is. An interrupted one is ended by the next.
func (h Host) Lock(ctx context.Context, v Volume) error {
	m, open, err := h.opened(v)
	if err != nil || !open {
		return err
	}
	if err := h.free(v, m); err != nil {
		return err
	}
	mounts, err := h.mounts()
	if err != nil {
		return err
	}
	point := realPath(v.Mount)
	if on, mounted := mountOn(mounts, point); mounted && on.dev == m.dev {
		h.step("unmount")
		if err := h.unmount(ctx, point); err != nil {
			return h.busy(v, m, err)
		}
	}
	h.step("close")
	if err := h.closeMapping(ctx, m.name); err != nil {
		return h.busy(v, m, err)
	}
	return nil
}

// opened finds the volume's mapping, and refuses one that is of another device.
func (h Host) opened(v Volume) (mapping, bool, error) {
	m, open, others, err := h.mappingOf(string(v.Name), v.Device)
	if err != nil {
		return m, false, err
	}
	if open && !h.liesOn(m.kernel, v.Device) {
		return m, false, holdfast.WithHint(fmt.Errorf("%s is open, but it is not %s", v.Name.Mapper(), v.Device), "look with: cryptsetup status "+string(v.Name))
	}
	for _, other := range others {
		if other.name != string(v.Name) && other.name != v.Name.creating() {
			return m, false, holdfast.WithHint(fmt.Errorf("%w: %s is open as /dev/mapper/%s", ErrInUse, v.Device, other.name), "close that one first: cryptsetup close "+other.name)
		}
	}
	return m, open, nil
}

// free refuses while somebody works on the volume.
func (h Host) free(v Volume, m mapping) error {
	users, err := h.users(v, m)
	if err != nil || len(users) == 0 {
		return err
	}
	return stopFirst(&InUse{v.Name, users})
}

func stopFirst(err error) error {
	return holdfast.WithHint(err, "stop them first, the database by its own command; nothing was changed")
}

// busy finds out whether a program failed because of users who came after the look.
func (h Host) busy(v Volume, m mapping, failed error) error {
	users, err := h.users(v, m)
	if err != nil || len(users) == 0 {
		return errors.Join(fmt.Errorf("lock volume %s: %w", v.Name, failed), err)
	}
	return holdfast.WithHint(fmt.Errorf("%w (%w)", &InUse{v.Name, users}, failed), "stop them first, then lock again: it goes on where it stopped")
}

func (h Host) closeMapping(ctx context.Context, name string) error {
	_, err := h.run(ctx, Command{Args: []string{"cryptsetup", "close", name}})
	return err
}
