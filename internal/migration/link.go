package migration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
)

// Link is the switch of a plain directory: the old one gets another name, and its own becomes a symbolic link to the data folder. The link
// leads nowhere while the volume is not mounted, so that nothing can start or initdb there. Link and directory change places in one step
// (renameat2(2) with RENAME_EXCHANGE); on file systems that cannot, there is a moment in which nothing has the name, and [Link.To] ends
// what a death left then. It deletes links of its own and nothing else.
type Link struct {
	From   string // the directory's name
	Target string // the data folder
	Volume string

	trap       func(op string) // tests die here
	noExchange bool            // tests: a file system that cannot
}

var _ Switch = Link{}

func (l Link) kept() string     { return l.From + ".before-" + l.Volume }
func (l Link) restored() string { return l.From + ".restored-" + l.Volume }

// thing is what stands at a name.
type thing int

const (
	nothing thing = iota
	folder
	ours // the link to the data folder
	alien
)

func (l Link) at(path string) (thing, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nothing, nil
	case err != nil:
		return nothing, err
	case info.IsDir():
		return folder, nil
	case info.Mode()&fs.ModeSymlink == 0:
		return alien, nil
	}
	target, err := os.Readlink(path)
	if err != nil {
		return nothing, err
	}
	if target == l.Target {
		return ours, nil
	}
	return alien, nil
}

// look says what stands at the three names.
func (l Link) look() (from, kept, restored thing, err error) {
	for path, at := range map[string]*thing{l.From: &from, l.kept(): &kept, l.restored(): &restored} {
		var lookErr error
		*at, lookErr = l.at(path)
		err = errors.Join(err, lookErr)
	}
	return from, kept, restored, err
}

// Where says what is. It is an error that names what stands in the way if somebody else changed the names.
func (l Link) Where(context.Context) (Place, error) {
	from, kept, restored, err := l.look()
	if err != nil {
		return Place{}, fmt.Errorf("look at %s: %w", l.From, err)
	}
	var place Place
	switch {
	case from == ours && kept == folder:
		place = Place{Side: Sealed, Old: l.kept()}
	case from == ours && kept == nothing:
		place = Place{Side: Sealed}
	case from == folder && kept == folder && restored != folder:
		return Place{Side: Restored, Old: l.kept(), Restored: l.From}, nil
	case from == folder && (kept == nothing || kept == ours):
		place = Place{Side: Old, Old: l.From}
	case from == nothing && kept == folder:
		place = Place{Old: l.kept()}
	default:
		return Place{}, holdfast.WithHint(fmt.Errorf("%s and %s are not what a migration makes of them: somebody else changed them", l.From, l.kept()),
			"look at both; the one with PG_VERSION and the right content belongs at the first name")
	}
	if restored == folder {
		place.Restored = l.restored()
	}
	return place, nil
}

// To makes the server get side. It is an error to go from the restored directory to the old one, which lacks what was written since.
func (l Link) To(ctx context.Context, side Side) error {
	place, err := l.Where(ctx)
	if err != nil {
		return err
	}
	switch {
	case side == place.Side:
	case side == Old && place.Side == Sealed && place.Old != "":
		err = l.exchange(l.kept())
	case side == Old && place.Side == None:
		err = l.rename(l.kept(), l.From)
	case side == Sealed && place.Side == Old:
		err = l.replace(l.kept())
	case side == Sealed && place.Side == Restored:
		err = l.replace(l.restored())
	case side == Sealed && place.Side == None:
		err = l.link(l.From)
	case side == Restored && place.Side == Sealed && place.Restored != "":
		err = l.exchange(l.restored())
	case side == Restored && place.Side == None && place.Restored != "":
		err = l.rename(l.restored(), l.From)
	default:
		err = fmt.Errorf("there is no way from %q to %q", place.Side, side)
	}
	if err != nil {
		return fmt.Errorf("switch %s: %w", l.From, err)
	}
	return l.tidy(side)
}

// replace puts a link in the place of the directory, which gets the name aside.
func (l Link) replace(aside string) error {
	if at, err := l.at(aside); err != nil {
		return err
	} else if at == nothing {
		if err := l.link(aside); err != nil {
			return err
		}
	}
	return l.exchange(aside)
}

