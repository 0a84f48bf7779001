package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/seal"
	"holdfast/internal/store"
)

// Trust are the keys that may have signed. None: any signature that fits is taken, and Audit.Signers says whose they are.
type Trust []seal.PublicKey

// Audit is what a verification saw.
type Audit struct {
	Chain    string
	Records  int64     // number of the newest one
	Read     int64     // how many were read
	Base     int64     // number of the last one that was let go; 0: none was
	First    time.Time // of the oldest record that was read
	Last     time.Time
	Head     int64             // number of the record that the newest checkpoint signs; 0: there is none
	Stores   map[string]int64  // number of the newest record in each store that was looked at
	Unseen   map[string]string // stores that could not be looked at, and why
	Signers  []string          // fingerprints of all keys that signed something
	Reviewed time.Time         // of the newest REVIEW; zero: never
	Hashes   map[int64]string  // of every record that was read and of the last one that was let go, by number

	base *signedMark
}

// saw takes down a record that follows the one before it.
func (a *Audit) saw(r Record) {
	if a.Read == 0 {
		a.First = r.Time
	}
	a.Records, a.Last = r.Seq, r.Time
	a.Read++
	if r.Event == Reviewed {
		a.Reviewed = r.Time
	}
}

// begins takes down where the chain begins; nil: with its first record.
func (a *Audit) begins(base *signedMark) {
	if a.base = base; base != nil {
		a.Base, a.Hashes[base.Seq] = base.Seq, base.Hash
	}
}

// Agrees compares what two stores have of one chain: under one number they must have one record. Otherwise it fails with
// holdfast.ErrDifference and [ErrFork], and names the first number.
func (a Audit) Agrees(other Audit) error {
	for _, number := range slices.Sorted(maps.Keys(a.Hashes)) {
		if hash, both := other.Hashes[number]; both && hash != a.Hashes[number] {
			return fmt.Errorf("%w: %w, %d: the host was set back, or somebody rewrote one of them", holdfast.ErrDifference, ErrFork, number)
		}
	}
	return nil
}

// Verify checks every record of the chain here, its signed head, and everything that the stores have of it. Whatever is not as it was
// written is holdfast.ErrDifference, in one sentence each. A store that is nil, or fails, is named in Audit.Unseen.
func (j *Journal) Verify(ctx context.Context, trust Trust, stores map[string]*store.Store) (Audit, error) {
	audit := Audit{Chain: j.chain, Stores: map[string]int64{}, Unseen: map[string]string{}, Hashes: map[int64]string{}}
	c := newChecker(trust)
	// Nobody appends meanwhile; who may only read takes no lock.
	problems, err := j.verifyHere(ctx, c, &audit)
	if err != nil {
		return audit, err
	}
	for _, name := range slices.Sorted(maps.Keys(stores)) {
		if stores[name] == nil {
			audit.Unseen[name] = "it cannot be reached"
			continue
		}
		last, err := j.checkStore(ctx, c, stores[name], &audit)
		switch {
		case errors.Is(err, holdfast.ErrDifference):
			problems = append(problems, fmt.Errorf("store %s: %w", name, err))
		case err != nil:
			audit.Unseen[name] = holdfast.Sentence(err)
		default:
			audit.Stores[name] = last
		}
	}
	audit.Signers = c.signers
	return audit, errors.Join(problems...)
}

// verifyHere checks the chain here and its head, and returns what is wrong with them.
func (j *Journal) verifyHere(ctx context.Context, c *checker, audit *Audit) (problems []error, err error) {
	look := func() error {
		base, err := j.signedMark(baseKind(), c)
		if err != nil {
			problems = append(problems, err)
		}
		c.base = base
		err = j.lines(func(line []byte) error {
			if err := c.next(line); err != nil {
				return err
			}
			audit.saw(c.last)
			audit.Hashes[c.last.Seq] = c.hash
			return nil
		})
		if err == nil {
			err = c.end()
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("the journal here: %w", err))
		}
		audit.begins(base)
		if err := j.checkHead(c, audit); err != nil {
			problems = append(problems, err)
		}
		return nil
	}
	err = j.locked(ctx, "lock", look)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		err = look()
	}
	return problems, err
}

