package local

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
)

// owner is the user to whom a store belongs, where root writes into it: a drill, which is root, shares the store with backups, whose user
// is another. What root kept to itself there, that user could not even list.
type owner struct{ uid, gid int }

// ownerFor returns whom things in a folder are given to; nil when they stay with the user of this process.
func ownerFor(folder fs.FileInfo) *owner {
	info, known := folder.Sys().(*syscall.Stat_t)
	if !known || os.Geteuid() != 0 || info.Uid == 0 {
		return nil
	}
	return &owner{int(info.Uid), int(info.Gid)}
}

// give hands a file over that has no name yet, so that nobody ever meets it as root's.
func (o *owner) give(f *durable.File) error {
	if o == nil {
		return nil
	}
	return o.explain(f.Chown(o.uid, o.gid))
}

// mkdir makes a folder. One that changes hands gets its name afterwards; a kill in between leaves an empty folder in that of the store.
func (o *owner) mkdir(root *os.Root, name string) error {
	if o == nil {
		return root.Mkdir(name, dirMode)
	}
	if _, err := root.Lstat(name); err == nil {
		return fs.ErrExist
	}
	temp := durable.TempPrefix + rand.Text()
	if err := root.Mkdir(temp, dirMode); err != nil {
		return err
	}
	err := o.explain(root.Lchown(temp, o.uid, o.gid))
	if err == nil {
		// It may take the place of a folder that somebody else made meanwhile, if that is empty.
		err = root.Rename(temp, name)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		err = fs.ErrExist
	}
	return errors.Join(err, root.Remove(temp))
}

func (o *owner) explain(err error) error {
	if err == nil {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("give it to user %d, to whom the store belongs: %w", o.uid, err),
		"run as that user (runuser -u NAME -- holdfast …), or let root have CAP_CHOWN")
}
