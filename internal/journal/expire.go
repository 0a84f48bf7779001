package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
	"holdfast/internal/store"
)

const (
	baseFormat    = "holdfast-journal-base-1"
	baseNamespace = "holdfast-journal-base"
)

// ShortestKeep is how long records are kept at the least.
const ShortestKeep = 365 * 24 * time.Hour

// signedBase is what a chain goes on from after its oldest records were expired.
type signedBase struct {
	head
	data, signature []byte
}

var baseRule = regexp.MustCompile(`^journal/[a-z0-9][a-z0-9-]{0,80}-[a-z0-9]{10}/([0-9]{12})\.base\.json$`)

func baseName(chain string, seq int64) string {
	return fmt.Sprintf("%s%s/%012d.base.json", storePrefix, chain, seq)
}

// known are the hashes of the records that are here.
type known struct {
	first int64 // number of the oldest
	list  []string
}

func (k *known) add(seq int64, hash string) {
	if k.list == nil {
		k.first = seq
	}
	k.list = append(k.list, hash)
}

func (k *known) last() int64 { return k.first + int64(len(k.list)) - 1 }

// at is the hash of a record, "" when it is not here.
func (k *known) at(seq int64) string {
	if seq < k.first || seq > k.last() || k.list == nil {
		return ""
	}
	return k.list[seq-k.first]
}

// begin lets the checker go on from a base; nil is the beginning of the chain.
func (c *checker) begin(from *signedBase) {
	if from != nil {
		c.last, c.hash = Record{Seq: from.Seq}, from.Hash
	}
}

// begin is the end of what was expired.
func begin(from *signedBase) tail {
	if from == nil {
		return tail{hash: noHash()}
	}
	return tail{seq: from.Seq, hash: from.Hash}
}

func (c *checker) readBase(data, signature []byte, chain string) (*signedBase, error) {
	if err := c.signed(baseNamespace, signature, data); err != nil {
		return nil, fmt.Errorf("%w: the journal's beginning: %w", holdfast.ErrDifference, err)
	}
	b := &signedBase{data: data, signature: signature}
	if err := json.Unmarshal(data, &b.head); err != nil || b.Format != baseFormat || b.Chain != chain || b.Seq < 1 || len(b.Hash) != len(noHash()) {
		return nil, fmt.Errorf("%w: the journal's beginning is that of another journal", holdfast.ErrDifference)
	}
	return b, nil
}

// baseHere reads where the chain begins here; nil: with its first record.
func (j *Journal) baseHere(c *checker) (*signedBase, error) {
	data, err := os.ReadFile(j.path("base.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signature, err := os.ReadFile(j.path("base.json.sig"))
	if err != nil {
		return nil, fmt.Errorf("%w: the signature of the journal's beginning is not readable: %w", holdfast.ErrDifference, err)
	}
	return c.readBase(data, signature, j.chain)
}

// baseIn reads where a chain begins in a store; nil: with its first record.
func (c *checker) baseIn(ctx context.Context, s *store.Store, chain string) (*signedBase, error) {
	name := ""
	for object, err := range s.List(ctx, storePrefix+chain+"/") {
		if err != nil {
			return nil, fmt.Errorf("list the journal: %w", err)
		}
		if baseRule.MatchString(object.Name) {
			name = object.Name // the highest number comes last
		}
	}
	if name == "" {
		return nil, nil
	}
	data, err := s.ReadAll(ctx, name, maxLine)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	signature, err := s.ReadAll(ctx, name+".sig", maxSignature)
	if err != nil {
		return nil, fmt.Errorf("read the signature of %s: %w", name, err)
	}
	b, err := c.readBase(data, signature, chain)
	if err == nil && strconv.FormatInt(b.Seq, 10) != trimZeros(baseRule.FindStringSubmatch(name)[1]) {
		err = fmt.Errorf("%w: %s says other things than its name", holdfast.ErrDifference, name)
	}
	return b, err
}

func trimZeros(number string) string {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return number
	}
	return strconv.FormatInt(n, 10)
}

func newBase(signer *seal.Signer, chain string, seq int64, hash string, now time.Time) (*signedBase, error) {
	b := &signedBase{head: head{baseFormat, chain, seq, hash, now.UTC().Truncate(time.Second), signer.PublicKey().Fingerprint()}}
	data, err := json.Marshal(b.head)
	if err != nil {
		return nil, err
	}
	b.data = append(data, '\n')
	b.signature, err = signer.Sign(baseNamespace, b.data)
	return b, err
}

func (j *Journal) writeBase(b signedBase) error {
	return errors.Join(durable.WriteFile(j.path("base.json.sig"), b.signature, fileMode), durable.WriteFile(j.path("base.json"), b.data, fileMode))
}

// Trim drops the records here that are older than keep, whole months of them, as long as some store once had them. It signs where the
// chain begins from then on, and returns the number of the last record that is gone; 0: none is.
func (j *Journal) Trim(keep time.Duration, carried int64) (int64, error) {
	if keep < ShortestKeep {
		return 0, fmt.Errorf("%w: records are kept for at least %d days", holdfast.ErrUsage, ShortestKeep/(24*time.Hour))
	}
	if j.opt.Signer == nil {
		return 0, holdfast.WithHint(errors.New("trim the journal: this host has no signing key"), "make one with `holdfast init`")
	}
	var gone int64
	err := j.locked("lock", func() error {
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
		b, err := newBase(j.opt.Signer, j.chain, cut.seq, cut.hash, j.opt.Now())
		if err != nil {
			return err
		}
		// The beginning first: a crash behind it leaves records that it speaks of, and never a chain without a beginning.
		if err := j.writeBase(*b); err != nil {
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

// ExpireStore deletes from a store the objects of a chain whose records are all older than keep, but never the newest object, after it
// has checked the whole chain and stored, signed by the signer, where it begins from then on. It returns the number of the last record that is gone.
func ExpireStore(ctx context.Context, s *store.Store, chain string, keep time.Duration, signer *seal.Signer, trust Trust, now time.Time) (int64, error) {
	if keep < ShortestKeep {
		return 0, fmt.Errorf("%w: records are kept for at least %d days", holdfast.ErrUsage, ShortestKeep/(24*time.Hour))
	}
	times, hashes := map[int64]time.Time{}, map[int64]string{}
	next := ""
	audit, err := VerifyStore(ctx, s, chain, trust, func(r Record) error {
		times[r.Seq], hashes[r.Seq-1] = r.Time, r.Prev
		return nil
	})
	if err != nil {
		return 0, err
	}
	objects, err := inStore(ctx, s, chain+"/")
	if err != nil {
		return 0, err
	}
	cut := audit.Base
	for _, p := range objects {
		at, known := times[p.last]
		if known && p.last < audit.Records && at.Before(now.Add(-keep)) {
			cut = max(cut, p.last)
		}
	}
	if cut > audit.Base {
		next = hashes[cut]
		b, err := newBase(signer, chain, cut, next, now)
		if err != nil {
			return 0, err
		}
		name := baseName(chain, cut)
		if err := s.Put(ctx, name+".sig", bytes.NewReader(b.signature)); err != nil {
			return 0, err
		}
		if err := s.Put(ctx, name, bytes.NewReader(b.data)); err != nil {
			return 0, err
		}
	}
	for _, p := range objects {
		if p.last > cut {
			continue
		}
		for _, suffix := range []string{"", ".sig"} {
			if err := s.Delete(ctx, p.name()+suffix); err != nil {
				return 0, fmt.Errorf("delete %s: %w", p.name()+suffix, err)
			}
		}
	}
	if cut == audit.Base {
		return 0, nil
	}
	return cut, nil
}