// checkHead compares the signed head with the chain.
func (j *Journal) checkHead(c *checker, audit *Audit) error {
	head, err := j.signedMark(headKind(), c)
	if head == nil || err != nil {
		return err
	}
	audit.Head = head.Seq
	return head.fits(audit.Records, audit.Hashes[head.Seq])
}

// checkStore reads everything that a store has of the chain, compares it with what is here, and returns the number of its newest record.
func (j *Journal) checkStore(ctx context.Context, c *checker, s *store.Store, here *Audit) (int64, error) {
	own := newChecker(c.trust)
	own.signers = c.signers
	there, err := own.walk(ctx, s, j.chain, func(r Record, line []byte) error {
		hash, known := here.Hashes[r.Seq]
		if r.Seq > here.Records { // maybe of a command that ended since
			var err error
			if _, hash, err = j.find(r.Seq); err != nil {
				return err
			}
			known = hash != ""
		}
		switch {
		case r.Seq > here.Records && !known:
			return fmt.Errorf("%w: it has record %d, and the journal here %s: its end was cut off", holdfast.ErrDifference, r.Seq, endsWith(here.Records))
		case known && hash != hashOf(line):
			return fmt.Errorf("%w: %w, %d", holdfast.ErrDifference, ErrFork, r.Seq)
		}
		return nil
	})
	c.signers = own.signers
	if err != nil || there.base == nil {
		return there.Records, err
	}
	hash, known := here.Hashes[there.Base]
	if !known {
		return there.Records, nil
	}
	r, _, err := j.find(there.Base)
	if err != nil {
		return 0, err
	}
	return there.Records, there.base.follows(hash, r.Time)
}

// VerifyStore checks a chain by what a store alone has of it, and tells its records: what another machine can know. The line is that of
// the record, without its line break, and may be changed when each returns. It fails with holdfast.ErrDifference when something is not
// as it was written, and with fs.ErrNotExist when the store has no such chain.
func VerifyStore(ctx context.Context, s *store.Store, chain string, trust Trust, each func(r Record, line []byte) error) (Audit, error) {
	audit, err := newChecker(trust).walk(ctx, s, chain, each)
	if err == nil && audit.Records == 0 {
		err = fmt.Errorf("the store has no journal of chain %s: %w", chain, fs.ErrNotExist)
	}
	return audit, err
}

// checker follows a chain.
type checker struct {
	trust   Trust
	base    *signedMark // what the chain may begin behind; nil: its first record must be there
	last    Record
	hash    string // of the last line
	signers []string
	seen    map[int64]string // hash of each record of the objects that were read
}

func newChecker(trust Trust) *checker {
	return &checker{trust: trust, hash: noHash(), seen: map[int64]string{}}
}

// walk checks what a store has of a chain, oldest first, also what is older than its beginning and still there.
func (c *checker) walk(ctx context.Context, s *store.Store, chain string, each func(r Record, line []byte) error) (Audit, error) {
	audit := Audit{Chain: chain, Hashes: c.seen}
	objects, bases, err := inStore(ctx, s, chain+"/")
	if err != nil {
		return audit, err
	}
	if len(bases) > 0 {
		// The highest number comes last.
		if c.base, err = c.readBase(ctx, s, chain, bases[len(bases)-1]); err != nil {
			return audit, err
		}
	}
	for _, p := range objects {
		data, err := c.object(ctx, s, p)
		if err != nil {
			return audit, err
		}
		at := p.first
		if _, err := eachLine(data, func(line []byte) error {
			if at++; at-1 <= c.last.Seq {
				return nil // an overlap, which object has compared with its own chain
			}
			if err := c.next(line); err != nil {
				return err
			}
			audit.saw(c.last)
			if each == nil {
				return nil
			}
			return each(c.last, line)
		}); err != nil {
			return audit, err
		}
	}
	if err := c.end(); err != nil {
		return audit, err
	}
	audit.begins(c.base)
	audit.Head, audit.Signers = c.last.Seq, c.signers
	return audit, nil
}

