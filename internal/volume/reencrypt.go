package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast"
)

// hotzone is how much is reencrypted at a time. What is in it can neither be read nor written meanwhile, so a database waits, and so does an
// interruption: cryptsetup's own choice can be a gigabyte.
const hotzone = "64M"

// Reencrypt changes the volume key, and with it every byte on the device: header backups from before open nothing any more. The volume may be locked, or
// open and in use. keys has the passphrase of each slot, because each gets a new one with the new volume key; a key whose passphrase is not
// given would be gone. Interrupted, by ctx or by the loss of power, the volume opens as ever, and the next call goes on; one passphrase is enough
// then. progress, if not nil, is told bytes, about once a second. Errors wrap [ErrPassphrase], [ErrInUse] when the device is open
// under another name, and [holdfast.ErrUsage] when keys leave out a slot. It needs cryptsetup 2.6 and, for a device as large as the volume, time.
func (h Host) Reencrypt(ctx context.Context, v Volume, keys map[Role]holdfast.Secret, progress func(done, total int64)) error {
	if err := h.reencrypt(ctx, v, keys, progress); err != nil {
		return advise(fmt.Errorf("reencrypt %s: %w", v.Device, err), "the volume opens with its passphrases as before; run it again, it continues; it needs cryptsetup 2.6")
	}
	return nil
}

func (h Host) reencrypt(ctx context.Context, v Volume, keys map[Role]holdfast.Secret, progress func(done, total int64)) error {
	m, err := h.metadata(ctx, v.Device)
	if err == nil && !m.Reencrypting {
		m, err = h.forgetChange(ctx, v.Device, m)
	}
	if err != nil {
		return err
	}
	if m.change != nil {
		return unfinished(*m.change)
	}
	target, err := h.reencryptTarget(v, m.UUID)
	if err != nil {
		return err
	}
	pass, err := h.proveAll(ctx, v.Device, m, keys)
	if err != nil {
		return err
	}
	if !m.Reencrypting {
		// cryptsetup asks for the passphrases in the order of the slots.
		var lines bytes.Buffer
		for _, slot := range m.Slots {
			lines.WriteString(keys[slot.Role].Reveal() + "\n")
		}
		h.step("make the new volume key")
		args := append([]string{"cryptsetup", "reencrypt", "--batch-mode", "--init-only"}, target...)
		if _, err := h.run(ctx, Command{Args: args, Input: lines.Bytes()}); err != nil {
			return err
		}
	}
	h.step("reencrypt")
	args := []string{"cryptsetup", "reencrypt", "--batch-mode", "--resume-only", "--key-file", SecretPath(0), "--progress-json", "--progress-frequency", "1", "--hotzone-size", hotzone}
	c := Command{Args: append(args, target...), Secrets: []holdfast.Secret{pass}, Line: func(line string) {
		if done, total, ok := parseProgress(line); ok && progress != nil {
			progress(done, total)
		}
	}}
	if _, err := h.run(ctx, c); err != nil {
		return err
	}
	if m, err = h.metadata(ctx, v.Device); err != nil {
		return err
	}
	if m.Reencrypting {
		return errors.New("cryptsetup ended well, and the header says that it is not done")
	}
	for _, role := range Roles() {
		if _, found := m.Slot(role); !found {
			return fmt.Errorf("the header has no %s key any more", role)
		}
	}
	return nil
}

// proveAll proves that each slot is opened by one of the keys, and returns a passphrase that opens. Of what was begun, one is enough.
func (h Host) proveAll(ctx context.Context, device string, m metadata, keys map[Role]holdfast.Secret) (pass holdfast.Secret, err error) {
	for _, role := range Roles() {
		key, given := keys[role]
		if !given {
			continue
		}
		if strings.Contains(key.Reveal(), "\n") {
			return pass, holdfast.WithHint(fmt.Errorf("%w: the passphrase of the %s key has a line break", holdfast.ErrUsage, role), "rotate that key first")
		}
		slot, err := h.Open(ctx, device, key)
		if err == nil {
			err = m.hasRole(slot, role)
		}
		if err != nil {
			return pass, fmt.Errorf("the passphrase of the %s key: %w", role, err)
		}
		pass = key
	}
	if pass.IsZero() {
		return pass, holdfast.WithHint(fmt.Errorf("%w: no passphrase was given", holdfast.ErrUsage), "give the passphrases of the operational and of the recovery key")
	}
	if m.Reencrypting {
		return pass, nil
	}
	seen := map[Role]bool{}
	for _, slot := range m.Slots {
		if _, given := keys[slot.Role]; !given || seen[slot.Role] {
			return pass, holdfast.WithHint(fmt.Errorf("%w: the passphrase of key slot %d (%s) is needed too, or that key would be lost", holdfast.ErrUsage, slot.Number, roleText(slot.Role)),
				"give the passphrases of both roles; remove keys beyond one of each with `holdfast volume key remove`")
		}
		seen[slot.Role] = true
	}
	for _, role := range Roles() {
		if !seen[role] {
			return pass, holdfast.WithHint(fmt.Errorf("%w: it has no %s key", holdfast.ErrUsage, role), "add one with `holdfast volume key add`")
		}
	}
	return pass, nil
}

func roleText(r Role) string {
	if r == "" {
		return "of no role"
	}
	return string(r)
}

// reencryptTarget says how cryptsetup is told what to work on. It looks for the mapping itself: what is in a file it would not find, and work
// on the data below a mounted file system as if nobody used them.
func (h Host) reencryptTarget(v Volume, uuid string) ([]string, error) {
	paths, err := filepath.Glob(h.path("/sys/block/dm-*/dm/uuid"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		id, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("look for open volumes: %w", err)
		}
		// "CRYPT-LUKS2-<the UUID without dashes>-<name>", by cryptsetup.
		name, found := strings.CutPrefix(strings.TrimSpace(string(id)), "CRYPT-LUKS2-"+strings.ReplaceAll(uuid, "-", "")+"-")
		if !found {
			continue
		}
		if name != string(v.Name) {
			return nil, holdfast.WithHint(fmt.Errorf("%w: it is open under the name %s", ErrInUse, name), "close that with `cryptsetup close "+name+"`")
		}
		return []string{"--active-name", name}, nil
	}
	info, err := os.Stat(v.Device)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		return []string{"--force-offline-reencrypt", v.Device}, nil
	}
	return []string{v.Device}, nil
}

// parseProgress reads one line of cryptsetup's --progress-json.
func parseProgress(line string) (done, total int64, ok bool) {
	var p struct {
		Done  string `json:"device_bytes"`
		Total string `json:"device_size"`
	}
	if json.Unmarshal([]byte(line), &p) != nil {
		return 0, 0, false
	}
	done, err := strconv.ParseInt(p.Done, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	total, err = strconv.ParseInt(p.Total, 10, 64)
	return done, total, err == nil && done >= 0 && done <= total
}
