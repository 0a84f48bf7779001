package files

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// Target says where a restore goes.
type Target struct {
	// Dir is the folder that takes the restored tree: a member "etc/nginx" comes to Dir/etc/nginx.
	Dir string
	// Overwrite lets the restored tree take the place of a Dir that is not empty. The old one is kept as KeepAs.
	Overwrite bool
	// KeepAs is where an overwritten Dir is moved to, on the same file system. Default: Dir.before_<time, UTC>.
	KeepAs string
	// Only restores these files and folders (with what lies in them), named as in the facts. Default: everything.
	Only []string
	// Secret restores files with mode 0600 and folders with 0700, whatever they had. A stored source that is secret
	// is restored so in any case.
	Secret bool
	// Warn is told of what killed restores to the same place left and what became of it; nil: nobody is.
	Warn func(message string)
}

// Place is a staging folder. What it cannot set (owners without root, devices in a drill, modes of a secret) is
// compared as the archive tells it, and said in the notes of Check.
type Place struct {
	dir       string // the final place; "" for a drill, and for one of several that make up an [InPlace]
	overwrite bool
	keepAs    string
	only      []string
	secret    bool
	asWas     bool // a secret gets the modes it had
	drill     bool

	shell    *staging // nil for a drill
	staging  string   // the folder that is filled
	root     *os.Root
	restored bool
	moved    []move
	landed   map[string]*landed // by member
	group    map[string]string  // of hard links, by fact name
	selected func(name string) bool
	changed  map[string]bool                          // fact names of what changed while it was stored
	unset    map[string]int                           // what could not be set, and how often
	adapt    func(*tar.Header) (skip bool, err error) // nil: the archive is one of ours
}

var (
	_ source.Place      = (*Place)(nil)
	_ source.Reversible = (*Place)(nil)
	_ source.Reversible = (*InPlace)(nil)
)

// Open prepares a restore to target. It refuses a target that is not empty, unless it may be overwritten.
func Open(ctx context.Context, target Target) (*Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(target.Dir)
	if target.Dir == "" || err != nil || dir == "/" {
		return nil, holdfast.WithHint(fmt.Errorf("%w: %q is no folder to restore to", holdfast.ErrUsage, target.Dir),
			"name a new folder")
	}
	if _, err := occupied(dir, target.Overwrite); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("create the parent of %s: %w", dir, err)
	}
	tell := target.Warn
	if tell == nil {
		tell = func(string) {}
	}
	if err := tidy(dir, tell); err != nil {
		return nil, err
	}
	p, err := stageBeside(dir)
	if err != nil {
		return nil, err
	}
	p.dir, p.overwrite, p.keepAs = dir, target.Overwrite, target.KeepAs
	p.only, p.secret = target.Only, target.Secret
	return p, nil
}

// Throwaway prepares a drill of stored in a new folder below scratch. Nothing in it keeps a set-user-ID bit, and
// devices are not made. An error wraps [holdfast.ErrCannotTest].
func Throwaway(ctx context.Context, scratch string, stored source.Stored) (*Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	need := int64(len(stored.Facts.Facts)) * 4096
	for _, item := range stored.Items {
		need += item.Size
	}
	var room unix.Statfs_t
	if err := unix.Statfs(scratch, &room); err != nil {
		return nil, fmt.Errorf("%w: look at scratch folder %s: %w", holdfast.ErrCannotTest, scratch, err)
	}
	// A file system without a size, such as ramfs, does not tell.
	if free := int64(room.Bavail) * room.Bsize; room.Blocks > 0 && free < need {
		return nil, holdfast.WithHint(fmt.Errorf("%w: scratch folder %s has %d bytes free and the drill of %s needs %d",
			holdfast.ErrCannotTest, scratch, free, stored.Source, need), "name a larger scratch folder")
	}
	p, err := stage(filepath.Join(scratch, "files_"+token()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err)
	}
	p.drill = true
	return p, nil
}

// stageBeside makes a staging folder from which a rename leads to target.
func stageBeside(target string) (*Place, error) {
	shell, err := newStaging(target)
	if err != nil {
		return nil, err
	}
	p, err := stage(shell.tree())
	if err != nil {
		return nil, errors.Join(err, shell.remove())
	}
	p.shell = shell
	return p, nil
}

func stage(path string) (*Place, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("create staging folder: %w", err)
	}
	// A default list of the parent would be inherited by everything below.
	for _, name := range []string{aclDefault, aclAccess} {
		err := unix.Lremovexattr(path, name)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return nil, errors.Join(fmt.Errorf("clear access control list of %s: %w", path, err), os.Remove(path))
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open staging folder: %w", err), os.Remove(path))
	}
	return &Place{staging: path, root: root, landed: map[string]*landed{}, changed: map[string]bool{}, unset: map[string]int{}}, nil
}

// occupied returns what stands at dir, nil for nothing or an empty folder. It fails when that may not be replaced.
func occupied(dir string, overwrite bool) (fs.FileInfo, error) {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at target: %w", err)
	}
	if !info.IsDir() {
		return nil, holdfast.WithHint(fmt.Errorf("target %s is not a folder", dir), "name a new folder, or a link's target")
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("look at target: %w", err)
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("look at target: %w", err)
	}
	if !overwrite {
		return nil, holdfast.WithHint(fmt.Errorf("target %s is not empty", dir),
			"restore to a new folder, or ask for an overwrite: the old folder is kept beside it")
	}
	return info, nil
}

