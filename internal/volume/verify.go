package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"holdfast"
)

// Verify proves what can be proven of a volume: its header, cipher, key and slots, that its data folder lies on it, that each given key opens the
// slot of its role, that its mount point is guarded, and that what is written on it is not on the raw device. full reads the whole raw device
// for that. The volume must be mounted for three of them. An error means that ctx ended; all else is in the checks.
func (h Host) Verify(ctx context.Context, v Volume, keys map[Role]holdfast.Secret, full bool) ([]Check, error) {
	header, err := h.Header(ctx, v.Device)
	checks := []Check{headerCheck(v, header, err)}
	if err == nil {
		checks = append(checks, cipherCheck(header), keyCheck(header), kdfCheck(header), slotsCheck(header))
		for _, role := range Roles() {
			if pass, given := keys[role]; given {
				checks = append(checks, h.opensCheck(ctx, v, header, role, pass))
			}
		}
		m, dataCheck := h.dataCheck(v)
		checks = append(checks, dataCheck)
		if dataCheck.Good {
			checks = append(checks, h.canaryCheck(ctx, v, header, m, full))
		} else {
			checks = append(checks, Check{Name: "canary", Text: "not planted: the data folder is not on the volume", Fix: "unlock the volume first"})
		}
	}
	checks = append(checks, h.guardCheck(v))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return checks, nil
}

func headerCheck(v Volume, header Header, err error) Check {
	c := Check{Name: "LUKS2", Fix: "put a header backup back: cryptsetup luksHeaderRestore"}
	switch {
	case err != nil:
		c.Text = err.Error()
		if hint := holdfast.Hint(err); hint != "" {
			c.Fix = hint
		}
	case header.unfinished(v.Name):
		c.Text, c.Fix = "the volume was never finished", "run `holdfast volume create` again: it begins anew"
	case header.Reencrypting:
		c.Text, c.Fix = "the exchange of its volume key is not finished", "run `holdfast volume reencrypt` to its end"
	case header.Subsystem != subsystem || header.Label != string(v.Name):
		c.Text, c.Fix = fmt.Sprintf("its label is %q of %q, and not %q of %q", header.Label, header.Subsystem, v.Name, subsystem), "look whether it is the right device"
	default:
		c.Good, c.Fix, c.Text = true, "", v.Device+" has a LUKS2 header, UUID "+header.UUID
	}
	return c
}

func cipherCheck(header Header) Check {
	if header.Cipher != cipher {
		return Check{Name: "cipher", Text: fmt.Sprintf("it is %q, and not %s", header.Cipher, cipher), Fix: "make a new volume and migrate to it"}
	}
	return Check{Name: "cipher", Good: true, Text: cipher}
}

func keyCheck(header Header) Check {
	if header.KeyBits != keyBits {
		return Check{Name: "key", Text: fmt.Sprintf("it has %d bits, and not %d: XTS takes two, so that 256 bits are AES-128", header.KeyBits, keyBits), Fix: "make a new volume and migrate to it"}
	}
	return Check{Name: "key", Good: true, Text: fmt.Sprintf("%d bits, which is AES-256", keyBits)}
}

func kdfCheck(header Header) Check {
	var weak, said []string
	for _, s := range header.Slots {
		if s.KDF != "argon2id" {
			weak = append(weak, fmt.Sprintf("slot %d has %s", s.Number, s.KDF))
		}
		said = append(said, fmt.Sprintf("slot %d: %s, %d MiB, %d passes", s.Number, s.KDF, s.MemoryKiB>>10, s.Time))
	}
	if len(weak) > 0 {
		return Check{Name: "KDF", Text: strings.Join(weak, ", ") + ": graphics cards try such passphrases fast", Fix: "rotate that key: holdfast volume key rotate"}
	}
	return Check{Name: "KDF", Good: len(said) > 0, Text: strings.Join(said, "; ")}
}

func slotsCheck(header Header) Check {
	c := Check{Name: "slots", Fix: "add the missing key: holdfast volume key add"}
	var missing, said []string
	for _, role := range Roles() {
		if s, has := header.Slot(role); has {
			said = append(said, fmt.Sprintf("%s in slot %d", role, s.Number))
		} else {
			missing = append(missing, "no slot is the "+string(role)+" key's")
		}
	}
	strange := slices.ContainsFunc(header.Slots, func(s Slot) bool { return s.Role == "" })
	switch {
	case len(missing) > 0:
		c.Text = strings.Join(missing, ", ")
	case strange:
		c.Warns, c.Text, c.Fix = true, "a slot has no role: it was made by another program", "find out whose it is; holdfast volume key list, then key remove"
	default:
		c.Good, c.Fix, c.Text = true, "", strings.Join(said, ", ")
	}
	return c
}

