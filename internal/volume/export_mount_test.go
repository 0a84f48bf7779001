package volume

import (
	"context"
	"os"
)

// MountAt reads a mountinfo, and says what a path leads to.
func MountAt(text []byte, path string) (string, error) {
	all, err := parseMounts(text)
	m, found := mountAt(all, path)
	if err != nil || !found {
		return "", err
	}
	return m.dev + " on " + m.point, nil
}

// Unescape undoes the kernel's octal escapes.
func Unescape(text string) string { return unescape(text) }

// ParseCounters reads a line of a device's statistics.
func ParseCounters(text string) (Counters, error) { return parseCounters(text) }

// HeaderChecks are those of Verify that the header alone decides.
func HeaderChecks(v Volume, h Header) []Check {
	return []Check{headerCheck(v, h, nil), cipherCheck(h), keyCheck(h), kdfCheck(h), slotsCheck(h)}
}

// Canary plants one in a file, with other files in place of the devices. written is told after each marker, and says where it lies.
func Canary(ctx context.Context, file, mapper, raw string, offset int64, full bool, written func() (at, length int64, err error)) Check {
	return canaryCheck(ctx, canary{file: file, mapper: mapper, raw: raw, offset: offset, find: func(*os.File) (place, error) {
		at, length, err := written()
		return place{at, length}, err
	}}, full)
}
