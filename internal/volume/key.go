package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"holdfast"
)

// AddKey adds a key for a role that has none, let in by a passphrase that opens, at the cost of that one's slot. Interrupted, the same call ends
// what was begun; with another passphrase it takes the unfinished key away first. Errors wrap [ErrPassphrase], and [holdfast.ErrUsage] for a
// role that has a key and for a passphrase that opens the volume already.
func (h Host) AddKey(ctx context.Context, device string, with, pass holdfast.Secret, role Role) (Slot, error) {
	fail := func(err error) (Slot, error) {
		return Slot{}, advise(fmt.Errorf("add the %s key of %s: %w", role, device, err), "the keys that were there still open it; run it again, it continues")
	}
	if _, err := ParseRole(string(role)); err != nil {
		return fail(err)
	}
	if err := differ(with, pass); err != nil {
		return fail(err)
	}
	m, err := h.changeable(ctx, device)
	if err != nil {
		return fail(err)
	}
	if m.change != nil && m.change.Replaces != nil {
		return fail(unfinished(*m.change))
	}
	if i := slices.IndexFunc(m.Slots, func(s Slot) bool { return s.Role == role && !m.pending(s.Number) }); i >= 0 {
		return fail(holdfast.WithHint(fmt.Errorf("%w: slot %d has the %s key already, and a role has one", holdfast.ErrUsage, m.Slots[i].Number, role), "`holdfast volume key rotate` replaces it"))
	}
	by, err := h.Open(ctx, device, with)
	if err != nil {
		return fail(err)
	}
	opened, err := h.opens(ctx, device, pass)
	if err != nil {
		return fail(err)
	}
	if m.change != nil && opened == *m.change.Slot {
		if m.change.Role != role {
			return fail(unfinished(*m.change))
		}
	} else {
		if opened != anySlot {
			return fail(taken(opened))
		}
		if m.change != nil {
			if m, err = h.beforeAdding(ctx, device, m, role, with, by); err != nil {
				return fail(err)
			}
		}
		if opened, err = h.add(ctx, device, m, by, with, pass, token{Role: role}); err != nil {
			return fail(err)
		}
	}
	if err := h.named(ctx, device, opened, role); err != nil {
		return fail(err)
	}
	if err := h.proven(ctx, device, pass, opened); err != nil {
		return fail(err)
	}
	slot, err := h.ended(ctx, device, opened)
	if err != nil {
		return fail(err)
	}
	return slot, nil
}

// beforeAdding makes an end of an addition that was interrupted, for one of another key. A slot of another role that has its name stays: it may be
// in use. All else goes.
func (h Host) beforeAdding(ctx context.Context, device string, m metadata, role Role, with holdfast.Secret, by int) (metadata, error) {
	slot := *m.change.Slot
	if _, isNamed := m.tokenOf(slot); isNamed && m.change.Role != role {
		if _, err := h.ended(ctx, device, slot); err != nil {
			return m, err
		}
		return h.metadata(ctx, device)
	}
	if by == slot {
		return m, unfinished(*m.change)
	}
	return h.undo(ctx, device, m, with)
}

// RemoveKey removes a slot. It refuses the last one of a role, any that would leave fewer than two, and a passphrase that opens no slot that stays.
// A slot whose passphrase is not known, because adding it was interrupted, counts for nothing that stays. Errors wrap [ErrPassphrase] and
// [holdfast.ErrUsage].
func (h Host) RemoveKey(ctx context.Context, device string, slot int, with holdfast.Secret) error {
	if err := h.remove(ctx, device, slot, with); err != nil {
		return advise(fmt.Errorf("remove key slot %d of %s: %w", slot, device, err), "the other keys still open it; run it again")
	}
	return nil
}

