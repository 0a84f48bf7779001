package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// stagingMark and 26 letters end the name of a staging file. It is locked (flock) as long as its restore runs.
const stagingMark = ".restoring_"

var stagingName = regexp.MustCompile(`\.restoring_[A-Z2-7]{26}$`)

// stagingOf lists the staging files beside path.
func stagingOf(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), filepath.Base(path)+stagingMark) && stagingName.MatchString(entry.Name()) {
			all = append(all, filepath.Join(filepath.Dir(path), entry.Name()))
		}
	}
	return all, nil
}

// seizeStaging locks a staging file that nobody uses. It reports false for one that is in use, that is gone, or that may not be
// of our making: those are regular files of this user, closed to others.
func seizeStaging(path string) (file *os.File, ours bool, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, true, nil
		}
		return nil, false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode != unix.S_IFREG|0o600 || int(st.Uid) != os.Geteuid() {
		return nil, false, nil
	}
	file, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = nil
		}
		return nil, true, err
	}
	return file, true, nil
}

// removeLeftovers removes what killed restores to path left, and tells of it. What it cannot vouch for it names.
func removeLeftovers(path string, tell func(string)) error {
	all, err := stagingOf(path)
	if err != nil {
		return fmt.Errorf("look for leftovers of restores: %w", err)
	}
	for _, staged := range all {
		file, ours, err := seizeStaging(staged)
		switch {
		case err != nil:
			return fmt.Errorf("look for leftovers of restores: %w", err)
		case !ours:
			tell(fmt.Sprintf("%s looks like the leftover of a restore that was killed; look into it, then: rm %s", staged, source.ShellWord(staged)))
		case file != nil:
			if err := errors.Join(os.Remove(staged), file.Close()); err != nil {
				return fmt.Errorf("remove what a killed restore left: %w", err)
			}
			tell(fmt.Sprintf("removed %s, which a restore that was killed left", staged))
		}
	}
	return nil
}

// leftoverFindings tells doctor of what killed restores to path left.
func leftoverFindings(path string) []source.Finding {
	all, err := stagingOf(path)
	if err != nil {
		return []source.Finding{failure(holdfast.WithHint(fmt.Errorf("look for leftovers of restores: %w", err), "run as the file's owner"))}
	}
	var findings []source.Finding
	for _, staged := range all {
		file, ours, err := seizeStaging(staged)
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		if err == nil && ours && file == nil {
			continue // in use
		}
		findings = append(findings, source.Finding{
			Severity: source.Warns, Message: staged + " was left by a restore that was killed, and holds a copy of the database",
			Fix: "look into it, then: rm " + source.ShellWord(staged),
		})
	}
	return findings
}
