package foreign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/seal"
)

// Import says what is imported and by whom.
type Import struct {
	Folder  string // absolute
	Job     holdfast.JobName
	Host    string
	Version string
	Now     time.Time
	Signer  *seal.Signer
	// Skip are folders that are left out, absolute: the store itself.
	Skip []string
}

// ImportResult is what came of an import.
type ImportResult struct {
	New        []RecordedFile // by name
	Known      int            // files that were imported before
	Strange    []string       // names of files that are no backups, by their content
	Unreadable []error        // files that could not be read, in words
}

// storeMarker is in every store that is a folder: its objects are no files to import.
const storeMarker = ".holdfast-store"

// candidate is a file, or a folder of pg_dump -Fd, that may be one to import.
type candidate struct {
	name string // relative, slash-separated
	path string
	info fs.FileInfo
}

// Import looks through a folder, only reading, and records every file that is recognised and was not recorded before. Files
// are read side by side; what is recorded is one object for each 20,000. Files that cannot be read are told in the result.
func (l *Ledger) Import(ctx context.Context, in Import, found func(RecordedFile)) (ImportResult, error) {
	var result ImportResult
	before, err := l.List(ctx, in.Job)
	if err != nil {
		return result, err
	}
	type key struct{ name, sum string }
	type look struct {
		name     string
		size     int64
		modified int64
	}
	sums, looks := map[key]bool{}, map[look]bool{}
	for _, i := range before {
		if i.Host == in.Host && i.Folder == in.Folder {
			sums[key{i.Name, i.SHA256}] = true
			looks[look{i.Name, i.Size, i.Modified.UnixNano()}] = true
		}
	}
	candidates, unreadable, err := in.walk(ctx)
	if err != nil {
		return result, err
	}
	result.Unreadable = unreadable
	type outcome struct {
		file    RecordedFile
		strange bool
		err     error
	}
	outcomes := make([]outcome, len(candidates))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(min(4*runtime.GOMAXPROCS(0), 16))
	var unknown []int
	for i, c := range candidates {
		// Whoever changes a file and keeps its size and its time of change is met by verify.
		if looks[look{c.name, c.info.Size(), c.info.ModTime().UTC().UnixNano()}] && !c.info.IsDir() {
			result.Known++
			continue
		}
		unknown = append(unknown, i)
		group.Go(func() error {
			o := &outcomes[i]
			o.file, o.strange, o.err = in.look(groupCtx, c)
			return context.Cause(groupCtx)
		})
	}
	if err := group.Wait(); err != nil {
		return result, err
	}
	for _, i := range unknown {
		switch o := outcomes[i]; {
		case o.err != nil:
			result.Unreadable = append(result.Unreadable, fmt.Errorf("%s: %w", candidates[i].name, o.err))
		case o.strange:
			result.Strange = append(result.Strange, candidates[i].name)
		case sums[key{o.file.Name, o.file.SHA256}]:
			result.Known++
		default:
			result.New = append(result.New, o.file)
			if found != nil {
				found(o.file)
			}
		}
	}
	for files := range slices.Chunk(result.New, maxRecord) {
		record := Record{ID: holdfast.NewBackupID(), Job: in.Job, Host: in.Host, Version: in.Version, Time: in.Now.UTC().Truncate(time.Second), Folder: in.Folder, Files: files}
		if err := l.put(ctx, record, in.Signer); err != nil {
			return result, err
		}
	}
	return result, nil
}

// walk lists what may be imported, in the order of names. Links are not followed.
func (in Import) walk(ctx context.Context) (all []candidate, unreadable []error, err error) {
	err = filepath.WalkDir(in.Folder, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			if path == in.Folder {
				return holdfast.WithHint(fmt.Errorf("%w: read the folder: %w", holdfast.ErrUsage, err), "give a folder that this user may read")
			}
			unreadable = append(unreadable, err)
			return nil
		}
		if path != in.Folder && (strings.HasPrefix(entry.Name(), ".") || slices.Contains(in.Skip, path)) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name, err := filepath.Rel(in.Folder, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			unreadable = append(unreadable, err)
			return nil
		}
		c := candidate{filepath.ToSlash(name), path, info}
		switch {
		case entry.IsDir():
			if _, err := os.Lstat(filepath.Join(path, storeMarker)); err == nil {
				return fs.SkipDir
			}
			if path != in.Folder && (&File{Path: path}).recogniseFolder() == nil {
				all = append(all, c)
				return fs.SkipDir
			}
		case info.Mode().IsRegular():
			all = append(all, c)
		}
		return nil
	})
	return all, unreadable, err
}

// look recognises and hashes one candidate.
func (in Import) look(ctx context.Context, c candidate) (r RecordedFile, strange bool, err error) {
	r = RecordedFile{
		ID: holdfast.NewBackupID(), Name: c.name, Modified: c.info.ModTime().UTC(), Time: TimeOf(filepath.Base(in.Folder)+"/"+c.name, c.info.ModTime()),
	}
	f, err := Recognise(ctx, c.path)
	switch {
	case errors.Is(err, holdfast.ErrDifference) && f != nil:
		// It begins like a backup and is broken at once: a drill will say how.
		f.Content = Broken
	case errors.Is(err, holdfast.ErrCannotTest) && f != nil:
	case err != nil:
		return r, false, err
	}
	if len(f.Layers) == 0 && f.Content == Unknown {
		return r, true, nil
	}
	r.Layers, r.Content = append([]Layer{}, f.Layers...), f.Content
	r.Size, r.SHA256, err = Hash(ctx, c.path)
	return r, false, err
}

// Hash returns size and SHA-256 of the file at path as it lies there, or of a folder of pg_dump -Fd as [File.Walk] takes them.
func Hash(ctx context.Context, path string) (int64, string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, "", err
	}
	if info.IsDir() {
		f := &File{Path: path, info: info}
		if err := f.recogniseFolder(); err != nil {
			return 0, "", err
		}
		return f.hashMembers(ctx)
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	counted := &counter{ctx: ctx, r: file}
	_, err = io.Copy(h, counted)
	return counted.n, hex.EncodeToString(h.Sum(nil)), errors.Join(err, file.Close())
}