func (h Host) remove(ctx context.Context, device string, slot int, with holdfast.Secret) error {
	m, err := h.changeable(ctx, device)
	if err != nil {
		return err
	}
	going, found := m.slot(slot)
	if !found {
		return holdfast.WithHint(fmt.Errorf("%w: it has no such slot", holdfast.ErrUsage), "`holdfast volume key list` shows the slots")
	}
	staying := slices.DeleteFunc(slices.Clone(m.Slots), func(s Slot) bool { return s.Number == slot || m.pending(s.Number) })
	switch {
	case len(staying) < 2:
		return holdfast.WithHint(fmt.Errorf("%w: a volume keeps two keys at every moment, and %d would stay", holdfast.ErrUsage, len(staying)),
			"add another key first, or rotate this one")
	case going.Role != "" && !slices.ContainsFunc(staying, func(s Slot) bool { return s.Role == going.Role }):
		return holdfast.WithHint(fmt.Errorf("%w: it is the last %s key", holdfast.ErrUsage, going.Role), "add another one first, or rotate this one")
	}
	by, err := h.Open(ctx, device, with)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(staying, func(s Slot) bool { return s.Number == by }) {
		return holdfast.WithHint(fmt.Errorf("%w that stays: it opens slot %d", ErrPassphrase, by), "give the passphrase of another key, which proves that it opens")
	}
	if err := h.kill(ctx, device, slot, with); err != nil {
		return err
	}
	// What a removed slot leaves in the header must not keep the next change from it.
	if m, err = h.metadata(ctx, device); err != nil {
		return err
	}
	if m, err = h.forgetChange(ctx, device, m); err != nil {
		return err
	}
	return h.removeStale(ctx, device, m)
}

// changeable reads a header whose keys can be changed.
func (h Host) changeable(ctx context.Context, device string) (metadata, error) {
	m, err := h.metadata(ctx, device)
	if err != nil {
		return m, err
	}
	if m.Reencrypting {
		return m, holdfast.WithHint(errors.New("the exchange of its volume key is not finished"), "run `holdfast volume reencrypt` to its end first")
	}
	return h.forgetChange(ctx, device, m)
}

// forgetChange takes out of the header what stands there of a change that came to nothing: its slot is not there, so nobody can end it.
func (h Host) forgetChange(ctx context.Context, device string, m metadata) (metadata, error) {
	if m.change == nil || m.used[*m.change.Slot] {
		return m, nil
	}
	if err := h.removeToken(ctx, device, changeToken); err != nil {
		return m, err
	}
	if err := h.removeStale(ctx, device, m); err != nil {
		return m, err
	}
	return h.metadata(ctx, device)
}

// opens is the slot that a passphrase opens, or anySlot if none.
func (h Host) opens(ctx context.Context, device string, pass holdfast.Secret) (int, error) {
	slot, err := h.Open(ctx, device, pass)
	if errors.Is(err, ErrPassphrase) {
		return anySlot, nil
	}
	return slot, err
}

// proven opens one slot.
func (h Host) proven(ctx context.Context, device string, pass holdfast.Secret, slot int) error {
	h.step(Step(fmt.Sprintf("prove that key slot %d opens", slot)))
	_, err := h.open(ctx, device, pass, slot)
	return err
}

// add adds a slot. What is being done is written into the header before: whoever finds the slot without a token knows then whose it is.
func (h Host) add(ctx context.Context, device string, m metadata, by int, with, pass holdfast.Secret, change token) (int, error) {
	slot, found := m.freeSlot()
	if !found {
		return 0, holdfast.WithHint(fmt.Errorf("%w: its %d slots are taken", holdfast.ErrUsage, mostSlots), "remove a key that is not needed")
	}
	kdf, err := h.like(m, by)
	if err != nil {
		return 0, err
	}
	if err := h.removeStale(ctx, device, m); err != nil {
		return 0, err
	}
	change.State, change.Slot, change.Created = stateChanging, &slot, h.today()
	h.step(Step(fmt.Sprintf("write into the header that key slot %d is being added", slot)))
	if err := h.importToken(ctx, device, changeToken, change); err != nil {
		return 0, err
	}
	h.step(Step(fmt.Sprintf("add the %s key in slot %d", change.Role, slot)))
	args := append([]string{"cryptsetup", "luksAddKey", "--batch-mode", "--key-slot", strconv.Itoa(slot), "--key-file", SecretPath(0)}, kdf.args()...)
	_, err = h.run(ctx, Command{Args: append(args, device, SecretPath(1)), Secrets: []holdfast.Secret{with, pass}})
	return slot, err
}

