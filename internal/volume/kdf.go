package volume

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	leastMemory = 64 << 10 // KiB
	mostMemory  = 1 << 20  // KiB
)

// KDF is what a try at a passphrase costs: argon2id (RFC 9106) with this memory.
type KDF struct {
	MemoryKiB  int // 0: as [Host.KDF] says
	Iterations int // 0: measured by cryptsetup, so that a try takes about two seconds here; it may take less memory then
	Lanes      int // 0: as many as there are processors, at most 4
}

// KDF chooses the memory by this host's: a quarter of it, at least 64 MiB and at most 1 GiB, so that a start with little to spare can
// still open the volume.
func (h Host) KDF() (KDF, error) {
	path := h.path("/proc/meminfo")
	text, err := os.ReadFile(path)
	if err != nil {
		return KDF{}, fmt.Errorf("find how much memory the host has: %w", err)
	}
	total, err := parseMemory(string(text))
	if err != nil {
		return KDF{}, fmt.Errorf("read %s: %w", path, err)
	}
	return KDF{MemoryKiB: min(max(total/4, leastMemory), mostMemory)}, nil
}

// parseMemory finds the host's memory in KiB, see proc_meminfo(5).
func parseMemory(text string) (int, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			fields := strings.Fields(rest)
			if len(fields) != 2 || fields[1] != "kB" {
				return 0, fmt.Errorf("MemTotal is %q", strings.TrimSpace(rest))
			}
			total, err := strconv.Atoi(fields[0])
			if err != nil || total <= 0 {
				return 0, fmt.Errorf("MemTotal is %q", fields[0])
			}
			return total, nil
		}
	}
	return 0, errors.New("it has no MemTotal")
}

// String states the cost to a person.
func (k KDF) String() string {
	text := "argon2id"
	if k.MemoryKiB > 0 {
		text += fmt.Sprintf(" with %s of memory", memory(k.MemoryKiB))
	}
	if k.Iterations > 0 {
		text += fmt.Sprintf(", %d passes", k.Iterations)
	}
	if k.Lanes > 0 {
		text += fmt.Sprintf(", %d lanes", k.Lanes)
	}
	return text
}

func memory(kib int) string {
	switch {
	case kib%(1<<20) == 0:
		return fmt.Sprintf("%d GiB", kib>>20)
	case kib >= 1<<10:
		return fmt.Sprintf("%d MiB", kib>>10)
	}
	return fmt.Sprintf("%d KiB", kib)
}

// kdf is k, with what it leaves open about memory decided.
func (h Host) kdf(k KDF) (KDF, error) {
	if k.MemoryKiB > 0 {
		return k, nil
	}
	chosen, err := h.KDF()
	k.MemoryKiB = chosen.MemoryKiB
	return k, err
}

// args are cryptsetup's arguments.
func (k KDF) args() []string {
	args := []string{"--pbkdf", "argon2id", "--pbkdf-memory", strconv.Itoa(k.MemoryKiB)}
	if k.Iterations > 0 {
		args = append(args, "--pbkdf-force-iterations", strconv.Itoa(k.Iterations))
	}
	if k.Lanes > 0 {
		args = append(args, "--pbkdf-parallel", strconv.Itoa(k.Lanes))
	}
	return args
}