// next takes one more line, which must follow the last one. Of what the chain was made to begin behind any part may be gone; what is
// there is checked all the same.
func (c *checker) next(line []byte) error {
	r, err := parseLine(line)
	number, want := c.last.Seq+1, c.hash
	if err != nil {
		return fmt.Errorf("%w: record %d is not readable: %w", holdfast.ErrDifference, number, err)
	}
	if b := c.base; b != nil && number <= b.Seq {
		switch {
		case r.Seq > b.Seq:
			number, want = b.Seq+1, b.Hash
		case r.Seq > number:
			number, want = r.Seq, r.Prev
		}
	}
	switch {
	case r.Seq != number:
		return fmt.Errorf("%w: where record %d should be stands %d: records were removed, added or moved", holdfast.ErrDifference, number, r.Seq)
	case r.Prev != want:
		return fmt.Errorf("%w: record %d does not follow the one before it: one of the two was changed", holdfast.ErrDifference, number)
	}
	c.last, c.hash = r, hashOf(line)
	if c.base != nil && r.Seq == c.base.Seq {
		return c.base.follows(c.hash, r.Time)
	}
	return nil
}

// end says that no line follows the last one. A beginning leaves at least one record behind it.
func (c *checker) end() error {
	if c.base == nil || c.last.Seq > c.base.Seq {
		return nil
	}
	return fmt.Errorf("%w: it is said to begin behind record %d, and %s", holdfast.ErrDifference, c.base.Seq, endsWith(c.last.Seq))
}

// object reads one object of a store and checks its signature, that it has the records its name says, and that they follow each other.
func (c *checker) object(ctx context.Context, s *store.Store, p pushed) ([]byte, error) {
	data, signature, err := p.read(ctx, s)
	if err != nil {
		return nil, err
	}
	return data, c.holds(p, data, signature)
}

// read reads an object and its signature.
func (p pushed) read(ctx context.Context, s *store.Store) (data, signature []byte, err error) {
	if data, err = s.ReadAll(ctx, p.name(), maxPushed); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", p.name(), err)
	}
	signature, err = s.ReadAll(ctx, p.name()+".sig", maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: the signature of %s is gone", holdfast.ErrDifference, p.name())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the signature of %s: %w", p.name(), err)
	}
	return data, signature, nil
}

// holds checks what was read of an object.
func (c *checker) holds(p pushed, data, signature []byte) error {
	if err := c.signed(pushNamespace, signature, data); err != nil {
		return fmt.Errorf("%w: %s: %w", holdfast.ErrDifference, p.name(), err)
	}
	at, before := p.first, c.seen[p.first-1]
	whole, err := eachLine(data, func(line []byte) error {
		r, err := parseLine(line)
		switch {
		case err != nil || r.Seq != at:
			return fmt.Errorf("%w: %s does not hold record %d where it should be", holdfast.ErrDifference, p.name(), at)
		case before != "" && r.Prev != before:
			return fmt.Errorf("%w: record %d in %s does not follow the one before it", holdfast.ErrDifference, at, p.name())
		case c.seen[at] != "" && c.seen[at] != hashOf(line):
			return fmt.Errorf("%w: record %d is another one in %s than in an object before", holdfast.ErrDifference, at, p.name())
		}
		before = hashOf(line)
		c.seen[at] = before
		at++
		return nil
	})
	if err != nil {
		return err
	}
	if at != p.last+1 || whole != len(data) {
		return fmt.Errorf("%w: %s does not hold the records %d to %d", holdfast.ErrDifference, p.name(), p.first, p.last)
	}
	return nil
}

func (c *checker) signed(namespace string, signature, message []byte) error {
	key, err := seal.Verify(signature, namespace, message)
	if err != nil {
		return fmt.Errorf("the signature does not fit, one of them was changed: %w", err)
	}
	if !slices.Contains(c.signers, key.Fingerprint()) {
		c.signers = append(c.signers, key.Fingerprint())
	}
	if len(c.trust) == 0 || slices.ContainsFunc(c.trust, func(k seal.PublicKey) bool { return k.Equal(key) }) {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("signed by %s, which is not among the allowed signers", key.Fingerprint()), "if that host is yours, add its public key to allowed_signers")
}