// like is what another slot costs, if that is argon2id.
func (h Host) like(m metadata, slot int) (KDF, error) {
	if s, found := m.slot(slot); found && s.KDF == "argon2id" {
		return KDF{MemoryKiB: s.MemoryKiB, Iterations: s.Time, Lanes: s.CPUs}, nil
	}
	return h.KDF()
}

// named sees to it that a slot has its token.
func (h Host) named(ctx context.Context, device string, slot int, role Role) error {
	m, err := h.metadata(ctx, device)
	if err != nil {
		return err
	}
	if _, found := m.tokenOf(slot); found {
		return nil
	}
	h.step(Step(fmt.Sprintf("name key slot %d", slot)))
	return h.label(ctx, device, m, slot, role)
}

// undo takes away the slot of a change that nobody finished, whose passphrase is lost.
func (h Host) undo(ctx context.Context, device string, m metadata, with holdfast.Secret) (metadata, error) {
	if err := h.kill(ctx, device, *m.change.Slot, with); err != nil {
		return m, err
	}
	m, err := h.metadata(ctx, device)
	if err != nil {
		return m, err
	}
	return h.forgetChange(ctx, device, m)
}

// ended takes from the header what stood there during a change, and returns its new slot.
func (h Host) ended(ctx context.Context, device string, slot int) (Slot, error) {
	m, err := h.metadata(ctx, device)
	if err != nil {
		return Slot{}, err
	}
	if err := h.removeStale(ctx, device, m); err != nil {
		return Slot{}, err
	}
	// Last: until here, the next call finds where this one was.
	if m.change != nil {
		if err := h.removeToken(ctx, device, changeToken); err != nil {
			return Slot{}, err
		}
	}
	added, found := m.slot(slot)
	if !found {
		return Slot{}, fmt.Errorf("key slot %d is not in the header", slot)
	}
	return added, nil
}

// kill removes a slot. cryptsetup itself checks that the passphrase opens another one.
func (h Host) kill(ctx context.Context, device string, slot int, with holdfast.Secret) error {
	h.step(Step(fmt.Sprintf("remove key slot %d", slot)))
	_, err := h.run(ctx, Command{
		Args:    []string{"cryptsetup", "luksKillSlot", "--batch-mode", "--key-file", SecretPath(0), device, strconv.Itoa(slot)},
		Secrets: []holdfast.Secret{with},
	})
	return err
}

// differ refuses passphrases that are empty or the same: two keys of one passphrase are one key.
func differ(secrets ...holdfast.Secret) error {
	seen := map[string]bool{}
	for _, s := range secrets {
		if s.IsZero() {
			return holdfast.WithHint(fmt.Errorf("%w: a passphrase is empty", holdfast.ErrUsage), "give a passphrase")
		}
		if seen[s.Reveal()] {
			return holdfast.WithHint(fmt.Errorf("%w: two of the passphrases are the same", holdfast.ErrUsage), "each key has a passphrase of its own")
		}
		seen[s.Reveal()] = true
	}
	return nil
}

func (m metadata) hasRole(slot int, role Role) error {
	if s, _ := m.slot(slot); s.Role != role {
		return holdfast.WithHint(fmt.Errorf("%w: it opens slot %d, which is not the %s key", ErrPassphrase, slot, role), "give the passphrase of the "+string(role)+" key")
	}
	return nil
}

func (r Role) other() Role {
	if r == Operational {
		return Recovery
	}
	return Operational
}

func taken(slot int) error {
	return holdfast.WithHint(fmt.Errorf("%w: the new passphrase opens slot %d already", holdfast.ErrUsage, slot), "make another passphrase")
}

func unfinished(change token) error {
	if change.Replaces != nil {
		return holdfast.WithHint(fmt.Errorf("a rotation of the %s key was interrupted", change.Role), "run `holdfast volume key rotate` for the "+string(change.Role)+" key again, it ends that one")
	}
	return holdfast.WithHint(fmt.Errorf("adding the %s key in slot %d was interrupted", change.Role, *change.Slot),
		fmt.Sprintf("run `holdfast volume key add` for the %s key again, or `holdfast volume key remove` with slot %d", change.Role, *change.Slot))
}
