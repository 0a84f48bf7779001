package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// parent is a folder above a root: what a restore in place makes it with, where it is missing.
type parent struct {
	Mode  uint32 `json:"mode"` // the lower twelve bits
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"`
	User  string `json:"user,omitempty"`
	Group string `json:"group,omitempty"`
}

// placed adds to the driver's facts where the trees lay. A folder above them that is a link is left out: what it leads to
// is not known to be wanted.
func placed(driver []byte, trees []tree, names *owners) ([]byte, error) {
	var d driverFacts
	if err := json.Unmarshal(driver, &d); err != nil {
		return nil, fmt.Errorf("encode roots: %w", err)
	}
	d.Parents = map[string]parent{}
	for _, t := range trees {
		d.Roots = append(d.Roots, factName(t.member))
		for dir := filepath.Dir(t.path); dir != "/"; dir = filepath.Dir(dir) {
			var st unix.Stat_t
			if err := unix.Lstat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue
			}
			p := parent{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid}
			p.User, p.Group = names.names(st.Uid, st.Gid)
			d.Parents[factName(strings.TrimPrefix(dir, "/"))] = p
		}
	}
	return json.Marshal(d)
}

// Unit is what a restore in place puts back as a whole: a root, or a file or folder that was asked for.
type Unit struct {
	Path   string // where it was, and goes
	Exists bool   // something is there, which gives way and is kept under another name
}

// InPlaceTarget says what goes back.
type InPlaceTarget struct {
	// Only are files and folders as in [Target.Only]. Default: every root that the backup has.
	Only []string
	// Now stands in the names that what was there is kept under; default: the time of Commit.
	Now time.Time
	// Warn is told of what killed restores to the same place left and what became of it; nil: nobody is.
	Warn func(message string)
}

// InPlace puts files back where they were: all of them are staged, on the file systems that they go to, and compared, and
// then each root takes the place of what stands there by a rename. Nothing above a root changes; a folder above it that is
// missing is made as it was.
//
// Modes are as they were, for secrets too: so are their owners and places. Without root a secret is for its owner alone.
type InPlace struct {
	target  InPlaceTarget
	units   []unit
	parents map[string]parent
	groups  []*Place // one for each file system
	moved   []move
}

var _ source.Place = (*InPlace)(nil)

// unit is a Unit on its way.
type unit struct {
	Unit
	member string
	real   string // its path without symbolic links in what is above it
	above  string // the nearest folder above it that exists
	mount  int    // of that folder
	beside string // what its staging folder is named after
}

// Units tells what a restore in place of stored would put where. It fails when that cannot be done: for a source whose root
// is /, and for what is a mount point, a symbolic link or above another file system now.
func Units(stored source.Stored, only []string) ([]Unit, error) {
	units, _, err := unitsOf(stored, only)
	var all []Unit
	for _, u := range units {
		all = append(all, u.Unit)
	}
	return all, err
}

func unitsOf(stored source.Stored, only []string) ([]unit, map[string]parent, error) {
	var driver driverFacts
	if len(stored.Facts.Driver) > 0 {
		if err := json.Unmarshal(stored.Facts.Driver, &driver); err != nil {
			return nil, nil, fmt.Errorf("%w: read where the files were: %w", holdfast.ErrDifference, err)
		}
	}
	members := membersOf(stored)
	chosen, err := chooseMembers(members, only)
	if err != nil {
		return nil, nil, err
	}
	table, err := readMounts()
	if err != nil {
		return nil, nil, err
	}
	var units []unit
	for _, member := range chosen {
		u, err := locate(member, table)
		if err != nil {
			return nil, nil, err
		}
		u.beside = u.besideRoot(members, table)
		units = append(units, u)
	}
	return units, driver.Parents, nil
}

func membersOf(stored source.Stored) map[string]bool {
	members := make(map[string]bool, len(stored.Facts.Facts))
	for _, fact := range stored.Facts.Facts {
		if fact.Class == class {
			members[memberName(fact.Name)] = true
		}
	}
	return members
}

// chooseMembers returns the topmost members that were asked for, all topmost ones when nothing was.
func chooseMembers(members map[string]bool, only []string) ([]string, error) {
	if members["."] && len(only) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: the root of this source is /, which cannot be put in place while the system runs", holdfast.ErrUsage),
			"name what is to go back with --path, or restore to a folder with --to from a rescue system")
	}
	inside := func(member, folder string) bool { return folder == "." || strings.HasPrefix(member, folder+"/") }
	var wanted []string
	for member := range members {
		if len(only) == 0 {
			wanted = append(wanted, member)
		}
	}
	for _, want := range only {
		want = memberName(strings.Trim(want, "/"))
		if members[want] {
			wanted = append(wanted, want)
			continue
		}
		hit := false
		for member := range members {
			if inside(member, want) {
				wanted, hit = append(wanted, member), true
			}
		}
		if !hit {
			return nil, holdfast.WithHint(fmt.Errorf("%w: the backup has no file and no folder %q", holdfast.ErrUsage, want), "`holdfast show` lists what there is")
		}
	}
	slices.Sort(wanted)
	chosen := map[string]bool{}
	for _, member := range wanted { // a folder sorts before what lies in it
		above := path.Dir(member)
		for above != "." && !chosen[above] {
			above = path.Dir(above)
		}
		if !chosen[above] {
			chosen[member] = true
		}
	}
	var topmost []string
	for member := range chosen {
		if !filepath.IsLocal(member) || path.Clean(member) != member || member == "." {
			return nil, bad("%s: its path is not a plain one", factName(member))
		}
		topmost = append(topmost, member)
	}
	slices.Sort(topmost)
	return topmost, nil
}

