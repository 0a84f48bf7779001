package files

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/source"
)

// staging is the folder NAME.restoring_TOKEN beside a target, for its owner only:
//
//	lock        says what the folder is, and is locked as long as the restore runs
//	tree        what is restored
//	moves.json  what of it goes where, written before the first move
//
// A restore that is killed leaves it behind. The next one to the same target finds by the lock that nobody uses it, and
// removes it, or, when the moves had begun, makes the rest of them: what they move was compared.
type staging struct {
	path   string
	lock   *os.File
	moving bool // moves.json stands, and not all of it is done or undone
}

const (
	lockName  = "lock"
	movesName = "moves.json"
	treeName  = "tree"

	stagingMark = ".restoring_"
	stagingText = "holdfast restores files here; without a process that locks this file, its folder is a leftover\n"
)

// stagingName is what staging looks like from outside.
var stagingName = regexp.MustCompile(`\.restoring_[a-z2-7]{10}$`)

func token() string { return strings.ToLower(rand.Text()[:10]) }

// newStaging makes and locks the staging folder of a target.
func newStaging(target string) (*staging, error) {
	s := &staging{path: target + stagingMark + token()}
	if err := os.Mkdir(s.path, 0o700); err != nil {
		return nil, fmt.Errorf("create staging folder: %w", err)
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("create staging folder: %w", err), s.remove())
	}
	return s, nil
}

func (s *staging) open() error {
	lock, err := os.OpenFile(filepath.Join(s.path, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	s.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	_, err = lock.WriteString(stagingText)
	return err
}

func (s *staging) tree() string { return filepath.Join(s.path, treeName) }

// remove takes the folder away. It refuses while a move is half made: what was at the target may lie in it.
func (s *staging) remove() error {
	if s.lock != nil {
		defer s.lock.Close()
	}
	if s.moving {
		return holdfast.WithHint(fmt.Errorf("%s holds files that are half moved, and is left as it is", s.path),
			"run the same restore again, which finishes the moves")
	}
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return err
	}
	// The lock goes last: it tells whose folder this is.
	for _, entry := range entries {
		if entry.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.path, entry.Name())); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(s.path, lockName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(s.path)
}

// moves is the content of moves.json.
type moves struct {
	Layout int `json:"layout"` // 1
	// Others are the staging folders of the same restore on other file systems. Nothing is moved before each has its
	// moves.json, and none is removed before all moves are made.
	Others []string `json:"others,omitempty"`
	Moves  []move   `json:"moves"`
}

// announce writes down what is about to be moved.
func (s *staging) announce(m moves) error {
	m.Layout = 1
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write down the moves: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(s.path, movesName), data, 0o600); err != nil {
		return fmt.Errorf("write down the moves: %w", err)
	}
	s.moving = true
	return nil
}

// leftover is a staging folder that was found.
type leftover struct {
	*staging
	foreign bool // it is not known to be of our making
	busy    bool // a process restores in it
	moves   *moves
}

// leftovers finds the staging folders of target. What is not busy is locked until release.
func leftovers(target string) ([]leftover, error) {
	entries, err := os.ReadDir(filepath.Dir(target))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for leftovers of restores: %w", err)
	}
	var all []leftover
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), filepath.Base(target)+stagingMark) && stagingName.MatchString(entry.Name()) {
			l, err := look(filepath.Join(filepath.Dir(target), entry.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue // it went away meanwhile
			}
			if err != nil {
				release(all)
				return nil, fmt.Errorf("look at %s: %w", filepath.Join(filepath.Dir(target), entry.Name()), err)
			}
			all = append(all, l)
		}
	}
	return all, nil
}

func release(all []leftover) {
	for _, l := range all {
		if l.lock != nil {
			l.lock.Close()
		}
	}
}

// look finds out what a staging folder is. Whoever could write it could have us move any file, so that only folders of our
// own, closed to others, are believed.
func look(path string) (leftover, error) {
	l := leftover{staging: &staging{path: path}}
	if !ours(path, unix.S_IFDIR|0o700) {
		l.foreign = true
		return l, nil
	}
	if !ours(filepath.Join(path, lockName), unix.S_IFREG|0o600) {
		// An empty one was made or removed in that moment.
		entries, err := os.ReadDir(path)
		l.foreign = len(entries) > 0
		return l, err
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return l, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if l.busy = errors.Is(err, unix.EWOULDBLOCK); l.busy {
			err = nil
		}
		return l, err
	}
	l.lock = lock
	data, err := os.ReadFile(filepath.Join(path, movesName))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	var m moves
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil && m.Layout != 1 {
		err = fmt.Errorf("its moves were written by a newer version (layout %d)", m.Layout)
	}
	if err != nil {
		lock.Close()
		return l, fmt.Errorf("read %s: %w", movesName, err)
	}
	l.moves, l.moving = &m, true
	return l, nil
}