// Check reads the staging folder with the code that captures. With Target.Only it covers what was selected; compare
// it with [Place.Selected] of the stored facts.
func (p *Place) Check(ctx context.Context) (facts source.Facts, err error) {
	if !p.restored {
		return facts, errors.New("check restored files: nothing was restored")
	}
	scan := &pass{
		trees:   []tree{{p.staging, "."}},
		warn:    func(string) {},
		wasRead: func(string) {},
		whole:   func() error { return nil },
	}
	s := scan.start(ctx)
	_, err = io.Copy(io.Discard, s)
	if err := errors.Join(err, s.Close()); err != nil {
		return facts, fmt.Errorf("read restored files back: %w", err)
	}
	records := scan.records[:0]
	for _, r := range scan.records {
		l := p.landed[r.name]
		if l == nil {
			if r.name != "." {
				records = append(records, r)
			}
			continue
		}
		if !l.implicit {
			l.adopt(&r)
			r.changed = p.changed[factName(r.name)]
			records = append(records, r)
		}
	}
	for _, l := range p.landed {
		if l.absent {
			records = append(records, l.recorded)
		}
	}
	slices.SortFunc(records, func(a, b record) int { return strings.Compare(a.name, b.name) })
	if facts, err = makeFacts(records, scan.taken); err != nil {
		return facts, err
	}
	facts.Notes = scan.notes
	for what, count := range p.unset {
		facts.Notes = append(facts.Notes, fmt.Sprintf("%s on %d entries: compared as stored", what, count))
	}
	slices.Sort(facts.Notes)
	return facts, nil
}

// Selected returns those of the stored facts that a restore with Target.Only brings back, with hard links told as
// they are among these alone. Without Only, or before Restore, it returns all.
func (p *Place) Selected(facts []source.Fact) []source.Fact {
	if p.selected == nil {
		return facts
	}
	var chosen []source.Fact
	least, count := map[string]string{}, map[string]int{}
	for _, fact := range facts {
		if fact.Class != class || !p.selected(fact.Name) {
			continue
		}
		chosen = append(chosen, fact)
		if set, linked := p.group[fact.Name]; linked {
			if count[set]++; count[set] == 1 || fact.Name < least[set] {
				least[set] = fact.Name
			}
		}
	}
	for i := range chosen {
		set, linked := p.group[chosen[i].Name]
		if !linked {
			continue
		}
		text := ""
		if count[set] > 1 {
			text = linkText(least[set])
		}
		if at := strings.LastIndex(chosen[i].Text, linkText(set)); at >= 0 {
			chosen[i].Text = chosen[i].Text[:at] + text + chosen[i].Text[at+len(linkText(set)):]
		}
	}
	return chosen
}

// Commit makes what was restored durable and moves it to the final place.
func (p *Place) Commit(ctx context.Context) (string, error) {
	switch {
	case p.drill:
		return "", errors.New("a drill has no final place")
	case !p.restored:
		return "", errors.New("commit restored files: nothing was restored")
	case ctx.Err() != nil:
		return "", ctx.Err()
	}
	old, err := occupied(p.dir, p.overwrite)
	if err != nil {
		return "", err
	}
	if err := p.finishTop(old); err != nil {
		return "", err
	}
	m, err := newMove(p.staging, p.dir, func() (string, error) {
		if p.keepAs == "" {
			return keptName(p.dir, time.Now())
		}
		if _, err := os.Lstat(p.keepAs); !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("keep the old folder as %s: %w", p.keepAs, cmpError(err, fs.ErrExist))
		}
		return p.keepAs, nil
	})
	if err != nil {
		return "", err
	}
	if err := commit(map[*staging][]move{p.shell: {m}}); err != nil {
		return "", err
	}
	p.moved = []move{m}
	return "files are in " + p.dir + m.keptText(), nil
}

// finishTop gives the top folder the mode and owner of the one it replaces, when the archive does not tell.
func (p *Place) finishTop(old fs.FileInfo) error {
	if p.landed["."] != nil {
		return nil
	}
	top, err := os.Open(p.staging)
	if err != nil {
		return fmt.Errorf("finish %s: %w", p.staging, err)
	}
	defer top.Close()
	mode := fs.FileMode(0o755)
	if old != nil {
		mode = old.Mode() & (fs.ModePerm | fs.ModeSetgid | fs.ModeSticky)
		var st unix.Stat_t
		if err := unix.Lstat(p.dir, &st); err != nil {
			return fmt.Errorf("finish %s: %w", p.staging, err)
		}
		if err := top.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("finish %s: %w", p.staging, err)
		}
	}
	if p.secret {
		mode = 0o700
	}
	if err := top.Chmod(mode); err != nil {
		return fmt.Errorf("finish %s: %w", p.staging, err)
	}
	return nil
}

func syncFilesystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Close removes staging that was not committed.
func (p *Place) Close() error {
	if p.root == nil {
		return nil
	}
	err := p.root.Close()
	p.root = nil
	if p.shell != nil {
		err = errors.Join(err, p.shell.remove())
	} else {
		err = errors.Join(err, os.RemoveAll(p.staging))
	}
	if err != nil {
		return fmt.Errorf("remove staging: %w", err)
	}
	return nil
}