// locate looks where a member goes.
func locate(member string, table mounts) (unit, error) {
	u := unit{Unit: Unit{Path: "/" + member}, member: member}
	u.above = filepath.Dir(u.Path)
	var rest []string
	for {
		info, err := os.Stat(u.above)
		if err == nil && !info.IsDir() {
			return u, holdfast.WithHint(fmt.Errorf("%s is no folder any more", u.above), "move it away, or restore to another folder with --to")
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return u, fmt.Errorf("look at %s: %w", u.above, err)
		}
		if _, err := os.Lstat(u.above); err == nil {
			return u, holdfast.WithHint(fmt.Errorf("%s is a symbolic link that leads nowhere", u.above), "remove it, or restore to another folder with --to")
		}
		rest = append([]string{filepath.Base(u.above)}, rest...)
		u.above = filepath.Dir(u.above)
	}
	real, err := filepath.EvalSymlinks(u.above)
	if err != nil {
		return u, fmt.Errorf("look at %s: %w", u.above, err)
	}
	u.above = real
	u.real = filepath.Join(append(append([]string{real}, rest...), filepath.Base(u.Path))...)
	u.mount = table.of(real)
	info, err := os.Lstat(u.real)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, fmt.Errorf("look at %s: %w", u.Path, err)
	}
	u.Exists = true
	if info.Mode().Type() == fs.ModeSymlink {
		return u, holdfast.WithHint(fmt.Errorf("%s is a symbolic link now, and what was backed up was none", u.Path),
			"remove the link, or restore to another folder with --to")
	}
	if point, found := table.below(u.real); found {
		hint := "unmount it for the time of the restore, or restore what lies beside it with --path"
		if point == u.real {
			hint = "restore what lies in it with --path, or to another folder with --to"
		}
		return u, holdfast.WithHint(fmt.Errorf("%s cannot be replaced: another file system is mounted on %s", u.Path, point), hint)
	}
	return u, nil
}

// besideRoot is a path on the file system of the unit to stage beside: its root's, where programs do not look for files of
// theirs, else its own or that of the uppermost folder that has to be made for it.
func (u unit) besideRoot(members map[string]bool, table mounts) string {
	root := u.member
	for up := path.Dir(u.member); up != "."; up = path.Dir(up) {
		if members[up] {
			root = up
		}
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir("/" + root)); err == nil && table.of(dir) == u.mount {
		return filepath.Join(dir, path.Base(root))
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.real, strings.TrimSuffix(u.above, "/")+"/"), "/")
	return filepath.Join(u.above, first)
}

