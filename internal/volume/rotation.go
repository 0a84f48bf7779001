package volume

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
)

// Rotation is an exchange of one role's key.
type Rotation struct {
	Role  Role
	Old   holdfast.Secret // zero: it is lost, and the header says which slot is its; Other vouches then
	New   holdfast.Secret
	Other holdfast.Secret // the other role's, proven to open before anything is removed
}

func (r Rotation) lost() bool { return r.Old.IsZero() }

// vouching is the passphrase that lets the new one in, and its slot.
func (r Rotation) vouching(old, other int) (holdfast.Secret, int) {
	if r.lost() {
		return r.Other, other
	}
	return r.Old, old
}

// RotateKey adds New, proves that it opens, proves Other anew, and then removes the slot of Old. Interrupted, the next one ends it: with the same New by
// going on, with another one by taking the unfinished key away first. One that had removed Old already wants the passphrase that replaced it as Old, or
// none: then what replaced the lost key is replaced itself. removed is the zero Slot if an earlier call had removed it. Errors wrap [ErrPassphrase] and
// [holdfast.ErrUsage].
//
// A header's backup from before opens the volume with Old still, for ever: only [Host.Reencrypt] ends that.
func (h Host) RotateKey(ctx context.Context, device string, r Rotation) (removed, added Slot, err error) {
	removed, added, err = h.rotate(ctx, device, r)
	if err != nil {
		return Slot{}, Slot{}, advise(fmt.Errorf("rotate the %s key of %s: %w", r.Role, device, err),
			"no key that was proven to open was lost; run it again with the same passphrases, it continues")
	}
	return removed, added, nil
}

func (h Host) rotate(ctx context.Context, device string, r Rotation) (removed, added Slot, err error) {
	if _, err := ParseRole(string(r.Role)); err != nil {
		return Slot{}, Slot{}, err
	}
	given := []holdfast.Secret{r.New, r.Other}
	if !r.lost() {
		given = append(given, r.Old)
	}
	if err := differ(given...); err != nil {
		return Slot{}, Slot{}, err
	}
	m, err := h.changeable(ctx, device)
	if err != nil {
		return Slot{}, Slot{}, err
	}
	if c := m.change; c != nil && (c.Replaces == nil || c.Role != r.Role) {
		return Slot{}, Slot{}, unfinished(*c)
	}
	other, err := h.Open(ctx, device, r.Other)
	if err == nil {
		err = m.hasRole(other, r.Role.other())
	}
	if err != nil {
		return Slot{}, Slot{}, fmt.Errorf("the passphrase of the %s key: %w", r.Role.other(), err)
	}
	from := anySlot
	if !r.lost() {
		if from, err = h.opens(ctx, device, r.Old); err != nil {
			return Slot{}, Slot{}, err
		}
	}
	to, err := h.opens(ctx, device, r.New)
	if err != nil {
		return Slot{}, Slot{}, err
	}
	if m.change != nil {
		if to == *m.change.Slot {
			return h.finish(ctx, device, m, r, other, r.New)
		}
		if m, err = h.beforeRotating(ctx, device, m, r, from, other); err != nil {
			return Slot{}, Slot{}, err
		}
	}
	if r.lost() {
		slot, some := m.Header.Slot(r.Role)
		if !some {
			return Slot{}, Slot{}, holdfast.WithHint(fmt.Errorf("%w: there is no %s key to replace", holdfast.ErrUsage, r.Role), "add one: `holdfast volume key add`")
		}
		from = slot.Number
	}
	if slot, there := m.slot(to); there {
		if slot.Role == r.Role && (from == anySlot || from == to && r.lost()) {
			// It was done, and the answer was lost.
			return Slot{}, slot, nil
		}
		return Slot{}, Slot{}, taken(to)
	}
	if from == anySlot {
		return Slot{}, Slot{}, fmt.Errorf("the passphrase of the present %s key: %w", r.Role, ErrPassphrase)
	}
	if err := m.hasRole(from, r.Role); err != nil {
		return Slot{}, Slot{}, fmt.Errorf("the passphrase of the present %s key: %w", r.Role, err)
	}
	with, by := r.vouching(from, other)
	if _, err = h.add(ctx, device, m, by, with, r.New, token{Role: r.Role, Replaces: &from}); err != nil {
		return Slot{}, Slot{}, err
	}
	if m, err = h.changeable(ctx, device); err != nil {
		return Slot{}, Slot{}, err
	}
	if m.change == nil {
		return Slot{}, Slot{}, errors.New("what was written into the header is not there")
	}
	return h.finish(ctx, device, m, r, other, r.New)
}

// beforeRotating makes an end of a rotation that was interrupted, for one that brings another passphrase. from is the slot of the old one, anySlot
// where that is lost or opens none.
func (h Host) beforeRotating(ctx context.Context, device string, m metadata, r Rotation, from, other int) (metadata, error) {
	n, gone := *m.change.Slot, *m.change.Replaces
	var err error
	switch {
	case r.lost() && !m.used[gone]:
		// The slot of the change is the only one of its role by now: it goes only when there is another.
		if err = h.named(ctx, device, n, r.Role); err == nil {
			_, err = h.ended(ctx, device, n)
		}
	case !r.lost() && from == n:
		// What was the new one is known by now, and is to go itself.
		_, _, err = h.finish(ctx, device, m, r, other, r.Old)
	case !r.lost() && from != gone:
		return m, fmt.Errorf("the passphrase of the present %s key: %w; a rotation was interrupted, and slot %d takes the one that it was to bring", r.Role, ErrPassphrase, n)
	default:
		_, err = h.undo(ctx, device, m, r.Other)
	}
	if err != nil {
		return m, err
	}
	return h.changeable(ctx, device)
}

// finish ends a rotation whose new slot is there: it gets its name and is proven, the other key is proven, and the old slot goes.
func (h Host) finish(ctx context.Context, device string, m metadata, r Rotation, other int, pass holdfast.Secret) (removed, added Slot, err error) {
	n, gone := *m.change.Slot, *m.change.Replaces
	removed, _ = m.slot(gone)
	if err := h.named(ctx, device, n, r.Role); err != nil {
		return Slot{}, Slot{}, err
	}
	if err := h.proven(ctx, device, pass, n); err != nil {
		return Slot{}, Slot{}, fmt.Errorf("prove the new key: %w", err)
	}
	if err := h.proven(ctx, device, r.Other, other); err != nil {
		return Slot{}, Slot{}, fmt.Errorf("prove the %s key: %w", r.Role.other(), err)
	}
	if m.used[gone] {
		if err := h.kill(ctx, device, gone, pass); err != nil {
			return Slot{}, Slot{}, err
		}
	}
	added, err = h.ended(ctx, device, n)
	return removed, added, err
}