// ours reports whether path is of a type and mode and belongs to the user of this process.
func ours(path string, mode uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && int(st.Uid) == os.Geteuid() && st.Mode&(unix.S_IFMT|0o777) == mode
}

// begun reports whether moves may have been made: only when every other staging folder of that restore that still stands
// had its moves.json too.
func (m *moves) begun() bool {
	for _, other := range m.Others {
		if _, err := os.Lstat(other); err != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(other, movesName)); err != nil {
			return false
		}
	}
	return true
}

// tidy deals with what killed restores to target left. It fails when one still runs.
func tidy(target string, tell func(string)) error {
	all, err := leftovers(target)
	if err != nil {
		return err
	}
	defer release(all)
	for _, l := range all {
		switch {
		case l.busy:
			return holdfast.WithHint(fmt.Errorf("%w: a restore to %s is under way", holdfast.ErrBusy, target), "wait for it to end")
		case l.foreign:
			tell(fmt.Sprintf("%s looks like the leftover of a restore and belongs to somebody else; look into it, then: rm -r %s", l.path, source.ShellWord(l.path)))
		case l.moves != nil && l.moves.begun():
			if err := l.finish(tell); err != nil {
				return err
			}
		default:
			l.moving = false
			if err := l.remove(); err != nil {
				return fmt.Errorf("remove what a killed restore left: %w", err)
			}
			tell(fmt.Sprintf("removed %s, which a restore that was killed left", l.path))
		}
	}
	return nil
}

// finish makes the moves that a killed restore did not come to, here and on other file systems.
func (l leftover) finish(tell func(string)) error {
	group := []leftover{l}
	for _, path := range l.moves.Others {
		other, err := look(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && other.foreign {
			continue
		}
		if err != nil || other.busy || other.moves == nil {
			return errors.Join(err, fmt.Errorf("finish what a killed restore began: %s is in use or not as it was left", path))
		}
		defer other.lock.Close()
		group = append(group, other)
	}
	for _, one := range group {
		for _, m := range one.moves.Moves {
			if err := m.make(); err != nil {
				return holdfast.WithHint(fmt.Errorf("finish what a killed restore began: %w", err),
					fmt.Sprintf("what was restored and what was there are in %s and beside the target: put them where they belong by hand, then remove that folder", one.path))
			}
			tell(fmt.Sprintf("a restore was killed while it put %s in place: that is done now%s", m.Target, m.keptText()))
		}
	}
	for _, one := range group {
		one.moving = false
		if err := one.remove(); err != nil {
			return fmt.Errorf("remove what a killed restore left: %w", err)
		}
	}
	return nil
}

// leftoverFinding tells doctor of a staging folder.
func leftoverFinding(path string) (source.Finding, bool) {
	l, err := look(path)
	release([]leftover{l})
	finding := source.Finding{Severity: source.Warns}
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && l.busy:
		return finding, false
	case err != nil:
		finding.Message = fmt.Sprintf("%s may be the leftover of a restore: %v", path, err)
		finding.Fix = "look into it"
	case l.foreign:
		finding.Message = fmt.Sprintf("%s looks like the leftover of a restore", path)
		finding.Fix = "look into it, then: rm -r " + source.ShellWord(path)
	case l.moves != nil && l.moves.begun():
		finding.Message = fmt.Sprintf("a restore was killed while it moved files from %s into place", path)
		finding.Fix = "run the same restore again, which finishes the moves; do not remove it before"
	default:
		finding.Message = fmt.Sprintf("%s was left by a restore that was killed, and holds what it restored", path)
		finding.Fix = "rm -r " + source.ShellWord(path)
	}
	return finding, true
}

// move gives what is staged its final name. It can be made again after it was cut short at any point.
type move struct {
	Staged string `json:"staged"`
	Target string `json:"target"`
	Kept   string `json:"kept,omitempty"` // the name that what is at Target gets; "" when nothing is there
	Device uint64 `json:"device"`         // of what is staged, by which it is known wherever it is
	Inode  uint64 `json:"inode"`
}

// newMove looks at what is staged and what is at the target. kept is asked for only when something is there.
func newMove(staged, target string, kept func() (string, error)) (move, error) {
	m := move{Staged: staged, Target: target}
	var st unix.Stat_t
	if err := unix.Lstat(staged, &st); err != nil {
		return m, fmt.Errorf("look at what was restored: %w", &fs.PathError{Op: "lstat", Path: staged, Err: err})
	}
	m.Device, m.Inode = st.Dev, st.Ino
	vacant, err := vacant(target, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil || vacant {
		return m, err
	}
	m.Kept, err = kept()
	return m, err
}

// vacant reports whether nothing is at path, or, for a folder that is to go there, an empty one.
func vacant(path string, folder bool) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil || !info.IsDir() || !folder {
		return false, err
	}
	entries, err := os.ReadDir(path)
	return len(entries) == 0, err
}

