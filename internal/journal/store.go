package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

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

// inStore lists the objects of chains whose names begin with prefix, "" for all, in the order of the records.
func inStore(ctx context.Context, s *store.Store, prefix string) ([]pushed, error) {
	var all []pushed
	for object, err := range s.List(ctx, storePrefix+prefix) {
		if err != nil {
			return nil, fmt.Errorf("list the journal: %w", err)
		}
		if p, ok := parseObject(object.Name); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// lines calls do for every line of the journal, oldest first. What follows the last line break is no line.
func (j *Journal) lines(do func(line []byte) error) error {
	segments, err := j.segments()
	if err != nil {
		return err
	}
	for _, s := range segments {
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

// ErrFork: a store has other records than this journal under the same numbers. One of the two was set back or rewritten.
var ErrFork = errors.New("the journal in the store and the one here have different records under one number")

// Signs reports whether this journal has a key to sign what it pushes.
func (j *Journal) Signs() bool { return j.opt.Signer != nil }

// Push carries to a store the records that it lacks, and returns how many those are. It fails with holdfast.ErrDifference, and
// [ErrFork] where that is so, when the store has records that this journal has not.
func (j *Journal) Push(ctx context.Context, s *store.Store) (int, error) {
	if j.opt.Signer == nil {
		return 0, holdfast.WithHint(errors.New("push the journal: this host has no signing key"), "make one with `holdfast init`")
	}
	n := 0
	err := j.locked("push.lock", func() error {
		there, err := j.nearEnd(ctx, s)
		if err != nil {
			return err
		}
		var last pushed
		for _, p := range there {
			if p.last > last.last {
				last = p
			}
		}
		if last.last > 0 {
			if err := j.continues(ctx, s, last); err != nil {
				return err
			}
		}
		n, err = j.pushFrom(ctx, s, last.last+1)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("push the journal: %w", err)
	}
	return n, nil
}

// nearEnd lists what a store has of the chain around its end here: years of records need not be listed for each new one.
func (j *Journal) nearEnd(ctx context.Context, s *store.Store) ([]pushed, error) {
	var end tail
	err := j.locked("lock", func() (err error) {
		end, err = j.mend()
		return err
	})
	if err != nil {
		return nil, err
	}
	near, err := inStore(ctx, s, j.chain+"/"+fmt.Sprintf("%012d", end.seq)[:9])
	if err != nil || len(near) > 0 {
		return near, err
	}
	return inStore(ctx, s, j.chain+"/")
}

// continues checks that this journal has the last record that the store has.
func (j *Journal) continues(ctx context.Context, s *store.Store, last pushed) error {
	data, err := s.ReadAll(ctx, last.name(), maxPushed)
	if err != nil {
		return err
	}
	var want []byte
	if _, err := eachLine(data, func(line []byte) error { want = bytes.Clone(line); return nil }); err != nil {
		return err
	}
	found := false
	var have int64
	err = j.lines(func(line []byte) error {
		r, err := parseLine(line)
		if err != nil {
			return err
		}
		if have = r.Seq; have == last.last {
			found = bytes.Equal(line, want)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case have < last.last:
		return holdfast.WithHint(fmt.Errorf("%w: the store has record %d, and the journal here ends with %d: its end is lost, or was cut off", holdfast.ErrDifference, last.last, have),
			"find out why; `holdfast audit rebuild` takes the journal from the store")
	case !found:
		return holdfast.WithHint(fmt.Errorf("%w: %w, %d: this host was set back, or somebody rewrote one of them", holdfast.ErrDifference, ErrFork, last.last),
			"find out why; `holdfast audit rebuild` takes the journal from the store and keeps this one aside")
	}
	return nil
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
	Last  int64 // number of the newest record
}

// Chains lists the chains that a store has: those of every host that wrote there.
func Chains(ctx context.Context, s *store.Store) ([]ChainInfo, error) {
	all, err := inStore(ctx, s, "")
	if err != nil {
		return nil, err
	}
	var chains []ChainInfo
	for _, p := range all {
		i := slices.IndexFunc(chains, func(c ChainInfo) bool { return c.Chain == p.chain })
		if i < 0 {
			chains = append(chains, ChainInfo{p.chain, p.last})
			continue
		}
		chains[i].Last = max(chains[i].Last, p.last)
	}
	return chains, nil
}

// Rebuild makes the journal in opt.Dir that of a chain in a store, and returns its records. What was there is kept in a folder beside it,
// named after the time. Every object's signature is checked.
func Rebuild(ctx context.Context, s *store.Store, chain string, opt Options, trust Trust) (int, error) {
	objects, err := inStore(ctx, s, chain+"/")
	if err != nil {
		return 0, err
	}
	if len(objects) == 0 {
		return 0, fmt.Errorf("the store has no journal of chain %s: %w", chain, fs.ErrNotExist)
	}
	c := &checker{trust: trust}
	from, err := c.baseIn(ctx, s, chain)
	if err != nil {
		return 0, err
	}
	c.begin(from)
	next := c.last.Seq + 1
	var lines [][]byte
	for _, p := range objects {
		if p.last < next {
			continue
		}
		if p.first > next {
			return 0, fmt.Errorf("%w: the store lacks records %d to %d of chain %s", holdfast.ErrDifference, next, p.first-1, chain)
		}
		data, err := c.object(ctx, s, p)
		if err != nil {
			return 0, err
		}
		at := p.first
		if _, err := eachLine(data, func(line []byte) error {
			if at == next {
				lines = append(lines, bytes.Clone(line))
				next++
			}
			at++
			return nil
		}); err != nil {
			return 0, err
		}
	}
	for _, line := range lines {
		if err := c.next(line); err != nil {
			return 0, fmt.Errorf("chain %s: %w", chain, err)
		}
	}
	return len(lines), replace(opt, chain, from, lines)
}

func replace(opt Options, chain string, from *signedBase, lines [][]byte) error {
	aside := strings.TrimSuffix(opt.Dir, "/") + ".before-" + opt.Now().UTC().Format("20060102T150405Z")
	if err := os.Rename(opt.Dir, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the journal that is here: %w", err)
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return err
	}
	j := &Journal{opt: opt, chain: chain}
	if err := os.WriteFile(j.path("chain"), []byte(chain+"\n"), fileMode); err != nil {
		return err
	}
	if from != nil {
		if err := j.writeBase(*from); err != nil {
			return err
		}
	}
	end := begin(from)
	for _, line := range lines {
		r, err := parseLine(line)
		if err != nil {
			return err
		}
		if err := j.writeAt(r.Time, end, line); err != nil {
			return err
		}
		if end.segment == "" || end.size >= maxSegment || month(end.time) != month(r.Time) {
			end.segment, end.size = j.path(fmt.Sprintf("%012d.jsonl", end.seq+1)), 0
		}
		end.seq, end.time = end.seq+1, r.Time
		end.size += int64(len(line)) + 1
	}
	return nil
}
