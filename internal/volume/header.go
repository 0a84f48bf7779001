package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// subsystem is what headers of volumes have as their subsystem, and their tokens as their type.
const subsystem = "holdfast"

// mostSlots is how many slots, and how many tokens, a header can have.
const mostSlots = 32

// Header is what a LUKS2 header says, see the LUKS2 On-Disk Format Specification.
type Header struct {
	UUID, Label, Subsystem string
	Cipher                 string // "aes-xts-plain64"
	KeyBits                int    // of the volume key: the smallest that a slot holds
	Offset                 int64  // where the data begins, bytes
	Slots                  []Slot // by number; only those that open the volume
	Creating               bool   // making it was never finished
	Reencrypting           bool   // an exchange of the volume key is not finished; each key has two slots meanwhile
}

// Slot is one way to open a volume.
type Slot struct {
	Number    int
	Role      Role      // "": not ours
	Created   time.Time // a day, in UTC; zero: not known
	KDF       string    // "argon2id"
	MemoryKiB int
	Time      int // passes of the KDF over its memory
	CPUs      int
}

// Slot returns the first slot that has the role.
func (h Header) Slot(role Role) (Slot, bool) {
	i := slices.IndexFunc(h.Slots, func(s Slot) bool { return s.Role == role })
	if i < 0 {
		return Slot{}, false
	}
	return h.Slots[i], true
}

// slot returns the one with that number.
func (h Header) slot(number int) (Slot, bool) {
	i := slices.IndexFunc(h.Slots, func(s Slot) bool { return s.Number == number })
	if i < 0 {
		return Slot{}, false
	}
	return h.Slots[i], true
}

// metadata is a header with what only this package works with.
type metadata struct {
	Header
	tokens map[int]token
	used   [mostSlots]bool // by slots of any kind
	change *token          // what is being done to the keys, or was interrupted
}

// Header reads the header of a device, or of a header's backup. Errors wrap [ErrNotVolume] and [fs.ErrNotExist]. It needs no passphrase.
func (h Host) Header(ctx context.Context, device string) (Header, error) {
	m, err := h.metadata(ctx, device)
	return m.Header, err
}

func (h Host) metadata(ctx context.Context, device string) (metadata, error) {
	if err := checkDevice(device); err != nil {
		return metadata{}, err
	}
	var dumps [2][]byte
	for i, args := range [][]string{{"cryptsetup", "luksDump", "--dump-json-metadata", device}, {"cryptsetup", "luksDump", device}} {
		c := Command{Args: args}
		out, err := h.try(ctx, c)
		if err == nil && out.Code != 0 {
			err = notRead(device, out, c)
		}
		if err != nil {
			return metadata{}, advise(fmt.Errorf("read the header of %s: %w", device, err), "run `cryptsetup luksDump "+device+"` as root to see what is wrong")
		}
		dumps[i] = out.Stdout
	}
	m, err := parseHeader(dumps[0], dumps[1])
	if err != nil {
		return metadata{}, advise(fmt.Errorf("read the header of %s: %w", device, err), "this version of cryptsetup writes what is not understood: use 2.4 to 2.8")
	}
	return m, nil
}

func checkDevice(device string) error {
	if !filepath.IsAbs(device) {
		return holdfast.WithHint(fmt.Errorf("%w: the path %q of a device is not absolute", holdfast.ErrUsage, device), "give the path from / on")
	}
	return nil
}

// notRead says why there was no header.
func notRead(device string, out Output, c Command) error {
	said := string(out.Stderr)
	switch {
	case strings.Contains(said, "not a valid LUKS device"):
		return holdfast.WithHint(ErrNotVolume, "a device whose header is lost opens again with `cryptsetup luksHeaderRestore` and a header backup; otherwise check the path")
	case strings.Contains(said, "Dump operation is not supported"):
		return holdfast.WithHint(fmt.Errorf("%w: its header is of LUKS version 1 or another kind", ErrNotVolume), "make a new volume and migrate to it")
	}
	if _, err := os.Stat(device); errors.Is(err, fs.ErrNotExist) {
		return holdfast.WithHint(err, "check the path; `holdfast volume create` makes a volume")
	}
	return out.failed(c)
}

