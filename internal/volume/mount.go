package volume

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast"
)

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	id, parent           int
	dev                  string // "253:0"
	root, point          string // what of the file system is mounted, and where
	kind                 string
	shared, master, from int // peer groups that umounts come from; 0: none
}

// parseMounts reads the text of a mountinfo.
func parseMounts(text []byte) ([]mount, error) {
	var all []mount
	for line := range bytes.Lines(text) {
		m, err := parseMount(string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func parseMount(line string) (mount, error) {
	bad := fmt.Errorf("mountinfo has the line %q, which this version does not know", line)
	before, after, parted := strings.Cut(line, " - ")
	fields, kind := strings.Split(before, " "), strings.Split(after, " ")
	if !parted || len(fields) < 6 || kind[0] == "" {
		return mount{}, bad
	}
	m := mount{dev: fields[2], root: unescape(fields[3]), point: unescape(fields[4]), kind: kind[0]}
	var idErr, parentErr error
	m.id, idErr = strconv.Atoi(fields[0])
	m.parent, parentErr = strconv.Atoi(fields[1])
	if idErr != nil || parentErr != nil {
		return mount{}, bad
	}
	for _, field := range fields[6:] {
		tag, number, _ := strings.Cut(field, ":")
		group, err := strconv.Atoi(number)
		switch {
		case err != nil: // "unbindable", and what later kernels may say
		case tag == "shared":
			m.shared = group
		case tag == "master":
			m.master = group
		case tag == "propagate_from":
			m.from = group
		}
	}
	return m, nil
}

// unescape undoes what the kernel does to blanks, tabs, line breaks, backslashes and # in paths: \040.
func unescape(text string) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(text, '\\')
		if i < 0 || i+4 > len(text) {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(text[:i])
		if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
			out.WriteByte(byte(code))
		} else {
			out.WriteString(text[i : i+4])
		}
		text = text[i+4:]
	}
}

// covers reports whether path is point or below it.
func covers(point, path string) bool {
	return point == path || point == "/" || strings.HasPrefix(path, point+"/")
}

// mountAt is the mount that a path leads to: it walks as the kernel does, from the root, into whatever is mounted on the way. So a
// mount that another one hides is not found, be it on the same folder or on one above.
func mountAt(all []mount, path string) (mount, bool) {
	known := map[int]bool{}
	for _, m := range all {
		known[m.id] = true
	}
	var here mount
	found := false
	for _, m := range all {
		if m.point == "/" && (!known[m.parent] || m.parent == m.id) {
			here, found = m, true
		}
	}
	seen := map[int]bool{}
	for found && !seen[here.id] {
		seen[here.id] = true
		next, deeper := mount{}, false
		for _, m := range all {
			inside := m.parent == here.id && m.id != here.id && covers(here.point, m.point) && covers(m.point, path)
			if inside && (!deeper || len(m.point) < len(next.point)) {
				next, deeper = m, true
			}
		}
		if !deeper {
			break
		}
		here = next
	}
	return here, found
}

// mountOn is the mount that stands on exactly this path.
func mountOn(all []mount, path string) (mount, bool) {
	m, found := mountAt(all, path)
	return m, found && m.point == path
}

// mounts are those of the mount namespace that this process is in.
func (h Host) mounts() ([]mount, error) {
	text, err := os.ReadFile(h.path("/proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read what is mounted: %w", err)
	}
	return parseMounts(text)
}

// realPath resolves the links in a path whose last parts may be missing: mountinfo knows no links.
func realPath(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	if path == "/" || path == "." {
		return path
	}
	return filepath.Join(realPath(filepath.Dir(path)), filepath.Base(path))
}

// mountOptions are those that data needs, and no more: nothing on a database's disk is a device or a program.
func mountOptions(filesystem string) string {
	if filesystem == Ext4 {
		return "nodev,nosuid,noexec,errors=remount-ro"
	}
	return "nodev,nosuid,noexec"
}

func (v Volume) filesystem() string {
	if v.Filesystem == "" {
		return Ext4
	}
	return v.Filesystem
}

func (h Host) mount(ctx context.Context, v Volume, device, point string) error {
	kind := v.filesystem()
	_, err := h.run(ctx, Command{Args: []string{"mount", "-t", kind, "-o", mountOptions(kind), device, point}})
	return err
}

func (h Host) unmount(ctx context.Context, point string) error {
	_, err := h.run(ctx, Command{Args: []string{"umount", point}})
	return err
}

// checkFilesystem repairs what is safe to repair. xfs has no such program: its mount replays the log, and refuses what is damaged.
func (h Host) checkFilesystem(ctx context.Context, v Volume, device string) error {
	if v.filesystem() != Ext4 {
		return nil
	}
	c := Command{Args: []string{"fsck.ext4", "-p", device}}
	out, err := h.try(ctx, c)
	if err != nil {
		return err
	}
	const corrected = 1 // fsck(8): bits; all others leave something to do
	if out.Code&^corrected != 0 {
		if len(bytes.TrimSpace(out.Stderr)) == 0 {
			out.Stderr = out.Stdout
		}
		return holdfast.WithHint(fmt.Errorf("check the file system of volume %s: %w", v.Name, out.failed(c)), "it needs a person: take a header backup and a copy of the device first, then open it with cryptsetup and run fsck by hand; or restore from a backup")
	}
	return nil
}

// checkWrites proves that what is written below dir arrives, and comes back.
func checkWrites(dir string) (err error) {
	f, err := os.CreateTemp(dir, ".holdfast-write-check-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	want, got := make([]byte, 4096), make([]byte, 4096)
	_, _ = rand.Read(want) // never fails, says crypto/rand
	if _, err := f.Write(want); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.ReadAt(got, 0); err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return fmt.Errorf("%s does not have the bytes that were written to it", f.Name())
	}
	return nil
}

// bare reads what a mount point holds while nothing is mounted on it; a missing one holds nothing.
func bare(point string) ([]string, error) {
	dir, err := os.Open(point)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look into the mount point: %w", err)
	}
	names, err := dir.Readdirnames(-1)
	return names, errors.Join(err, dir.Close())
}