func (m move) keptText() string {
	if m.Kept == "" {
		return ""
	}
	if _, err := os.Lstat(m.Kept); err != nil {
		return ""
	}
	return ", what was there before is in " + m.Kept
}

// is reports whether what is at path is what was staged.
func (m move) is(path string) (bool, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return st.Dev == m.Device && st.Ino == m.Inode, nil
}

// make makes the move. At no moment is there nothing at the target, where the file system can exchange names.
func (m move) make() error {
	placed, err := m.is(m.Target)
	if err != nil {
		return err
	}
	if !placed {
		staged, err := m.is(m.Staged)
		if err != nil {
			return err
		}
		if !staged {
			return fmt.Errorf("what was restored is neither at %s nor at %s", m.Target, m.Staged)
		}
		if err := m.exchange(); err != nil {
			return err
		}
	}
	if m.Kept == "" {
		return nil
	}
	if _, err := os.Lstat(m.Staged); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return renameNew(m.Staged, m.Kept)
}

// exchange puts the staged one at the target, and what was there where the staged one was, or under its kept name.
func (m move) exchange() error {
	if m.Kept == "" {
		if info, err := os.Lstat(m.Staged); err == nil && info.IsDir() {
			// Of folders it replaces an empty one and nothing else.
			if err := unix.Rename(m.Staged, m.Target); err != nil {
				return &os.LinkError{Op: "rename", Old: m.Staged, New: m.Target, Err: err}
			}
			return nil
		}
		return renameNew(m.Staged, m.Target)
	}
	err := unix.Renameat2(unix.AT_FDCWD, m.Staged, unix.AT_FDCWD, m.Target, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT): // nothing is at the target any more
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		if err := renameNew(m.Target, m.Kept); err != nil {
			return err
		}
	default:
		return &os.LinkError{Op: "rename", Old: m.Staged, New: m.Target, Err: err}
	}
	return renameNew(m.Staged, m.Target)
}

// undo takes the move back, as far as it came.
func (m move) undo() error {
	placed, err := m.is(m.Target)
	if err != nil {
		return err
	}
	if placed {
		old := m.Staged
		if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
			if err := renameNew(m.Target, m.Staged); err != nil {
				return err
			}
			old = m.Kept
		} else if err := unix.Renameat2(unix.AT_FDCWD, m.Staged, unix.AT_FDCWD, m.Target, unix.RENAME_EXCHANGE); err == nil {
			return nil
		} else {
			return &os.LinkError{Op: "rename", Old: m.Target, New: m.Staged, Err: err}
		}
		if old == "" {
			return nil
		}
	}
	if m.Kept == "" {
		return nil
	}
	if err := renameNew(m.Kept, m.Target); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// renameNew renames and never replaces.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: cmpError(err, fs.ErrExist)}
		}
		return os.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func cmpError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// commit makes all moves of one restore, or none.
func commit(all map[*staging][]move) error {
	for s := range all {
		if err := syncFilesystem(s.path); err != nil {
			return fmt.Errorf("sync restored files: %w", err)
		}
	}
	for s, list := range all {
		m := moves{Moves: list}
		for other := range all {
			if other != s {
				m.Others = append(m.Others, other.path)
			}
		}
		if err := s.announce(m); err != nil {
			return errors.Join(err, withdraw(all))
		}
	}
	var made []move
	for _, list := range all {
		for _, m := range list {
			made = append(made, m)
			if err := m.make(); err != nil {
				err = fmt.Errorf("move restored files to %s: %w", m.Target, err)
				if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) {
					err = holdfast.WithHint(err, "a mount point cannot be replaced: restore to a folder in it")
				}
				for i := range made {
					if undoErr := made[len(made)-1-i].undo(); undoErr != nil {
						return errors.Join(err, fmt.Errorf("take back what was moved: %w", undoErr))
					}
				}
				return errors.Join(err, withdraw(all))
			}
		}
	}
	synced := map[string]bool{}
	for _, m := range made {
		for _, folder := range []string{filepath.Dir(m.Target), filepath.Dir(m.Staged)} {
			if synced[folder] {
				continue
			}
			synced[folder] = true
			if err := syncFolder(folder); err != nil {
				return err
			}
		}
	}
	for s := range all {
		s.moving = false
	}
	return nil
}

// withdraw takes the written moves back: none of them stands.
func withdraw(all map[*staging][]move) error {
	var errs []error
	for s := range all {
		err := os.Remove(filepath.Join(s.path, movesName))
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			s.moving = false
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keptName is the name that what stands at target is kept under.
func keptName(target string, now time.Time) (string, error) {
	return durable.FreeName(target + ".before_" + now.UTC().Format("20060102T150405Z"))
}
