package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mapping is an opened device, as /sys has it. No root is needed to read that.
type mapping struct {
	name   string // below /dev/mapper
	kernel string // what the kernel calls it: dm-0
	dev    string // "253:0"
}

// deepest bounds the walk down from a mapping: cryptsetup stacks three while it re-encrypts.
const deepest = 8

func (h Host) mappings() ([]mapping, error) {
	entries, err := os.ReadDir(h.path("/sys/class/block"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var all []mapping
	for _, entry := range entries {
		m := mapping{kernel: entry.Name()}
		// "SUBDEV-CRYPT-…" are the helpers of a re-encryption.
		if uuid := h.attribute(m.kernel, "dm/uuid"); !strings.HasPrefix(uuid, "CRYPT-") {
			continue
		}
		m.name, m.dev = h.attribute(m.kernel, "dm/name"), h.attribute(m.kernel, "dev")
		if m.name != "" && m.dev != "" {
			all = append(all, m)
		}
	}
	return all, nil
}

// attribute reads a line of /sys; "" when the device has none, or went away.
func (h Host) attribute(kernel, name string) string {
	text, err := os.ReadFile(h.path("/sys/class/block/" + kernel + "/" + name))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

// mappingOf finds the mapping of that name, and those of that device; both can be there and be different.
func (h Host) mappingOf(name, device string) (named mapping, hasName bool, ofDevice []mapping, err error) {
	all, err := h.mappings()
	for _, m := range all {
		if m.name == name {
			named, hasName = m, true
		}
		if h.liesOn(m.kernel, device) {
			ofDevice = append(ofDevice, m)
		}
	}
	return named, hasName, ofDevice, err
}

// liesOn reports whether a block device below a mapping is the device or has the file.
func (h Host) liesOn(kernel, device string) bool { return h.below(kernel, device, deepest) }

func (h Host) below(kernel, device string, depth int) bool {
	entries, err := os.ReadDir(h.path("/sys/class/block/" + kernel + "/slaves"))
	if err != nil || depth == 0 {
		return false
	}
	return slices.ContainsFunc(entries, func(entry fs.DirEntry) bool {
		return h.is(entry.Name(), device) || h.below(entry.Name(), device, depth-1)
	})
}

// is reports whether a block device is the given one, or the loop of the given file.
func (h Host) is(kernel, device string) bool {
	info, err := os.Stat(device)
	if err == nil && info.Mode()&fs.ModeDevice != 0 {
		return h.attribute(kernel, "dev") == deviceNumber(info)
	}
	// Of a file that was removed the kernel says so behind its name.
	file := strings.TrimSuffix(h.attribute(kernel, "loop/backing_file"), " (deleted)")
	if file == "" {
		return false
	}
	if other, otherErr := os.Stat(file); err == nil && otherErr == nil {
		return os.SameFile(info, other)
	}
	return file == realPath(device)
}

// loopsOf are the loops of a file, or of any file below a folder.
func (h Host) loopsOf(path string, below bool) []string {
	entries, err := os.ReadDir(h.path("/sys/class/block"))
	if err != nil {
		return nil
	}
	var found []string
	for _, entry := range entries {
		file := h.attribute(entry.Name(), "loop/backing_file")
		if below && file != "" && covers(path, file) || !below && file != "" && h.is(entry.Name(), path) {
			found = append(found, entry.Name())
		}
	}
	slices.Sort(found)
	return found
}

// deviceNumber is a device's number as /sys writes it, "" of what is no device.
func deviceNumber(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
}

// deviceSize is the size of a file, or of a block device.
func (h Host) deviceSize(device string) (int64, error) {
	info, err := os.Stat(device)
	if err != nil {
		return 0, err
	}
	if info.Mode()&fs.ModeDevice == 0 {
		return info.Size(), nil
	}
	text, err := os.ReadFile(h.path("/sys/dev/block/" + deviceNumber(info) + "/size"))
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", device, err)
	}
	var sectors int64
	if _, err := fmt.Sscan(string(text), &sectors); err != nil {
		return 0, fmt.Errorf("size of %s: %w", device, err)
	}
	return sectors * sysSector, nil
}

// sysSector is the unit of sizes and counters in /sys, whatever the sectors of the device.
const sysSector = 512

// makeFolder makes a folder with its parents, as root's.
func makeFolder(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
