package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"

	"holdfast"
	"holdfast/internal/store"
)

const (
	storePrefix   = "journal/"
	pushNamespace = "holdfast-journal"
	maxPushed     = maxSegment + maxLine + 1
	maxSignature  = 64 << 10
)

var objectRule = regexp.MustCompile(`^journal/([a-z0-9][a-z0-9-]{0,80}-[a-z0-9]{10})/([0-9]{12})-([0-9]{12})\.jsonl$`)

// pushed is one object of a chain in a store.
type pushed struct {
	chain       string
	first, last int64
}

func (p pushed) name() string {
	return fmt.Sprintf("%s%s/%012d-%012d.jsonl", storePrefix, p.chain, p.first, p.last)
}

func parseObject(name string) (pushed, bool) {
	m := objectRule.FindStringSubmatch(name)
	if m == nil {
		return pushed{}, false
	}
	first, errFirst := strconv.ParseInt(m[2], 10, 64)
	last, errLast := strconv.ParseInt(m[3], 10, 64)
	return pushed{m[1], first, last}, errors.Join(errFirst, errLast) == nil && first >= 1 && last >= first
}

// inStore lists the objects and the names of the bases of chains whose names begin with prefix, "" for all, in the order of the records.
func inStore(ctx context.Context, s *store.Store, prefix string) (objects []pushed, bases []string, err error) {
	for object, err := range s.List(ctx, storePrefix+prefix) {
		if err != nil {
			return nil, nil, fmt.Errorf("list the journal: %w", err)
		}
		if p, ok := parseObject(object.Name); ok {
			objects = append(objects, p)
		} else if baseRule.MatchString(object.Name) {
			bases = append(bases, object.Name)
		}
	}
	return objects, bases, nil
}

// lines calls do for every line of the journal, oldest first. What follows the last line break is no line.
func (j *Journal) lines(do func(line []byte) error) error { return j.linesAfter(0, do) }

// linesAfter leaves out files that have no record after that number.
func (j *Journal) linesAfter(after int64, do func(line []byte) error) error {
	segments, err := j.segments()
	if err != nil {
		return err
	}
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].first <= after+1 {
			continue
		}
		data, err := os.ReadFile(s.path)
		if err != nil {
			return err
		}
		if _, err := eachLine(data, do); err != nil {
			return err
		}
	}
	return nil
}

// ErrFork: two places have different records of one chain under the same number. One of them was set back or rewritten.
var ErrFork = errors.New("one chain has different records under one number")

// Signs reports whether this journal has a key to sign what it pushes.
func (j *Journal) Signs() bool { return j.opt.Signer != nil }

