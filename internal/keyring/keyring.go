// Package keyring changes the keys that a configuration file names: it adds one, or replaces one and keeps a record of what
// it was.
//
// It hides the lock, the edits of the text, the copy that is kept, and how the new file takes the place of the old one.
// Its laws: a file is changed by one process at a time, and only if it still is what was read; nothing but the keys
// asked for changes, comments and order included; the caller can check the whole new text before it takes the place;
// at every moment there is either the whole old file or the whole new one, and a copy of the old.
//
// It is not its job to make keys, or to know what a configuration means.
package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/yamledit"
)

// maxFile bounds a configuration, as its reader does.
const maxFile = 1 << 20

// File is a configuration file that is being changed, under a lock on its folder. It is not safe for concurrent use.
type File struct {
	path   string // absolute, without symbolic links
	folder *os.File
	info   fs.FileInfo
	was    []byte
	now    *yamledit.Document
}

// Open locks the folder of the file at path and reads it. When another process changes it, the error wraps
// holdfast.ErrBusy. Close lets it go.
func Open(path string) (*File, error) {
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: find the configuration: %w", holdfast.ErrUsage, err)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("lock the folder of %s: %w", path, err)
	}
	f := &File{path: path, folder: folder}
	if err := f.read(); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return f, nil
}

func (f *File) read() error {
	// The kernel lets go of the lock when the process ends, and nothing is left in the folder.
	if err := unix.Flock(int(f.folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return holdfast.WithHint(fmt.Errorf("%w: %s is being changed", holdfast.ErrBusy, f.path), "wait for it to end; a lock never outlives its process")
	} else if err != nil {
		return fmt.Errorf("lock the folder of %s: %w", f.path, err)
	}
	var err error
	if f.info, err = os.Stat(f.path); err != nil {
		return fmt.Errorf("%w: read the configuration: %w", holdfast.ErrUsage, err)
	}
	if !f.info.Mode().IsRegular() || f.info.Size() > maxFile {
		return fmt.Errorf("%w: %s is not a configuration file", holdfast.ErrUsage, f.path)
	}
	if f.was, err = os.ReadFile(f.path); err != nil {
		return fmt.Errorf("%w: read the configuration: %w", holdfast.ErrUsage, err)
	}
	if f.now, err = yamledit.Parse(f.was); err != nil {
		return fmt.Errorf("%w: read %s: %w", holdfast.ErrUsage, f.path, err)
	}
	return nil
}

// Close lets the file go. What was not committed is forgotten.
func (f *File) Close() error { return f.folder.Close() }

// Path is the file itself, whatever links led to it.
func (f *File) Path() string { return f.path }

// Text is the text as Commit would write it.
func (f *File) Text() []byte { return f.now.Bytes() }

// Key is a public key as a configuration has it.
type Key struct {
	Recipient     string // either this
	RecipientFile string // or this
	Holder        string
	Created       time.Time // day; zero: not known
	Expires       time.Time // day; zero: never
}

func (k Key) nameAndValue() (name, value string) {
	if k.RecipientFile != "" {
		return "recipient_file", quote(k.RecipientFile)
	}
	return "recipient", quote(k.Recipient)
}

// Retired is what a key was until it was replaced.
type Retired struct {
	IDs    []string
	Holder string
	Since  time.Time // day; zero: not known
	Until  time.Time // day
}

// Line is the key as one line of YAML.
func (k Key) Line() string {
	name, value := k.nameAndValue()
	line := "{" + name + ": " + value
	if k.Holder != "" {
		line += ", holder: " + quote(k.Holder)
	}
	if !k.Created.IsZero() {
		line += ", created: " + k.Created.Format(time.DateOnly)
	}
	if !k.Expires.IsZero() {
		line += ", expires: " + k.Expires.Format(time.DateOnly)
	}
	return line + "}"
}

func (r Retired) line() string {
	var ids []string
	for _, id := range r.IDs {
		ids = append(ids, quote(id))
	}
	line := "{ids: [" + strings.Join(ids, ", ") + "]"
	if r.Holder != "" {
		line += ", holder: " + quote(r.Holder)
	}
	if !r.Since.IsZero() {
		line += ", since: " + r.Since.Format(time.DateOnly)
	}
	return line + ", until: " + r.Until.Format(time.DateOnly) + "}"
}

// quote writes text as a double-quoted scalar: JSON's form is also YAML's.
func quote(text string) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic("keyring: a text that cannot be quoted: " + err.Error())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// Add adds a key called name.
func (f *File) Add(name string, key Key) error {
	var err error
	switch {
	case f.now.Has("keys", name):
		return holdfast.WithHint(fmt.Errorf("%w: %s has a key called %s already", holdfast.ErrUsage, f.path, name),
			"choose another name, or replace the key with `holdfast key rotate "+name+"`")
	case f.now.Has("keys"):
		err = f.now.Insert([]string{"keys"}, "", name, key.Line())
	default:
		err = f.now.Insert(nil, "version", "keys", "{"+name+": "+key.Line()+"}")
	}
	return f.explained(err, "add under keys by hand:\n  "+name+": "+key.Line())
}

// Replace makes key the key called name, and puts old into its record.
func (f *File) Replace(name string, key Key, old Retired) error {
	whole := f.now.Bytes()
	path := []string{"keys", name}
	at := func(last string) []string { return []string{"keys", name, last} }
	before := "recipient"
	if f.now.Has(at("recipient_file")...) {
		before = "recipient_file"
	}
	field, value := key.nameAndValue()
	err := f.now.Replace(at(before), field, value)
	set := func(after, field, value string) string {
		switch {
		case err != nil:
		case f.now.Has(at(field)...):
			err = f.now.Replace(at(field), field, value)
		default:
			err = f.now.Insert(path, after, field, value)
		}
		return field
	}
	last := field
	if key.Holder != "" {
		last = set(last, "holder", quote(key.Holder))
	}
	if !key.Created.IsZero() {
		last = set(last, "created", key.Created.Format(time.DateOnly))
	}
	if !key.Expires.IsZero() {
		last = set(last, "expires", key.Expires.Format(time.DateOnly))
	}
	switch {
	case err != nil:
	case f.now.Has(at("retired")...):
		err = f.now.Prepend(at("retired"), old.line())
	default:
		err = f.now.Insert(path, last, "retired", "["+old.line()+"]")
	}
	if err != nil {
		var again error
		if f.now, again = yamledit.Parse(whole); again != nil {
			return again
		}
	}
	return f.explained(err, "write it by hand under keys."+name+":\n  "+field+": "+value+"\n  created: "+key.Created.Format(time.DateOnly)+"\n  retired: ["+old.line()+"]")
}

func (f *File) explained(err error, byHand string) error {
	if err == nil {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("%w: %s: %w", holdfast.ErrUsage, f.path, err), byHand)
}

// Append puts text, whole lines, behind all that the file has.
func (f *File) Append(text string) error {
	whole := f.now.Bytes()
	if !bytes.HasSuffix(whole, []byte("\n")) {
		whole = append(bytes.Clone(whole), '\n')
	}
	now, err := yamledit.Parse(append(bytes.Clone(whole), text...))
	if err != nil {
		return fmt.Errorf("%s would not be read any more: %w", f.path, err)
	}
	f.now = now
	return nil
}

// Keep puts a copy of the file as it is beside it, and returns its path. It shows that the folder can be written.
func (f *File) Keep(now time.Time) (string, error) {
	stem := f.path + ".before-" + now.UTC().Format("20060102T150405Z")
	path := stem
	for n := 2; ; n++ {
		err := f.create(path, f.was)
		if errors.Is(err, fs.ErrExist) {
			path = fmt.Sprintf("%s-%d", stem, n)
			continue
		}
		if err != nil {
			return "", holdfast.WithHint(fmt.Errorf("keep a copy of the configuration: %w", err), "run as a user who may write in "+filepath.Dir(f.path))
		}
		return path, nil
	}
}

// create writes a file with the mode and owner that the configuration has.
func (f *File) create(path string, data []byte) error {
	// Nobody else reads it before it has its owner.
	if err := durable.CreateFile(path, data, 0o600); err != nil {
		return err
	}
	err := f.own(path)
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func (f *File) own(path string) error {
	owner, known := f.info.Sys().(*syscall.Stat_t)
	if known && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	if err := os.Chmod(path, f.info.Mode().Perm()); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// Commit lets the new text take the place of the old file, if that is still what was read. Until it returns nil the old
// file counts.
func (f *File) Commit() error {
	on, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read the configuration again: %w", err)
	}
	if !bytes.Equal(on, f.was) {
		return holdfast.WithHint(fmt.Errorf("%w: %s was changed by somebody else", holdfast.ErrBusy, f.path), "nothing was written; run the command again")
	}
	temp := filepath.Join(filepath.Dir(f.path), durable.TempPrefix+rand.Text())
	if err := f.create(temp, f.now.Bytes()); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := os.Rename(temp, f.path); err != nil {
		return fmt.Errorf("write the configuration: %w", errors.Join(err, os.Remove(temp)))
	}
	if err := durable.SyncDir(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("make the configuration durable: %w", err)
	}
	f.was = f.now.Bytes()
	return nil
}
