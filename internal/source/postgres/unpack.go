package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// Archive is an archive of pg_dump, in one of its formats custom, tar and directory. Open and Files must themselves fail where
// a tar, or a file of a folder, was cut: pg_restore takes that for its end and exits with status 0, and rows are missing.
type Archive struct {
	// Open reads the archive's file.
	Open func(context.Context) (io.ReadCloser, error)
	// Files, for a folder, calls each for every file in it.
	Files func(ctx context.Context, each func(name string, r io.Reader) error) error
}

// Unpack starts pg_restore, the newest there is, which turns an archive into SQL. It runs like the programs of a drill. The
// reader returns io.EOF only when pg_restore exited with status 0 and the archive was read to its end. What cannot be read
// here wraps holdfast.ErrCannotTest, damage holdfast.ErrDifference. The scratch folder takes the files of a folder, and is the
// caller's to remove.
func Unpack(ctx context.Context, opt DrillOptions, archive Archive) (io.ReadCloser, error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	d := &Drill{opt: opt}
	site := pgclient.NewHost(opt.BinDirs, opt.Path)
	list, err := site.Find(ctx, "pg_restore")
	if err != nil || len(list) == 0 {
		return nil, cannotTest(errors.Join(fmt.Errorf("pg_restore is not on %s", site), err), "install postgresql-client")
	}
	program := list[len(list)-1]
	if err := os.Chown(opt.Scratch, opt.UID, opt.GID); err != nil && os.Geteuid() == 0 {
		return nil, cannotTest(fmt.Errorf("prepare the scratch folder: %w", err), "name a folder that can be written")
	}
	u := &unpacked{program: program, said: &pgclient.Tail{}, fed: make(chan error, 1)}
	c := pgclient.Command{Path: program.Path, Args: []string{"--file=-"}, Env: []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin"}, Stderr: u.said}
	ctx, u.stop = context.WithCancel(ctx)
	if archive.Files != nil {
		folder := filepath.Join(opt.Scratch, "archive")
		if err := d.copyFolder(ctx, folder, archive); err != nil {
			u.stop()
			return nil, err
		}
		c.Args = append(c.Args, "--format=directory", folder)
	} else {
		if u.archive, err = archive.Open(ctx); err != nil {
			u.stop()
			return nil, err
		}
		c.Stdin = true
	}
	if u.process, err = site.Within(d.wrap()).Start(ctx, c); err != nil {
		u.stop()
		if u.archive != nil {
			err = errors.Join(err, u.archive.Close())
		}
		return nil, cannotTest(err, "see what the system said")
	}
	go u.feed()
	return u, nil
}

// copyFolder puts the files of an archive where pg_restore can read them.
func (d *Drill) copyFolder(ctx context.Context, folder string, archive Archive) error {
	root, err := os.OpenRoot(d.opt.Scratch)
	if err == nil {
		defer root.Close()
		// Whoever runs pg_restore must read it, whatever the umask says.
		err = errors.Join(root.Mkdir("archive", 0o755), root.Chmod("archive", 0o755))
	}
	if err != nil {
		return cannotTest(fmt.Errorf("prepare the scratch folder: %w", err), "name a folder that can be written")
	}
	return archive.Files(ctx, func(name string, r io.Reader) error {
		file, err := os.OpenFile(filepath.Join(folder, filepath.Base(name)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = io.Copy(file, r)
			err = errors.Join(err, file.Chmod(0o644), file.Close())
		}
		if errors.Is(err, unix.ENOSPC) {
			return cannotTest(err, "choose a scratch folder with more room")
		}
		return err
	})
}

// unpacked is a running pg_restore.
type unpacked struct {
	program pgclient.Program
	archive io.ReadCloser // nil: a folder
	process *pgclient.Process
	said    *pgclient.Tail
	stop    context.CancelFunc
	fed     chan error // holds the error of reading the archive, once it was read to its end
	ended   bool       // fed and process were waited for
	err     error
}

// feed reads the archive to its end, also when pg_restore has enough: what stands behind must be whole too.
func (u *unpacked) feed() {
	if u.archive == nil {
		u.fed <- nil
		return
	}
	reader := &noting{Reader: u.archive}
	_, writeErr := io.CopyBuffer(struct{ io.Writer }{u.process.Stdin}, reader, make([]byte, 256<<10))
	if writeErr != nil && reader.err == nil {
		// pg_restore stopped reading, and says itself whether that is a mistake.
		_, _ = io.Copy(io.Discard, reader)
	}
	if reader.err != nil {
		u.stop() // pg_restore would take the end of its input for the end of the archive
	}
	u.process.Stdin.Close()
	u.fed <- reader.err
}

func (u *unpacked) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	n, err := u.process.Stdout.Read(p)
	if err != nil {
		if err == io.EOF {
			err = nil
		}
		if failed := u.finish(err); failed != nil {
			u.err = failed
			return 0, u.err // what came last is of no use
		}
		u.err = io.EOF
		return n, u.err
	}
	return n, nil
}

// finish waits for the archive and for pg_restore.
func (u *unpacked) finish(readErr error) error {
	u.ended = true
	archiveErr := <-u.fed
	waitErr := u.process.Wait()
	u.stop()
	switch {
	case archiveErr != nil:
		return archiveErr
	case waitErr != nil:
		return u.explain(waitErr)
	}
	return readErr
}

var (
	newerArchive  = regexp.MustCompile(`unsupported version \(([0-9.]+)\) in file header`)
	cannotInflate = regexp.MustCompile(`this build does not support compression|compression is not supported|could not find entry|not compiled with`)
)

// explain turns what pg_restore said into one sentence.
func (u *unpacked) explain(status error) error {
	said := strings.TrimSpace(u.said.String())
	message := status.Error()
	for line := range strings.Lines(said) {
		if text, is := strings.CutPrefix(strings.TrimSpace(line), "pg_restore: error: "); is {
			message = text
			break
		}
	}
	err := fmt.Errorf("pg_restore: %s", message)
	switch {
	case newerArchive.MatchString(message):
		return cannotTest(fmt.Errorf("the archive was made by a pg_dump newer than %s: %w", u.program, err), "install the newest postgresql-client")
	case cannotInflate.MatchString(message):
		return cannotTest(err, "use a pg_restore that was built with that compression")
	}
	var exit *pgclient.ExitError
	if errors.As(status, &exit) && exit.Code < 0 {
		return cannotTest(fmt.Errorf("%w: %s", err, status), "see what the system said")
	}
	return holdfast.WithHint(&brokenScript{err}, "the archive is damaged, was not finished, or not copied to its end: take another copy, or an older one")
}

// Close ends pg_restore. It says nothing of an archive that was not read to its end.
func (u *unpacked) Close() error {
	if !u.ended {
		u.ended = true
		u.stop()
		u.process.Stdout.Close()
		<-u.fed
		_ = u.process.Wait() // killed by us: its status tells nothing
	}
	if u.err == nil {
		u.err = os.ErrClosed
	}
	if u.archive == nil {
		return nil
	}
	return u.archive.Close()
}
