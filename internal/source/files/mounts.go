package files

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// mounts are the mount points that this process sees. Device numbers would not do: a bind mount has those of what it
// shows, and no rename leads into it.
type mounts []mount

type mount struct {
	id    int
	point string
}

// readMounts reads the kernel's list.
func readMounts() (mounts, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the list of mounts: %w", err)
	}
	table, err := parseMounts(string(text))
	if err != nil {
		return nil, fmt.Errorf("read the list of mounts: %w", err)
	}
	return table, nil
}

// parseMounts reads lines as proc(5) describes them: ID PARENT MAJOR:MINOR ROOT POINT …
func parseMounts(text string) (mounts, error) {
	var table mounts
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			return nil, fmt.Errorf("a line has %d fields", len(fields))
		}
		id, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, fmt.Errorf("a mount has no number: %w", err)
		}
		table = append(table, mount{id, unescapeMount(fields[4])})
	}
	return table, nil
}

// unescapeMount decodes the octal numbers that stand for blanks and backslashes.
func unescapeMount(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// of returns the number of the mount that path, without symbolic links, lies on. Of several on one point the last one
// counts, which hides the others.
func (t mounts) of(path string) int {
	id, longest := 0, -1
	for _, m := range t {
		if within(path, m.point) && len(m.point) >= longest {
			id, longest = m.id, len(m.point)
		}
	}
	return id
}

// below returns a mount point that is path or lies in it.
func (t mounts) below(path string) (string, bool) {
	for _, m := range t {
		if within(m.point, path) {
			return m.point, true
		}
	}
	return "", false
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}