// Push carries to a store the records that it lacks, and returns how many those are. It fails with holdfast.ErrDifference when the chain
// here has no longer what its head signed and, with [ErrFork] where that is so, when the store has records that this journal has not.
// Another push on this host is waited for as long as ctx lasts.
func (j *Journal) Push(ctx context.Context, s *store.Store) (int, error) {
	if j.opt.Signer == nil {
		return 0, holdfast.WithHint(errors.New("push the journal: this host has no signing key"), "make one with `holdfast init`")
	}
	n := 0
	err := j.locked(ctx, "push.lock", func() error {
		var end tail
		err := j.locked(ctx, "lock", func() (err error) {
			if end, err = j.mend(); err != nil {
				return err
			}
			return j.maySign(end)
		})
		if err != nil {
			return err
		}
		first, err := j.firstFor(ctx, s, end)
		if err != nil {
			return err
		}
		n, err = j.pushFrom(ctx, s, first)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("push the journal: %w", err)
	}
	return n, nil
}

// firstFor is the number of the first record that a store lacks of the chain, which ends at end here. What the store lacks and has
// expired here is gone: then it gets the beginning.
func (j *Journal) firstFor(ctx context.Context, s *store.Store, end tail) (int64, error) {
	there, err := j.nearEnd(ctx, s, end)
	if err != nil {
		return 0, err
	}
	var last pushed
	for _, p := range there {
		if p.last > last.last {
			last = p
		}
	}
	base, err := j.signedMark(baseKind(), newChecker(nil))
	switch {
	case err != nil:
		return 0, err
	case base != nil && last.last < base.Seq && end.seq > base.Seq:
		return base.Seq + 1, putBase(ctx, s, base)
	case last.last > 0:
		return last.last + 1, j.continues(ctx, s, last, end)
	}
	return 1, nil
}

// nearEnd lists what a store has of the chain around its end here: years of records need not be listed for each new one.
func (j *Journal) nearEnd(ctx context.Context, s *store.Store, end tail) ([]pushed, error) {
	near, _, err := inStore(ctx, s, j.chain+"/"+fmt.Sprintf("%012d", end.seq)[:9])
	if err != nil || len(near) > 0 {
		return near, err
	}
	near, _, err = inStore(ctx, s, j.chain+"/")
	return near, err
}

// continues checks that this journal, which ends at end, has the last record that the store has.
func (j *Journal) continues(ctx context.Context, s *store.Store, last pushed, end tail) error {
	if end.seq < last.last {
		return holdfast.WithHint(fmt.Errorf("%w: the store has record %d, and the journal here %s: its end is lost, or was cut off", holdfast.ErrDifference, last.last, endsWith(end.seq)),
			"find out why; `holdfast audit rebuild` takes the journal from the store")
	}
	data, err := s.ReadAll(ctx, last.name(), maxPushed)
	if err != nil {
		return err
	}
	there := ""
	if _, err := eachLine(data, func(line []byte) error { there = hashOf(line); return nil }); err != nil {
		return err
	}
	here, err := j.hashAt(last.last)
	if err == nil && here != there {
		return holdfast.WithHint(fmt.Errorf("%w: %w, %d: this host was set back, or somebody rewrote one of them", holdfast.ErrDifference, ErrFork, last.last),
			"find out why; `holdfast audit rebuild` takes the journal from the store and keeps this one aside")
	}
	return err
}

// pushFrom stores the records from first on, in objects of at most a segment's size.
func (j *Journal) pushFrom(ctx context.Context, s *store.Store, first int64) (int, error) {
	var batch []byte
	from, next, n := first, first, 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		p := pushed{j.chain, from, next - 1}
		signature, err := j.opt.Signer.Sign(pushNamespace, batch)
		if err != nil {
			return err
		}
		if err := s.Put(ctx, p.name()+".sig", bytes.NewReader(signature)); err != nil {
			return err
		}
		if err := s.Put(ctx, p.name(), bytes.NewReader(batch)); err != nil {
			return err
		}
		n += int(p.last - p.first + 1)
		batch, from = nil, next
		return nil
	}
	err := j.lines(func(line []byte) error {
		r, err := parseLine(line)
		if err != nil || r.Seq < first {
			return err
		}
		batch = append(append(batch, line...), '\n')
		next = r.Seq + 1
		if len(batch) >= maxSegment {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return n, err
}

// ChainInfo is what a store has of one chain.
type ChainInfo struct {
	Chain string
	Last  int64 // number of the newest record; 0: only the beginning of the chain is there
}

// Chains lists the chains that a store has: those of every host that wrote there.
func Chains(ctx context.Context, s *store.Store) ([]ChainInfo, error) {
	objects, bases, err := inStore(ctx, s, "")
	if err != nil {
		return nil, err
	}
	last := map[string]int64{}
	for _, name := range bases {
		last[path.Base(path.Dir(name))] = 0
	}
	for _, p := range objects {
		last[p.chain] = max(last[p.chain], p.last)
	}
	var chains []ChainInfo
	for _, chain := range slices.Sorted(maps.Keys(last)) {
		chains = append(chains, ChainInfo{chain, last[chain]})
	}
	return chains, nil
}