// advise attaches a hint where there is none: what was told nearer to the fault says more.
func advise(err error, hint string) error {
	if holdfast.Hint(err) != "" {
		return err
	}
	return holdfast.WithHint(err, hint)
}

// dump is what cryptsetup writes as JSON: the header's own JSON area.
type dump struct {
	Keyslots map[string]struct {
		Type    string `json:"type"`
		KeySize int    `json:"key_size"`
		KDF     struct {
			Type   string `json:"type"`
			Time   int    `json:"time"`
			Memory int    `json:"memory"`
			CPUs   int    `json:"cpus"`
		} `json:"kdf"`
	} `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]struct {
		Type       string   `json:"type"`
		Offset     string   `json:"offset"`
		Encryption string   `json:"encryption"`
		Flags      []string `json:"flags"`
	} `json:"segments"`
	Digests map[string]struct {
		Keyslots []string `json:"keyslots"`
		Segments []string `json:"segments"`
	} `json:"digests"`
	Config struct {
		Requirements struct {
			Mandatory []string `json:"mandatory"`
		} `json:"requirements"`
	} `json:"config"`
}

// parseHeader understands both forms of luksDump: the JSON has slots, tokens and segments, the text what stands outside of the JSON area.
func parseHeader(jsonText, text []byte) (metadata, error) {
	var m metadata
	if err := m.parseText(string(text)); err != nil {
		return metadata{}, err
	}
	var d dump
	if err := json.Unmarshal(jsonText, &d); err != nil {
		return metadata{}, fmt.Errorf("its metadata: %w", err)
	}
	m.Reencrypting = slices.ContainsFunc(d.Config.Requirements.Mandatory, func(r string) bool { return strings.Contains(r, "reencrypt") })
	if err := m.parseTokens(d.Tokens); err != nil {
		return metadata{}, err
	}
	if err := m.parseSlots(d); err != nil {
		return metadata{}, err
	}
	return m, m.parseSegments(d)
}

// parseText takes the first of each line: what follows could stand in a label.
func (m *metadata) parseText(text string) error {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		if _, known := values[name]; ok && !known {
			values[name] = strings.TrimSpace(value)
		}
	}
	if version := values["Version"]; version != "2" {
		return fmt.Errorf("%w: its header is of version %q", ErrNotVolume, version)
	}
	m.UUID, m.Label, m.Subsystem = values["UUID"], values["Label"], values["Subsystem"]
	if m.UUID == "" {
		return errors.New("it has no UUID")
	}
	if m.Label == "(no label)" {
		m.Label = ""
	}
	if m.Subsystem == "(no subsystem)" {
		m.Subsystem = ""
	}
	return nil
}

func (m *metadata) parseSlots(d dump) error {
	opening := map[string]bool{}
	for _, digest := range d.Digests {
		for _, slot := range digest.Keyslots {
			// A slot without a segment holds a key for something else.
			opening[slot] = opening[slot] || len(digest.Segments) > 0
		}
	}
	for name, k := range d.Keyslots {
		number, err := parseNumber(name)
		if err != nil {
			return fmt.Errorf("key slot %w", err)
		}
		m.used[number] = true
		if k.Type != "luks2" || !opening[name] {
			continue
		}
		if bits := 8 * k.KeySize; m.KeyBits == 0 || bits < m.KeyBits {
			m.KeyBits = bits
		}
		slot := Slot{Number: number, KDF: k.KDF.Type, MemoryKiB: k.KDF.Memory, Time: k.KDF.Time, CPUs: k.KDF.CPUs}
		slot.Role, slot.Created = m.role(number)
		m.Slots = append(m.Slots, slot)
	}
	slices.SortFunc(m.Slots, func(a, b Slot) int { return cmp.Compare(a.Number, b.Number) })
	return nil
}

// parseSegments takes where the data lies from the segments that are in use now.
func (m *metadata) parseSegments(d dump) error {
	found := false
	for _, name := range slices.Sorted(maps.Keys(d.Segments)) {
		s := d.Segments[name]
		if s.Type != "crypt" || slices.ContainsFunc(s.Flags, func(f string) bool { return strings.HasPrefix(f, "backup-") }) {
			continue
		}
		offset, err := strconv.ParseInt(s.Offset, 10, 64)
		if err != nil || offset < 0 {
			return fmt.Errorf("segment %s begins at %q", name, s.Offset)
		}
		if !found || offset < m.Offset {
			m.Offset, m.Cipher = offset, s.Encryption
		}
		found = true
	}
	if !found {
		return errors.New("it has no encrypted segment")
	}
	return nil
}

func parseNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= mostSlots || strconv.Itoa(n) != text {
		return 0, fmt.Errorf("%q is not one of 0 to %d", text, mostSlots-1)
	}
	return n, nil
}

// anySlot asks for no slot in particular.
const anySlot = -1

// cryptsetup's words about a passphrase that opens, in every version from 2.0.
var unlockedRule = regexp.MustCompile(`(?m)^Key slot ([0-9]+) unlocked\.$`)

// Open proves that a passphrase opens a device, or a header's backup, and says by which slot. It maps nothing. Errors wrap [ErrPassphrase].
// Each slot that the passphrase does not open costs a derivation of a key.
func (h Host) Open(ctx context.Context, device string, pass holdfast.Secret) (slot int, err error) {
	return h.open(ctx, device, pass, anySlot)
}

func (h Host) open(ctx context.Context, device string, pass holdfast.Secret, slot int) (int, error) {
	if err := checkDevice(device); err != nil {
		return 0, err
	}
	args := []string{"luksOpen", "--test-passphrase"}
	if slot != anySlot {
		args = append(args, "--key-slot", strconv.Itoa(slot))
	}
	opened, _, err := h.unseal(ctx, pass, append(args, device)...)
	if err != nil {
		return 0, advise(fmt.Errorf("open %s: %w", device, err), "run `cryptsetup luksOpen --test-passphrase "+device+"` as root to see what is wrong")
	}
	if opened == anySlot || slot != anySlot && slot != opened {
		return 0, holdfast.WithHint(fmt.Errorf("open %s: cryptsetup did not say which slot it opened", device), "use cryptsetup 2.4 to 2.8")
	}
	return opened, nil
}

// unseal runs an action of cryptsetup that takes a passphrase, and returns the slot that it opened, anySlot where cryptsetup does not say that. cut
// reports that it was ended by something, and may have done its work before.
func (h Host) unseal(ctx context.Context, pass holdfast.Secret, args ...string) (slot int, cut bool, err error) {
	if pass.IsZero() {
		return anySlot, false, holdfast.WithHint(fmt.Errorf("%w: it is empty", ErrPassphrase), "give a passphrase")
	}
	c := Command{Args: slices.Concat([]string{"cryptsetup", args[0], "--verbose", "--key-file", SecretPath(0)}, args[1:]), Secrets: []holdfast.Secret{pass}}
	out, err := h.try(ctx, c)
	switch {
	case err != nil:
		return anySlot, true, err
	case out.Code == 2:
		return anySlot, false, holdfast.WithHint(ErrPassphrase, "type it as it is written down, and look at the keyboard's layout and caps lock")
	case out.Code != 0:
		return anySlot, false, out.failed(c)
	}
	if said := unlockedRule.FindSubmatch(out.Stdout); said != nil {
		if opened, err := parseNumber(string(said[1])); err == nil {
			return opened, false, nil
		}
	}
	return anySlot, false, nil
}
