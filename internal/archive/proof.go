package archive

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

const (
	proofFormat    = "holdfast-proof-1"
	proofNamespace = "holdfast-proof"
)

// Proof is the plain, signed verdict of one drill. It has no inner names.
type Proof struct {
	Format      string             `json:"format"`
	ID          holdfast.BackupID  `json:"id"` // of the proof
	Backup      holdfast.BackupID  `json:"backup"`
	Job         holdfast.JobName   `json:"job"`
	Manifest    string             `json:"manifest_sha256"`
	Verdict     holdfast.Verdict   `json:"verdict"`
	Time        time.Time          `json:"time"`
	Host        string             `json:"host"`
	Who         string             `json:"who"`
	Version     string             `json:"version"`
	Facts       int                `json:"facts_compared"`
	Differences int                `json:"differences"`
	Texts       int                `json:"text_differences"`
	Seconds     map[string]float64 `json:"seconds"`
	Signer      string             `json:"signer"`
	Details     *ProofDetails      `json:"details,omitempty"` // nil when there are none
}

// ProofDetails is what is known of the object with a drill's details.
type ProofDetails struct {
	SHA256  string        `json:"stored_sha256"`
	Opening *seal.Opening `json:"opening,omitempty"` // nil when it is not sealed
}

// PutProof stores the verdict p on b, its signature, and details sealed like the items of b's job. The verdict itself is
// written last.
func (a *Archive) PutProof(ctx context.Context, b *Backup, p Proof, details []byte) (Proof, error) {
	if a.opt.Signer == nil {
		return Proof{}, errNoSigner()
	}
	p.Format, p.ID, p.Backup, p.Job, p.Manifest = proofFormat, holdfast.NewBackupID(), b.Entry.ID, b.Entry.Job, b.Digest
	p.Time = p.Time.UTC().Truncate(time.Second)
	p.Signer = a.opt.Signer.PublicKey().Fingerprint()
	entry := ProofEntry{Time: p.Time, Verdict: p.Verdict, ID: p.ID}

	if details != nil {
		opt := a.opt.Seal
		opt.Compression = seal.Zstd
		var sealed bytes.Buffer
		w, err := seal.NewWriter(&sealed, opt)
		if err != nil {
			return Proof{}, fmt.Errorf("seal the details of the drill: %w", err)
		}
		if _, err := w.ReadFrom(bytes.NewReader(details)); err != nil {
			w.Abort()
			return Proof{}, fmt.Errorf("seal the details of the drill: %w", err)
		}
		if err := w.Close(); err != nil {
			return Proof{}, fmt.Errorf("seal the details of the drill: %w", err)
		}
		p.Details = &ProofDetails{SHA256: w.Sums().SealedSHA256}
		if opening := w.Opening(); !opt.Plain {
			p.Details.Opening = &opening
		}
		if err := a.store.Put(ctx, b.Entry.proofName(entry, "details.json"+opt.Suffix()), &sealed); err != nil {
			return Proof{}, fmt.Errorf("store the details of the drill: %w", err)
		}
	}
	if err := a.putRecord(ctx, proofRecord(b, entry), &p); err != nil {
		return Proof{}, err
	}
	return p, nil
}

func proofRecord(b *Backup, entry ProofEntry) signedRecord {
	return signedRecord{"proof " + string(entry.ID), proofNamespace, func(suffix string) string { return b.Entry.proofName(entry, suffix) }}
}

// ReadProof reads a verdict and checks that it is signed, speaks of b, and says what its name says.
func (a *Archive) ReadProof(ctx context.Context, b *Backup, entry ProofEntry) (Proof, bool, error) {
	var p Proof
	trusted, err := a.readRecord(ctx, proofRecord(b, entry), &p)
	if err != nil {
		return Proof{}, false, err
	}
	if p.Format != proofFormat || p.ID != entry.ID || p.Verdict != entry.Verdict || !p.Time.Equal(entry.Time) || p.Backup != b.Entry.ID || p.Job != b.Entry.Job || p.Manifest != b.Digest {
		return Proof{}, false, fmt.Errorf("%w: proof %s speaks of another backup, or says other things than its name", holdfast.ErrDifference, entry.ID)
	}
	return p, trusted, nil
}
