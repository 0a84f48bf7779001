package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/durable"
	"holdfast/internal/store"
)

// rebuilt is a record with its line.
type rebuilt struct {
	Record
	line []byte
}

// Rebuild makes the journal in opt.Dir that of a chain in a store, every signature checked, and returns how many records it has. What was
// there is kept in the folder aside, "" when nothing was. It fails as [VerifyStore] does, and then changes nothing. Whoever appends or
// pushes is waited for as long as ctx lasts.
func Rebuild(ctx context.Context, s *store.Store, chain string, opt Options, trust Trust) (records int, aside string, err error) {
	var all []rebuilt
	audit, err := VerifyStore(ctx, s, chain, trust, func(r Record, line []byte) error {
		all = append(all, rebuilt{r, bytes.Clone(line)})
		return nil
	})
	if err == nil {
		all = slices.DeleteFunc(all, func(r rebuilt) bool { return r.Seq <= audit.Base })
		aside, err = replace(ctx, opt, chain, audit.base, all)
	}
	if err != nil {
		return 0, "", fmt.Errorf("rebuild the journal: %w", err)
	}
	return len(all), aside, nil
}

// replace puts a journal where another one is, or none. The new one is durable before the old one goes aside.
func replace(ctx context.Context, opt Options, chain string, base *signedMark, all []rebuilt) (aside string, err error) {
	dir := strings.TrimSuffix(opt.Dir, "/")
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(parent, filepath.Base(dir)+".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh) // nothing is there any more when all went well
	if err := writeWhole(&Journal{Options{Dir: fresh}, chain}, base, all); err != nil {
		return "", err
	}
	j := &Journal{opt, chain}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(os.Rename(fresh, dir), durable.SyncDir(parent))
	}
	err = j.locked(ctx, "push.lock", func() error {
		return j.locked(ctx, "lock", func() error {
			aside, err = durable.FreeName(dir + ".before-" + opt.Now().UTC().Format("20060102T150405Z"))
			if err != nil {
				return err
			}
			if err := os.Rename(dir, aside); err != nil {
				return fmt.Errorf("keep the journal that is here: %w", err)
			}
			if err := os.Rename(fresh, dir); err != nil {
				return errors.Join(err, os.Rename(aside, dir))
			}
			return durable.SyncDir(parent)
		})
	})
	return aside, err
}

// writeWhole fills the folder of a journal.
func writeWhole(j *Journal, base *signedMark, all []rebuilt) error {
	if err := durable.WriteFile(j.path("chain"), []byte(j.chain+"\n"), fileMode); err != nil {
		return err
	}
	if base != nil {
		if err := j.writeMark(baseKind(), base); err != nil {
			return err
		}
	}
	var end tail
	var data []byte
	flush := func() error {
		if end.segment == "" {
			return nil
		}
		return durable.WriteFile(end.segment, data, fileMode)
	}
	for _, r := range all {
		if end.startsSegment(r.Time) {
			if err := flush(); err != nil {
				return err
			}
			data, end.segment = nil, j.path(segmentName(r.Seq))
		}
		data = append(append(data, r.line...), '\n')
		end.time, end.size = r.Time, int64(len(data))
	}
	return flush()
}