func (h Host) opensCheck(ctx context.Context, v Volume, header Header, role Role, pass holdfast.Secret) Check {
	c := Check{Name: string(role) + " key", Fix: "try the passphrase again; when it is lost, rotate the key with the other one at hand"}
	slot, err := h.Open(ctx, v.Device, pass)
	switch due, has := header.Slot(role); {
	case err != nil:
		c.Text = err.Error()
	case !has || due.Number != slot:
		found, _ := header.slot(slot)
		c.Text = fmt.Sprintf("the passphrase opens slot %d, which is not the %s key but %q", slot, role, found.Role)
		c.Fix = "give the passphrase of the " + string(role) + " key"
	default:
		c.Good, c.Fix, c.Text = true, "", fmt.Sprintf("it opens slot %d", slot)
	}
	return c
}

// dataCheck looks whether the path that the server uses leads to the mapping of this very device.
func (h Host) dataCheck(v Volume) (mapping, Check) {
	c := Check{Name: "data folder", Fix: "stop the server, lock the volume, look what is in the bare mount point, and unlock it again"}
	fail := func(format string, a ...any) (mapping, Check) {
		c.Text = fmt.Sprintf(format, a...)
		return mapping{}, c
	}
	m, open, err := h.opened(v)
	if err != nil {
		return fail("%v", err)
	}
	if !open {
		c.Fix = "unlock the volume first"
		return fail("the volume is locked")
	}
	mounts, err := h.mounts()
	if err != nil {
		return fail("%v", err)
	}
	// Links are followed: what counts is where the server's writes go.
	path, err := filepath.EvalSymlinks(v.DataPath())
	if err != nil {
		return fail("%v", err)
	}
	on, found := mountAt(mounts, path)
	if !found || on.dev != m.dev {
		return fail("%s lies on %s (device %s), and not on %s (device %s)", v.DataPath(), on.point, on.dev, v.Name.Mapper(), m.dev)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fail("%v", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok {
		return fail("%s is no folder", v.DataPath())
	}
	if int(stat.Uid) != v.UID || int(stat.Gid) != v.GID {
		c.Fix = fmt.Sprintf("run: chown %d:%d %s", v.UID, v.GID, v.DataPath())
		return fail("%s belongs to %d:%d, and not to %d:%d", v.DataPath(), stat.Uid, stat.Gid, v.UID, v.GID)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		c.Fix = "run: chmod go-w " + v.DataPath()
		return fail("%s has mode %04o: others may write there", v.DataPath(), mode)
	}
	return m, Check{Name: c.Name, Good: true, Text: fmt.Sprintf("%s lies on %s, which is %s", v.DataPath(), v.Name.Mapper(), v.Device)}
}

func (h Host) canaryCheck(ctx context.Context, v Volume, header Header, m mapping, full bool) Check {
	plant := canary{
		file:   filepath.Join(realPath(v.Mount), ".holdfast-canary-"+strings.ToLower(rand.Text()[:10])),
		mapper: "/dev/" + m.kernel, raw: v.Device, offset: header.Offset, find: fiemap,
	}
	return canaryCheck(ctx, plant, full)
}

func canaryCheck(ctx context.Context, plant canary, full bool) Check {
	said, err := plant.prove(ctx, full)
	switch {
	case err == nil:
		return Check{Name: "canary", Good: true, Text: said}
	case errors.Is(err, errBare):
		return Check{Name: "canary", Text: err.Error(), Fix: "the data is NOT sealed: stop the server, and treat the disk as one that was never encrypted"}
	}
	return Check{Name: "canary", Text: err.Error(), Fix: "run it again; nothing is proven by it yet"}
}

func (h Host) guardCheck(v Volume) Check {
	c := Check{Name: "guard", Fix: "run: holdfast volume guard " + string(v.Name)}
	guarded, err := h.Guarded(v)
	switch {
	case err != nil:
		c.Text = err.Error()
	case !guarded:
		c.Text = "the bare mount point can be written: a server that starts while the volume is locked makes an empty database there"
	default:
		c.Good, c.Fix, c.Text = true, "", "the bare mount point is root's, mode 0000 and immutable"
	}
	return c
}
