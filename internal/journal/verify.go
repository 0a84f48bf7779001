package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

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
	Base     int64     // number of the last one that was expired; 0: none was
	First    time.Time // of the oldest record
	Last     time.Time
	Head     int64             // number of the record that the newest checkpoint signs; 0: there is none
	Stores   map[string]int64  // number of the newest record in each store that was looked at
	Unseen   map[string]string // stores that could not be looked at, and why
	Signers  []string          // fingerprints of all keys that signed something
	Reviewed time.Time         // of the newest REVIEW; zero: never
}

// Verify checks every record of the chain here, its signed head, and everything that the stores have of it. Whatever is not as it was
// written is holdfast.ErrDifference, in one sentence each. A store that is nil, or fails, is named in Audit.Unseen.
func (j *Journal) Verify(ctx context.Context, trust Trust, stores map[string]*store.Store) (Audit, error) {
	audit := Audit{Chain: j.chain, Stores: map[string]int64{}, Unseen: map[string]string{}}
	c := &checker{trust: trust}
	var problems []error
	from, err := j.baseHere(c)
	if err != nil {
		problems = append(problems, err)
	}
	c.begin(from)
	hashes := &known{}
	err = j.lines(func(line []byte) error {
		if from != nil && numberOf(line) <= from.Seq {
			return nil // a trim was cut before it was gone
		}
		hashes.add(c.last.Seq+1, hashOf(line))
		err := c.next(line)
		if err != nil {
			return err
		}
		if audit.First.IsZero() {
			audit.First = c.last.Time
		}
		audit.Last = c.last.Time
		if c.last.Event == Reviewed {
			audit.Reviewed = c.last.Time
		}
		return nil
	})
	audit.Records = c.last.Seq
	if from != nil {
		audit.Base = from.Seq
	}
	if err != nil {
		problems = append(problems, fmt.Errorf("the journal here: %w", err))
	}
	if err := j.checkHead(c, hashes, &audit); err != nil {
		problems = append(problems, err)
	}
	for _, name := range slices.Sorted(maps.Keys(stores)) {
		if stores[name] == nil {
			audit.Unseen[name] = "it cannot be reached"
			continue
		}
		last, err := j.checkStore(ctx, c, stores[name], hashes)
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

// numberOf is the number of the record in a line; 0 when it is none.
func numberOf(line []byte) int64 {
	r, err := parseLine(line)
	if err != nil {
		return 0
	}
	return r.Seq
}

// checkHead compares the signed head with the chain.
func (j *Journal) checkHead(c *checker, hashes *known, audit *Audit) error {
	data, err := os.ReadFile(j.path("head.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	signature, err := os.ReadFile(j.path("head.json.sig"))
	if err != nil {
		return fmt.Errorf("%w: the signature of the journal's head is not readable: %w", holdfast.ErrDifference, err)
	}
	if err := c.signed(headNamespace, signature, data); err != nil {
		return fmt.Errorf("%w: the journal's head: %w", holdfast.ErrDifference, err)
	}
	var h head
	if err := json.Unmarshal(data, &h); err != nil || h.Format != headFormat || h.Chain != j.chain {
		return fmt.Errorf("%w: the journal's head is that of another journal", holdfast.ErrDifference)
	}
	audit.Head = h.Seq
	switch {
	case h.Seq > hashes.last():
		return fmt.Errorf("%w: the journal here ends with record %d, and its head was signed at %d: its end was cut off", holdfast.ErrDifference, hashes.last(), h.Seq)
	case h.Seq < 1 || hashes.at(h.Seq) != h.Hash:
		return fmt.Errorf("%w: record %d, or one before it, is not the one that was signed", holdfast.ErrDifference, h.Seq)
	}
	return nil
}

// checkStore reads everything that a store has of the chain, and returns the number of its newest record.
func (j *Journal) checkStore(ctx context.Context, c *checker, s *store.Store, hashes *known) (int64, error) {
	objects, err := inStore(ctx, s, j.chain+"/")
	if err != nil {
		return 0, err
	}
	from, err := c.baseIn(ctx, s, j.chain)
	if err != nil {
		return 0, err
	}
	var last int64
	if from != nil {
		last = from.Seq
	}
	for _, p := range objects {
		if from != nil && p.last <= from.Seq {
			continue // on its way out
		}
		if p.first > last+1 {
			return 0, fmt.Errorf("%w: it lacks records %d to %d", holdfast.ErrDifference, last+1, p.first-1)
		}
		data, err := c.object(ctx, s, p)
		if err != nil {
			return 0, err
		}
		at := p.first
		if _, err := eachLine(data, func(line []byte) error {
			switch {
			case at > hashes.last():
				return fmt.Errorf("%w: it has record %d, and the journal here ends with %d: its end was cut off", holdfast.ErrDifference, at, hashes.last())
			case at >= hashes.first && hashes.at(at) != hashOf(line):
				return fmt.Errorf("%w: %w, %d", holdfast.ErrDifference, ErrFork, at)
			}
			at++
			return nil
		}); err != nil {
			return 0, err
		}
		last = max(last, p.last)
	}
	return last, nil
}

// VerifyStore checks a chain by what a store alone has of it, and tells its records: what another machine can know.
func VerifyStore(ctx context.Context, s *store.Store, chain string, trust Trust, each func(Record) error) (Audit, error) {
	audit := Audit{Chain: chain}
	objects, err := inStore(ctx, s, chain+"/")
	if err != nil {
		return audit, err
	}
	c := &checker{trust: trust}
	from, err := c.baseIn(ctx, s, chain)
	if err != nil {
		return audit, err
	}
	c.begin(from)
	audit.Base = c.last.Seq
	for _, p := range objects {
		if p.last <= c.last.Seq && p.last <= audit.Base {
			continue // on its way out
		}
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
			if audit.First.IsZero() {
				audit.First = c.last.Time
			}
			audit.Last = c.last.Time
			if c.last.Event == Reviewed {
				audit.Reviewed = c.last.Time
			}
			if each == nil {
				return nil
			}
			return each(c.last)
		}); err != nil {
			return audit, err
		}
	}
	audit.Records, audit.Head, audit.Signers = c.last.Seq, c.last.Seq, c.signers
	return audit, nil
}

// checker follows a chain.
type checker struct {
	trust   Trust
	last    Record
	hash    string // of the last line
	signers []string
	seen    map[int64]string // hash of each record of the objects that were read
}

// next takes one more line, which must follow the last one.
func (c *checker) next(line []byte) error {
	r, err := parseLine(line)
	number := c.last.Seq + 1
	if err != nil {
		return fmt.Errorf("%w: record %d is not readable: %w", holdfast.ErrDifference, number, err)
	}
	want := c.hash
	if number == 1 {
		want = noHash()
	}
	switch {
	case r.Seq != number:
		return fmt.Errorf("%w: where record %d should be stands %d: records were removed, added or moved", holdfast.ErrDifference, number, r.Seq)
	case r.Prev != want:
		return fmt.Errorf("%w: record %d does not follow the one before it: one of the two was changed", holdfast.ErrDifference, number)
	}
	c.last, c.hash = r, hashOf(line)
	return nil
}

// object reads one object of a store and checks its signature, that it has the records its name says, and that they follow each other.
func (c *checker) object(ctx context.Context, s *store.Store, p pushed) ([]byte, error) {
	data, err := s.ReadAll(ctx, p.name(), maxPushed)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.name(), err)
	}
	signature, err := s.ReadAll(ctx, p.name()+".sig", maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the signature of %s is gone", holdfast.ErrDifference, p.name())
	}
	if err != nil {
		return nil, fmt.Errorf("read the signature of %s: %w", p.name(), err)
	}
	if err := c.signed(pushNamespace, signature, data); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", holdfast.ErrDifference, p.name(), err)
	}
	if c.seen == nil {
		c.seen = map[int64]string{}
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
		return nil, err
	}
	if at != p.last+1 || whole != len(data) {
		return nil, fmt.Errorf("%w: %s does not hold the records %d to %d", holdfast.ErrDifference, p.name(), p.first, p.last)
	}
	return data, nil
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