// exchange lets what stands at the two names, one of them our link, change places.
func (l Link) exchange(aside string) error {
	l.before("exchange")
	err := error(unix.EINVAL)
	if !l.noExchange {
		err = unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, l.From, unix.RENAME_EXCHANGE)
	}
	if err == nil {
		return l.sync()
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return &os.LinkError{Op: "exchange", Old: aside, New: l.From, Err: err}
	}
	at, err := l.at(aside)
	if err != nil {
		return err
	}
	if at == ours {
		if err := errors.Join(l.unlink(aside), l.rename(l.From, aside)); err != nil {
			return err
		}
		return l.link(l.From)
	}
	if err := l.unlink(l.From); err != nil {
		return err
	}
	return l.rename(aside, l.From)
}

// tidy removes links that an exchange left aside.
func (l Link) tidy(side Side) error {
	for _, aside := range []string{l.kept(), l.restored()} {
		at, err := l.at(aside)
		if err == nil && at == ours {
			err = l.unlink(aside)
		}
		if err != nil {
			return fmt.Errorf("tidy up after the switch to %s: %w", side, err)
		}
	}
	// The last run may have died before this.
	return l.sync()
}

func (l Link) link(path string) error {
	l.before("link")
	if err := os.Symlink(l.Target, path); err != nil {
		return err
	}
	return l.sync()
}

func (l Link) unlink(path string) error {
	l.before("unlink")
	// Only a link goes this way: unlinkat without AT_REMOVEDIR refuses directories.
	if err := unix.Unlink(path); err != nil {
		return &fs.PathError{Op: "unlink", Path: path, Err: err}
	}
	return l.sync()
}

func (l Link) rename(from, to string) error {
	l.before("rename")
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return l.sync()
}

func (l Link) sync() error { return durable.SyncDir(filepath.Dir(l.From)) }

func (l Link) before(op string) {
	if l.trap != nil {
		l.trap(op)
	}
}

// Check refuses what cannot be renamed.
func (l Link) Check(context.Context) ([]Check, error) {
	from, kept, restored, err := l.look()
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", l.From, err)
	}
	c := Check{Name: "switch", Good: true, Text: fmt.Sprintf("%s becomes a link to %s, and is kept as %s", l.From, l.Target, l.kept())}
	bad := func(text, fix string) ([]Check, error) {
		return []Check{{Name: c.Name, Text: text, Fix: fix}}, nil
	}
	switch {
	case from == nothing:
		return bad(fmt.Sprintf("there is no %s", l.From), "name the data directory")
	case from != folder:
		return bad(fmt.Sprintf("%s is no directory but a link or a file", l.From), "name the directory itself: it is where the link leads to, and another name for it would be left behind")
	case kept == folder || kept == alien:
		return bad(fmt.Sprintf("%s is there already, perhaps from an earlier migration", l.kept()), "look what it is, and remove or rename it")
	case restored != nothing:
		return bad(fmt.Sprintf("%s is there already, perhaps from an earlier way back", l.restored()), "look what it is, and remove or rename it")
	}
	if within(l.Target, l.From) || within(l.From, l.Target) {
		return bad(fmt.Sprintf("%s and %s are within each other", l.From, l.Target), "name a data folder on the volume, apart from the old directory")
	}
	mounted, err := mountsWithin(l.From)
	if err != nil {
		return nil, err
	}
	if len(mounted) > 0 {
		if mounted[0] == l.From {
			return bad(fmt.Sprintf("%s is itself a mount point, which cannot be renamed", l.From),
				"move the data into a folder below it, or, for a container, let a compose overlay switch")
		}
		return bad(fmt.Sprintf("%s is mounted below %s, and would not be copied", mounted[0], l.From), "move what is there into the directory, and unmount it")
	}
	return []Check{c}, nil
}

// MakeStandIn makes an empty directory at From, for a rehearsal.
func (l Link) MakeStandIn(context.Context) error {
	if err := os.Mkdir(l.From, 0o700); err != nil {
		return fmt.Errorf("make a directory to rehearse with: %w", err)
	}
	return nil
}

// RemoveStandIn takes back what MakeStandIn made, wherever the switch stands. nil also if there is nothing.
func (l Link) RemoveStandIn(ctx context.Context) error {
	from, kept, _, err := l.look()
	if err != nil || from == nothing && kept == nothing {
		return err
	}
	if err := l.To(ctx, Old); err != nil {
		return err
	}
	// What is not empty is not the stand-in.
	if err := unix.Rmdir(l.From); err != nil {
		return &fs.PathError{Op: "rmdir", Path: l.From, Err: err}
	}
	return l.sync()
}
