package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Speed is how fast a folder's storage takes and gives a file.
type Speed struct {
	Write, Read float64       // bytes in a second
	Waited      time.Duration // that all processors together waited for disks meanwhile
	Took        time.Duration
}

// Sequential writes a file of size bytes into dir, waits until it is on the disk, drops it from the page cache, reads it again, and removes it.
func Sequential(ctx context.Context, dir string, size int64) (s Speed, err error) {
	path := filepath.Join(dir, ".holdfast-sequential")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return s, fmt.Errorf("measure %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	// Random, so that nothing on the way can make it less.
	block := make([]byte, 1<<20)
	if _, err := rand.Read(block); err != nil {
		return s, err
	}
	before, err := ioWait()
	if err != nil {
		return s, err
	}
	start := time.Now()
	began := start
	for n := int64(0); n < size; n += int64(len(block)) {
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		if _, err := f.Write(block); err != nil {
			return s, fmt.Errorf("measure %s: %w", dir, err)
		}
	}
	if err := f.Sync(); err != nil {
		return s, fmt.Errorf("measure %s: %w", dir, err)
	}
	written := time.Now()
	s.Write = float64(size) / written.Sub(began).Seconds()
	if err := forget(f); err != nil {
		return s, fmt.Errorf("measure %s: %w", dir, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, fmt.Errorf("measure %s: %w", dir, err)
	}
	began = time.Now()
	for {
		if ctx.Err() != nil {
			return s, context.Cause(ctx)
		}
		_, err := f.Read(block)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, fmt.Errorf("measure %s: %w", dir, err)
		}
	}
	read := time.Since(began)
	s.Read = float64(size) / read.Seconds()
	after, err := ioWait()
	s.Waited, s.Took = after-before, time.Since(start)
	return s, err
}

// ioWait is how long all processors together have waited for disks since the machine was started, by the field iowait of proc_stat(5), in
// hundredths of a second.
func ioWait() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var name string
	var n [5]int64
	if _, err := fmt.Sscan(string(text), &name, &n[0], &n[1], &n[2], &n[3], &n[4]); err != nil || name != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", name)
	}
	return time.Duration(n[4]) * 10 * time.Millisecond, nil
}
