package rsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/store"
)

// opener opens an object that is to be sent or compared.
type opener = func(ctx context.Context, name string) (io.ReadCloser, error)

// Push copies the objects whose names are not there, in batches of Options.Batch bytes.
func (d *Driver) Push(ctx context.Context, objects []store.Object, open func(ctx context.Context, name string) (io.ReadCloser, error)) error {
	var missing []store.Object
	err := d.opt.Retrier.Do(ctx, func() (again bool, err error) {
		missing, err = store.Missing(ctx, d, objects)
		return true, err
	})
	if err != nil {
		return err
	}
	names := make([]string, len(missing))
	for i, object := range missing {
		names[i] = object.Name
		if err := store.CheckName(object.Name); err != nil {
			return err
		}
	}
	return d.batches(ctx, names, open, func(folder string, names []string) error {
		// A batch takes its time, in which the disk at the far side may have gone.
		err := d.opt.Retrier.Do(ctx, func() (bool, error) { return true, d.look(ctx) })
		if err == nil {
			_, err = d.send(ctx, folder, names)
		}
		return named("push", names, err)
	})
}

func named(verb string, names []string, err error) error {
	switch {
	case err == nil:
		return nil
	case len(names) == 1:
		return fmt.Errorf("%s %s: %w", verb, names[0], err)
	}
	return fmt.Errorf("%s %s and %d more: %w", verb, names[0], len(names)-1, err)
}

// batches copies the objects into the cache, a batch at a time, and hands each batch over. The cache is empty afterwards.
func (d *Driver) batches(ctx context.Context, names []string, open opener, use func(folder string, names []string) error) error {
	for len(names) > 0 {
		folder, err := os.MkdirTemp(d.dir, "batch-")
		if err != nil {
			return fmt.Errorf("make a batch: %w", cacheError(err))
		}
		var size int64
		n := 0
		for n < len(names) && size < d.opt.Batch && err == nil {
			var added int64
			added, err = d.stage(ctx, folder, names[n], open)
			size += added
			n++
		}
		if err == nil {
			err = use(folder, names[:n])
		}
		if err := errors.Join(err, os.RemoveAll(folder)); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

// stage copies one object into a folder of the cache.
func (d *Driver) stage(ctx context.Context, folder, name string, open opener) (int64, error) {
	r, err := open(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", name, err)
	}
	n, err := stageFrom(ctx, folder, name, r)
	return n, errors.Join(err, r.Close())
}

func stageFrom(ctx context.Context, folder, name string, r io.Reader) (int64, error) {
	file := filepath.Join(folder, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return 0, fmt.Errorf("put %s into the cache: %w", name, cacheError(err))
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("put %s into the cache: %w", name, cacheError(err))
	}
	n, err := io.Copy(f, store.Obey(ctx, r))
	if err := errors.Join(err, f.Close()); err != nil {
		return n, fmt.Errorf("put %s into the cache: %w", name, cacheError(err))
	}
	return n, nil
}

// cacheError keeps a full disk of this host apart from a full mirror: no other store need be tried, and no backup pruned.
func cacheError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return holdfast.WithHint(fmt.Errorf("%w: the disk of the cache on this host has no room: %w", holdfast.ErrUsage, err),
			"make room there, or choose another folder; it takes one batch, or the largest object")
	}
	return err
}

// send copies named files of a folder to the far side, those alone whose names are free, and returns which came.
func (d *Driver) send(ctx context.Context, folder string, names []string) (sent []string, err error) {
	err = d.opt.Retrier.Do(ctx, func() (bool, error) {
		for {
			optional := d.optional()
			args := append([]string{"--files-from=-", "--from0", "--ignore-existing", "--chmod=D700,F600", "--out-format=%i %n"}, optional...)
			out, err := d.run(ctx, names, append(args, folder+"/", d.at(""))...)
			sent = append(sent, transferred(out)...)
			var option optionError
			if !errors.As(err, &option) || len(optional) == 0 {
				return true, err
			}
			// Not an attempt of its own: nothing was sent, and what is asked next is something else.
			d.refuse(option, optional)
		}
	})
	return sent, err
}

// The options that a far side may refuse: it is older than 3.2.4, or rrsync has them forbidden, as -no-overwrite does with the
// second.
const (
	fsyncOption   = "--fsync"
	partialOption = "--partial-dir=" + partial
)

// optional returns the options that are of use and were not refused.
func (d *Driver) optional() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var options []string
	if d.version.atLeast(version{3, 2, 4}) && !d.refused[fsyncOption] {
		options = append(options, fsyncOption)
	}
	if !d.refused[partialOption] {
		options = append(options, partialOption)
	}
	return options
}

// refuse remembers which of the options the far side means: the one it names, or else the first.
func (d *Driver) refuse(err optionError, options []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, option := range options {
		name, _, _ := strings.Cut(option, "=")
		if strings.Contains(err.Error(), name) {
			d.refused[option] = true
			return
		}
	}
	d.refused[options[0]] = true
}

// transferred returns the names of files in the output of --out-format="%i %n" that were sent, or in a dry run would be.
func transferred(out []byte) []string {
	var names []string
	for line := range strings.Lines(string(out)) {
		change, name, ok := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if ok && len(change) > 2 && change[0] == '<' && change[1] == 'f' {
			names = append(names, name)
		}
	}
	return names
}

