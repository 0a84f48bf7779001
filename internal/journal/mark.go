package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

// maxSeq is the highest number that a name of twelve digits has room for.
const maxSeq = 999_999_999_999

// kind is what a mark says of a chain.
type kind struct{ what, file, format, namespace string }

// headKind is where a chain ended.
func headKind() kind {
	return kind{"head", "head.json", "holdfast-journal-head-1", "holdfast-journal-head"}
}

// baseKind is where a chain goes on from after its oldest records were expired.
func baseKind() kind {
	return kind{"beginning", "base.json", "holdfast-journal-base-1", "holdfast-journal-base"}
}

// mark names one record of a chain.
type mark struct {
	Format string    `json:"format"`
	Chain  string    `json:"chain"`
	Seq    int64     `json:"seq"`
	Hash   string    `json:"hash"`
	Time   time.Time `json:"time"` // of the signature
	Signer string    `json:"signer"`
}

// signedMark is a mark with the bytes that were signed.
type signedMark struct {
	mark
	data, signature []byte
}

func newMark(k kind, signer *seal.Signer, chain string, at tail, now time.Time) (*signedMark, error) {
	m := &signedMark{mark: mark{k.format, chain, at.seq, at.hash, now.UTC().Truncate(time.Second), signer.PublicKey().Fingerprint()}}
	data, err := json.Marshal(m.mark)
	if err != nil {
		return nil, err
	}
	m.data = append(data, '\n')
	m.signature, err = signer.Sign(k.namespace, m.data)
	return m, err
}

func parseMark(k kind, chain string, data []byte) (mark, error) {
	var m mark
	if err := json.Unmarshal(data, &m); err != nil || m.Format != k.format || m.Chain != chain || m.Seq < 1 || m.Seq > maxSeq || len(m.Hash) != len(noHash()) {
		return mark{}, fmt.Errorf("%w: the journal's %s is that of another journal", holdfast.ErrDifference, k.what)
	}
	return m, nil
}

// mark reads a mark without a look at its signature: a crash may have parted the two. nil: there is none.
func (j *Journal) mark(k kind) (*mark, error) {
	data, err := os.ReadFile(j.path(k.file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseMark(k, j.chain, data)
	return &m, err
}

// signedMark reads a mark and checks its signature; nil: there is none.
func (j *Journal) signedMark(k kind, c *checker) (*signedMark, error) {
	data, err := os.ReadFile(j.path(k.file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signature, err := os.ReadFile(j.path(k.file + ".sig"))
	if err != nil {
		return nil, fmt.Errorf("%w: the signature of the journal's %s is not readable: %w", holdfast.ErrDifference, k.what, err)
	}
	return c.signedMark(k, j.chain, data, fitting(k, data, signature))
}

// fitting is that of the signatures in a file which fits the data, else the first.
func fitting(k kind, data, file []byte) []byte {
	all := bytes.SplitAfter(file, []byte("-----END SSH SIGNATURE-----\n"))
	for _, signature := range all {
		if _, err := seal.Verify(signature, k.namespace, data); err == nil {
			return signature
		}
	}
	return all[0]
}

func (c *checker) signedMark(k kind, chain string, data, signature []byte) (*signedMark, error) {
	if err := c.signed(k.namespace, signature, data); err != nil {
		return nil, fmt.Errorf("%w: the journal's %s: %w", holdfast.ErrDifference, k.what, err)
	}
	m, err := parseMark(k, chain, data)
	if err != nil {
		return nil, err
	}
	return &signedMark{m, data, signature}, nil
}

// writeMark replaces a mark. Behind its signature that of the mark before is kept: a crash between the two files leaves one that fits.
func (j *Journal) writeMark(k kind, m *signedMark) error {
	before, err := j.signatureOf(k)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(j.path(k.file+".sig"), slices.Concat(m.signature, before), fileMode); err != nil {
		return err
	}
	return durable.WriteFile(j.path(k.file), m.data, fileMode)
}

// signatureOf is the signature of the mark that is there; nil when none is.
func (j *Journal) signatureOf(k kind) ([]byte, error) {
	data, err := os.ReadFile(j.path(k.file))
	if err == nil {
		var file []byte
		if file, err = os.ReadFile(j.path(k.file + ".sig")); err == nil {
			return fitting(k, data, file), nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, err
}

// fits compares a head with a chain here that ends with the record last, hash being that of the record of the head, "" when it is not
// here. What does not fit is holdfast.ErrDifference.
func (m mark) fits(last int64, hash string) error {
	switch {
	case m.Seq > last:
		return fmt.Errorf("%w: the journal here %s, and its head was signed at %d: its end was cut off", holdfast.ErrDifference, endsWith(last), m.Seq)
	case hash == "":
		return fmt.Errorf("%w: record %d is not here, and the journal's head was signed at it: an end was cut off", holdfast.ErrDifference, m.Seq)
	case m.Hash != hash:
		return fmt.Errorf("%w: record %d, or one before it, is not the one that was signed", holdfast.ErrDifference, m.Seq)
	}
	return nil
}

// follows compares a base with the record that it names: it has this hash, and was old enough to go. Otherwise it is
// holdfast.ErrDifference. A time that is not known is zero.
func (m mark) follows(hash string, at time.Time) error {
	switch {
	case m.Hash != hash:
		return fmt.Errorf("%w: the journal is said to begin behind another record %d than the one that is there", holdfast.ErrDifference, m.Seq)
	case m.Time.Before(at.Add(ShortestKeep)):
		return fmt.Errorf("%w: the journal was made to begin behind record %d less than %d days after that was written", holdfast.ErrDifference, m.Seq, ShortestKeep/(24*time.Hour))
	}
	return nil
}

func endsWith(last int64) string {
	if last == 0 {
		return "has no record"
	}
	return fmt.Sprintf("ends with record %d", last)
}