// OpenInPlace prepares a restore of stored to where it was. It finishes or removes what a killed one left there.
func OpenInPlace(ctx context.Context, stored source.Stored, target InPlaceTarget) (*InPlace, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if stored.Kind != holdfast.KindFiles {
		return nil, fmt.Errorf("%w: source %s is of kind %s, not files", holdfast.ErrUsage, stored.Source, stored.Kind)
	}
	if target.Warn == nil {
		target.Warn = func(string) {}
	}
	units, _, err := unitsOf(stored, target.Only)
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		if err := tidy(u.beside, target.Warn); err != nil {
			return nil, err
		}
	}
	p := &InPlace{target: target}
	// What was tidied may stand where nothing stood.
	if p.units, p.parents, err = unitsOf(stored, target.Only); err != nil {
		return nil, err
	}
	if err := p.stage(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// stage makes one staging folder for each file system.
func (p *InPlace) stage() error {
	at := map[int]int{} // groups by mount
	for _, u := range p.units {
		i, known := at[u.mount]
		if !known {
			group, err := stageBeside(u.beside)
			if err != nil {
				return err
			}
			group.asWas = os.Geteuid() == 0
			i, at[u.mount] = len(p.groups), len(p.groups)
			p.groups = append(p.groups, group)
		}
		p.groups[i].only = append(p.groups[i].only, factName(u.member))
	}
	return nil
}

// Restore extracts the stored tar into staging, once for each file system.
func (p *InPlace) Restore(ctx context.Context, stored source.Stored) error {
	for _, group := range p.groups {
		if err := group.Restore(ctx, stored); err != nil {
			return err
		}
	}
	return nil
}

// Check reads the staging folders with the code that captures.
func (p *InPlace) Check(ctx context.Context) (source.Facts, error) {
	var all source.Facts
	seen := map[string]bool{}
	for i, group := range p.groups {
		facts, err := group.Check(ctx)
		if err != nil {
			return facts, err
		}
		list := facts.Facts
		if i == 0 {
			all, all.Facts = facts, nil
		} else {
			all.Notes = append(all.Notes, facts.Notes...)
		}
		all.Facts = append(all.Facts, unseen(list, seen)...)
	}
	return all, nil
}

// unseen leaves out folders that several groups have because of what lies in them.
func unseen(list []source.Fact, seen map[string]bool) []source.Fact {
	return slices.DeleteFunc(slices.Clone(list), func(fact source.Fact) bool {
		again := seen[fact.Name]
		seen[fact.Name] = true
		return again
	})
}

// Selected returns those of the stored facts that go back, as [Place.Selected].
func (p *InPlace) Selected(facts []source.Fact) []source.Fact {
	var chosen []source.Fact
	seen := map[string]bool{}
	for _, group := range p.groups {
		chosen = append(chosen, unseen(group.Selected(facts), seen)...)
	}
	return chosen
}

// Commit moves every unit to its place. Either all of them take it or none; a run that is killed in between is finished by
// the next restore to the same place.
func (p *InPlace) Commit(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	table, err := readMounts()
	if err != nil {
		return "", err
	}
	now := p.target.Now
	if now.IsZero() {
		now = time.Now()
	}
	all := map[*staging][]move{}
	var listed []move
	var made []string
	err = func() error {
		taken := map[string]bool{}
		for _, u := range p.units {
			group := p.groupOf(u)
			if group == nil || !group.restored {
				return errors.New("commit restored files: nothing was restored")
			}
			// What came to stand there meanwhile is looked at again.
			again, err := locate(u.member, table)
			if err != nil {
				return err
			}
			if again.Exists && !u.Exists || again.mount != u.mount {
				return holdfast.WithHint(fmt.Errorf("%s has come to exist meanwhile", u.Path), "run the restore again")
			}
			staged, target, folders := p.uppermost(again, group)
			if taken[target] {
				continue
			}
			taken[target] = true
			for _, dir := range folders {
				if err := p.makeParent(dir); err != nil {
					return err
				}
				made = append(made, dir)
			}
			m, err := newMove(staged, target, func() (string, error) { return keptName(target, now) })
			if err != nil {
				return err
			}
			all[group.shell] = append(all[group.shell], m)
			listed = append(listed, m)
		}
		return commit(all)
	}()
	if err != nil {
		for _, dir := range slices.Backward(made) {
			// One in which something was put meanwhile is no longer ours alone.
			_ = os.Remove(dir)
		}
		return "", err
	}
	var said []string
	for _, m := range listed {
		said = append(said, m.Target+m.keptText())
	}
	p.moved = listed
	return "files are back in place: " + strings.Join(said, "; "), nil
}

func (p *InPlace) groupOf(u unit) *Place {
	for _, group := range p.groups {
		if slices.Contains(group.only, factName(u.member)) {
			return group
		}
	}
	return nil
}

// uppermost returns what is moved to bring u to its place. Where folders above it are missing, those that the archive has
// were restored with all their attributes, and go with it; the others are to be made.
func (p *InPlace) uppermost(u unit, group *Place) (staged, target string, folders []string) {
	member, target := u.member, u.real
	var above []string // missing folders, the innermost first
	for dir := filepath.Dir(u.real); dir != u.above && len(dir) > len(u.above); dir = filepath.Dir(dir) {
		above = append(above, dir)
	}
	for i, dir := range above {
		up := path.Dir(member)
		if l := group.landed[up]; l == nil || l.implicit {
			folders = slices.Clone(above[i:])
			slices.Reverse(folders)
			break
		}
		member, target = up, dir
	}
	return filepath.Join(group.staging, member), target, folders
}

// makeParent makes a folder that a root lies in, as it was.
func (p *InPlace) makeParent(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder that was missing: %w", err)
	}
	was, known := p.parents[factName(strings.TrimPrefix(dir, "/"))]
	if !known {
		p.target.Warn(fmt.Sprintf("%s was missing and is made with mode 0755: the backup does not tell what it was", dir))
		was = parent{Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	}
	var n numbers
	uid, gid := n.owner(&record{uid: was.UID, gid: was.GID, user: was.User, group: was.Group})
	if err := os.Lchown(dir, int(uid), int(gid)); errors.Is(err, unix.EPERM) {
		p.target.Warn(fmt.Sprintf("%s was missing and is made without its owner %d:%d, which only root can give", dir, uid, gid))
	} else if err != nil {
		return fmt.Errorf("make a folder that was missing: %w", err)
	}
	if err := unix.Chmod(dir, was.Mode); err != nil {
		return fmt.Errorf("make a folder that was missing: %w", &fs.PathError{Op: "chmod", Path: dir, Err: err})
	}
	return nil
}

// Close removes the staging folders.
func (p *InPlace) Close() error {
	var errs []error
	for _, group := range p.groups {
		errs = append(errs, group.Close())
	}
	return errors.Join(errs...)
}