// Check compares checksums of whole files, each made by the side on which the file is.
func (d *Driver) Check(ctx context.Context, names []string, open func(ctx context.Context, name string) (io.ReadCloser, error)) ([]string, error) {
	for _, name := range names {
		if err := store.CheckName(name); err != nil {
			return nil, err
		}
	}
	var different []string
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	err := d.batches(ctx, names, open, func(folder string, names []string) error {
		found, err := d.compare(ctx, folder, names)
		different = append(different, found...)
		return named("check", names, err)
	})
	slices.Sort(different)
	return different, err
}

// compare returns which of the files in a folder are missing or other at the far side.
//
// A far side that has writing over forbidden (rrsync -no-overwrite) passes over every file that it has, and finds no difference
// ever. The marker is therefore compared too, with other bytes than it has: when that is not noticed, the objects are fetched.
func (d *Driver) compare(ctx context.Context, folder string, names []string) (different []string, err error) {
	if err := os.WriteFile(filepath.Join(folder, marker), []byte("no marker\n"), 0o600); err != nil {
		return nil, cacheError(err)
	}
	blind := false
	err = d.opt.Retrier.Do(ctx, func() (bool, error) {
		if err := d.look(ctx); err != nil {
			return true, err
		}
		// Without rsync's own time limit: nothing moves while a far side reads a large file. ssh notices a dead line.
		out, err := d.runWithin(ctx, 0, append(slices.Clone(names), marker),
			"--files-from=-", "--from0", "--dry-run", "--checksum", "--out-format=%i %n", folder+"/", d.at(""))
		different = transferred(out)
		blind = !slices.Contains(different, marker)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	if blind {
		return d.compareHere(ctx, folder, names)
	}
	return slices.DeleteFunc(different, func(name string) bool { return name == marker }), nil
}

// compareHere is compare by fetching the objects.
func (d *Driver) compareHere(ctx context.Context, folder string, names []string) (different []string, err error) {
	for _, name := range names {
		same := false
		err := d.opt.Retrier.Do(ctx, func() (again bool, err error) {
			d.forget(name) // what was fetched earlier says nothing about now
			same, err = d.same(ctx, filepath.Join(folder, filepath.FromSlash(name)), name)
			return true, err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if !same {
			different = append(different, name)
		}
	}
	return different, nil
}

func (d *Driver) same(ctx context.Context, file, name string) (bool, error) {
	stored, err := d.openRange(ctx, name, 0, -1)
	if err != nil {
		return false, err
	}
	defer stored.Close() // read alone
	mine, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer mine.Close() // read alone
	return store.Equal(stored, mine)
}

// Put stores what r has under name. It goes through the cache as a whole. Two Puts of one name at once, from two drivers, are not
// kept apart: the later one may win.
func (d *Driver) Put(ctx context.Context, name string, r io.Reader) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := d.put(ctx, name, r); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

func (d *Driver) put(ctx context.Context, name string, r io.Reader) error {
	folder, err := os.MkdirTemp(d.dir, "put-")
	if err != nil {
		return cacheError(err)
	}
	defer os.RemoveAll(folder) // what stays is removed by Close
	if _, err := stageFrom(ctx, folder, name, r); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.putting.Lock() // one after the other, so that at least the Puts of this driver are kept apart
	defer d.putting.Unlock()
	above, err := d.namesAround(ctx, name)
	if err != nil {
		return err
	}
	if above != "" {
		return fmt.Errorf("%w: the names of %s and %s exclude each other", store.ErrExists, name, above)
	}
	sent, err := d.send(ctx, folder, []string{name})
	if err != nil {
		return err
	}
	if slices.Contains(sent, name) {
		return nil
	}
	different, err := d.compare(ctx, folder, []string{name})
	if err == nil && len(different) > 0 {
		err = store.ErrExists
	}
	return err
}

// namesAround returns an object whose name is a part of name, or of which name is a part: a folder cannot be a file too. It fails
// when there is no store.
func (d *Driver) namesAround(ctx context.Context, name string) (string, error) {
	var rules []string
	for i := range len(name) {
		if name[i] == '/' {
			rules = append(rules, "--include=/"+name[:i], "--include=/"+name[:i+1])
		}
	}
	var around []store.Object
	err := d.opt.Retrier.Do(ctx, func() (again bool, err error) {
		around, err = d.list(ctx, "", append(rules, "--include=/"+name, "--include=/"+name+"/**", "--exclude=*"))
		return true, err
	})
	if err != nil {
		return "", err
	}
	for _, object := range around {
		if object.Name != name {
			return object.Name, nil
		}
	}
	return "", nil
}

// Delete removes exactly that name: rsync is told of one file that is missing on this side. Folders that become empty stay.
func (d *Driver) Delete(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if err := d.delete(ctx, name); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

func (d *Driver) delete(ctx context.Context, name string) error {
	there, err := d.list(ctx, name, filters(name))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(there, func(o store.Object) bool { return o.Name == name }) {
		return nil
	}
	folder, err := os.MkdirTemp(d.dir, "delete-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := os.MkdirAll(filepath.Join(folder, filepath.Dir(filepath.FromSlash(name))), 0o700); err != nil {
		return err
	}
	// With --existing and --ignore-existing nothing is transferred, whatever lies in the folder.
	_, err = d.run(ctx, []string{name}, "--files-from=-", "--from0", "--delete-missing-args", "--existing", "--ignore-existing", folder+"/", d.at(""))
	var option optionError
	if errors.As(err, &option) {
		return holdfast.WithHint(fmt.Errorf("%w: the server does not let rsync delete: %w", fs.ErrPermission, err),
			"prune this mirror at the server, or allow deleting there (rrsync without -no-del)")
	}
	d.forget(name)
	return err
}
