package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
	"holdfast/internal/store"
)

// ShortestKeep is how long records are kept at the least.
const ShortestKeep = 365 * 24 * time.Hour

var baseRule = regexp.MustCompile(`^journal/[a-z0-9][a-z0-9-]{0,80}-[a-z0-9]{10}/[0-9]{12}\.base\.json$`)

func baseName(chain string, seq int64) string {
	return fmt.Sprintf("%s%s/%012d.base.json", storePrefix, chain, seq)
}

// readBase reads a base of a chain in a store.
func (c *checker) readBase(ctx context.Context, s *store.Store, chain, name string) (*signedMark, error) {
	data, err := s.ReadAll(ctx, name, maxLine)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	signature, err := s.ReadAll(ctx, name+".sig", maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the signature of %s is gone", holdfast.ErrDifference, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signature of %s: %w", name, err)
	}
	b, err := c.signedMark(baseKind(), chain, data, signature)
	if err == nil && name != baseName(chain, b.Seq) {
		err = fmt.Errorf("%w: %s says other things than its name", holdfast.ErrDifference, name)
	}
	return b, err
}

// putBase stores where a chain begins.
func putBase(ctx context.Context, s *store.Store, b *signedMark) error {
	name := baseName(b.Chain, b.Seq)
	if err := s.Put(ctx, name+".sig", bytes.NewReader(b.signature)); err != nil {
		return err
	}
	return s.Put(ctx, name, bytes.NewReader(b.data))
}

func checkKeep(keep time.Duration) error {
	if keep < ShortestKeep {
		return fmt.Errorf("%w: records are kept for at least %d days", holdfast.ErrUsage, ShortestKeep/(24*time.Hour))
	}
	return nil
}

// Trim drops the records here that are older than keep, whole months of them, as long as some store once had them: those up to carried.
// It signs where the chain begins from then on, and returns the number of the last record that is gone; 0: none is.
func (j *Journal) Trim(ctx context.Context, keep time.Duration, carried int64) (int64, error) {
	if err := checkKeep(keep); err != nil {
		return 0, err
	}
	if j.opt.Signer == nil {
		return 0, holdfast.WithHint(errors.New("trim the journal: this host has no signing key"), "make one with `holdfast init`")
	}
	var gone int64
	err := j.locked(ctx, "lock", func() error {
		// A head that stands in what goes would speak of a record that nobody has.
		if err := j.sign(); err != nil {
			return err
		}
		segments, err := j.segments()
		if err != nil {
			return err
		}
		var cut tail
		n := 0
		for i := 0; i < len(segments)-1; i++ {
			end, _, err := j.endOf(segments[i])
			if err != nil {
				return err
			}
			if end.seq > carried || !end.time.Before(j.opt.Now().Add(-keep)) {
				break
			}
			cut, n = end, i+1
		}
		if n == 0 {
			return nil
		}
		b, err := newMark(baseKind(), j.opt.Signer, j.chain, cut, j.opt.Now())
		if err != nil {
			return err
		}
		// The beginning first: a crash behind it leaves records that it speaks of, and never a chain without a beginning.
		if err := j.writeMark(baseKind(), b); err != nil {
			return err
		}
		for _, s := range segments[:n] {
			if err := os.Remove(s.path); err != nil {
				return err
			}
		}
		gone = cut.seq
		return durable.SyncDir(j.opt.Dir)
	})
	if err != nil {
		return 0, fmt.Errorf("trim the journal: %w", err)
	}
	return gone, nil
}

// ExpireStore deletes from a store the oldest objects of a chain whose records were all read and are all older than keep, but never the
// newest object, after it has checked the whole chain and stored, signed by the signer, where it begins from then on. It returns the
// number of the last record that is gone; 0: none is.
func ExpireStore(ctx context.Context, s *store.Store, chain string, keep time.Duration, signer *seal.Signer, trust Trust, now time.Time) (int64, error) {
	if err := checkKeep(keep); err != nil {
		return 0, err
	}
	var newest time.Time
	newestTo := map[int64]time.Time{} // of the records up to this number
	audit, err := VerifyStore(ctx, s, chain, trust, func(r Record, _ []byte) error {
		if r.Time.After(newest) {
			newest = r.Time
		}
		newestTo[r.Seq] = newest
		return nil
	})
	if err != nil {
		return 0, err
	}
	objects, _, err := inStore(ctx, s, chain+"/")
	if err != nil {
		return 0, err
	}
	var cut int64
	n := 0
	for _, p := range objects {
		at, read := newestTo[p.last]
		if !read || p.last >= audit.Records || !at.Before(now.Add(-keep)) {
			break
		}
		cut, n = max(cut, p.last), n+1
	}
	if cut > audit.Base {
		b, err := newMark(baseKind(), signer, chain, tail{seq: cut, hash: audit.Hashes[cut]}, now)
		if err != nil {
			return 0, err
		}
		err = putBase(ctx, s, b)
		if errors.Is(err, store.ErrExists) {
			// A crash left a signature that no beginning came behind.
			err = s.Delete(ctx, baseName(chain, cut)+".sig")
			if err == nil {
				err = putBase(ctx, s, b)
			}
		}
		if err != nil {
			return 0, err
		}
	}
	for _, p := range objects[:n] {
		for _, suffix := range []string{"", ".sig"} {
			if err := s.Delete(ctx, p.name()+suffix); err != nil {
				return 0, fmt.Errorf("delete %s: %w", p.name()+suffix, err)
			}
		}
	}
	if cut <= audit.Base {
		return 0, nil
	}
	return cut, nil
}
