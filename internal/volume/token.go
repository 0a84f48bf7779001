package volume

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// The numbers of tokens that belong to no slot.
const (
	creatingToken = 31 // stands from the format until the volume is whole
	changeToken   = 30 // stands while keys are added or rotated
)

const (
	stateCreating = "creating"
	stateChanging = "changing"
)

// token is one of ours in a header. What is said of slots stands in the header itself, so that no file can be lost or be out of step.
type token struct {
	Type     string   `json:"type"`
	Keyslots []string `json:"keyslots"`
	Role     Role     `json:"role,omitempty"`
	Created  string   `json:"created,omitempty"` // a day
	State    string   `json:"state,omitempty"`
	Slot     *int     `json:"slot,omitempty"`     // of a change: the new one
	Replaces *int     `json:"replaces,omitempty"` // of a rotation: the one that goes
}

// parseTokens keeps ours, by number.
func (m *metadata) parseTokens(all map[string]json.RawMessage) error {
	m.tokens = map[int]token{}
	for name, raw := range all {
		number, err := parseNumber(name)
		if err != nil {
			return fmt.Errorf("token %w", err)
		}
		var kind struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return fmt.Errorf("token %d: %w", number, err)
		}
		t := token{Type: kind.Type}
		// What others put into theirs is not read: only that the number is taken counts.
		if kind.Type == subsystem {
			if err := json.Unmarshal(raw, &t); err != nil {
				return fmt.Errorf("token %d: %w", number, err)
			}
		}
		m.tokens[number] = t
	}
	m.Creating = m.tokens[creatingToken].ours(stateCreating)
	if t := m.tokens[changeToken]; t.ours(stateChanging) && t.Slot != nil && *t.Slot >= 0 && *t.Slot < mostSlots {
		if t.Replaces == nil || *t.Replaces >= 0 && *t.Replaces < mostSlots {
			m.change = &t
		}
	}
	return nil
}

func (t token) ours(state string) bool { return t.Type == subsystem && t.State == state }

// tokenOf is the token of a slot. After a reencryption its number is another than the slot's.
func (m metadata) tokenOf(slot int) (number int, found bool) {
	for _, number := range slices.Sorted(maps.Keys(m.tokens)) {
		if t := m.tokens[number]; t.ours("") && slices.Contains(t.Keyslots, strconv.Itoa(slot)) {
			return number, true
		}
	}
	return 0, false
}

// role is what the header says that a slot is for. One that was added in a change that was interrupted has no token yet.
func (m metadata) role(slot int) (Role, time.Time) {
	var t token
	if number, found := m.tokenOf(slot); found {
		t = m.tokens[number]
	} else if m.pending(slot) {
		t = *m.change
	}
	role, err := ParseRole(string(t.Role))
	if err != nil {
		return "", time.Time{}
	}
	created, err := time.Parse(time.DateOnly, t.Created)
	if err != nil {
		created = time.Time{}
	}
	return role, created
}

// pending reports whether a slot is of a change that did not end: perhaps nobody knows its passphrase.
func (m metadata) pending(slot int) bool { return m.change != nil && *m.change.Slot == slot }

// freeToken is the number for the token of a slot: the slot's own, if it is free.
func (m metadata) freeToken(slot int) (int, bool) {
	if _, taken := m.tokens[slot]; !taken && slot < changeToken {
		return slot, true
	}
	for number := range changeToken {
		if _, taken := m.tokens[number]; !taken {
			return number, true
		}
	}
	return 0, false
}

// freeSlot is the lowest number that no slot has.
func (m metadata) freeSlot() (int, bool) {
	for number := range changeToken {
		if !m.used[number] {
			return number, true
		}
	}
	return 0, false
}

// importToken writes a token into the header. The number must be free.
func (h Host) importToken(ctx context.Context, device string, number int, t token) error {
	t.Type = subsystem
	if t.Keyslots == nil {
		t.Keyslots = []string{}
	}
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = h.run(ctx, Command{
		Args:  []string{"cryptsetup", "token", "import", "--json-file", "-", "--token-id", strconv.Itoa(number), device},
		Input: text,
	})
	return err
}

// removeToken takes a token out of the header.
func (h Host) removeToken(ctx context.Context, device string, number int) error {
	_, err := h.run(ctx, Command{Args: []string{"cryptsetup", "token", "remove", "--token-id", strconv.Itoa(number), device}})
	return err
}

// label writes into the header what a slot is for. A token that a removed slot left behind gives way.
func (h Host) label(ctx context.Context, device string, m metadata, slot int, role Role) error {
	if err := h.removeStale(ctx, device, m); err != nil {
		return err
	}
	number, found := m.freeToken(slot)
	if !found {
		return fmt.Errorf("%s has no room for another token", device)
	}
	return h.importToken(ctx, device, number, token{Keyslots: []string{strconv.Itoa(slot)}, Role: role, Created: h.today()})
}

// removeStale removes our tokens whose slots are gone.
func (h Host) removeStale(ctx context.Context, device string, m metadata) error {
	for _, number := range slices.Sorted(maps.Keys(m.tokens)) {
		if t := m.tokens[number]; t.ours("") && len(t.Keyslots) == 0 {
			if err := h.removeToken(ctx, device, number); err != nil {
				return err
			}
			delete(m.tokens, number)
		}
	}
	return nil
}

func (h Host) today() string { return h.Now().UTC().Format(time.DateOnly) }
