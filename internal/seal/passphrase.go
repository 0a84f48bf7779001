package seal

import (
	"fmt"

	"filippo.io/age"

	"holdfast"
)

// Passphrase is recipient and identity in one. As a recipient it seals in one format, as an identity it opens all of them,
// and unlocks OpenPGP private keys. It prints as a mask.
type Passphrase struct {
	text       holdfast.Secret
	format     Format
	workFactor int // of age's scrypt, as a power of two
	hashed     int // bytes that OpenPGP's S2K hashes
	iterations int // of openssl's PBKDF2
}

var (
	_ Recipient               = (*Passphrase)(nil)
	_ age.RecipientWithLabels = (*Passphrase)(nil)
	_ Identity                = (*Passphrase)(nil)
	_ age.Identity            = (*Passphrase)(nil)
)

const (
	// scryptWork costs about one second and 256 MiB, as in age.
	scryptWork = 18
	// maxScryptWork bounds what a stream can ask of its reader: 1 GiB.
	maxScryptWork = 20
)

// NewPassphrase uses text as a key; as a recipient it seals with age. Guessing is as hard as text is long: there is no
// second factor.
func NewPassphrase(text holdfast.Secret) (*Passphrase, error) { return NewPassphraseFor(Age, text) }

// NewPassphraseFor is NewPassphrase for one that seals in the format f; "" is Age.
func NewPassphraseFor(f Format, text holdfast.Secret) (*Passphrase, error) {
	if text.IsZero() {
		return nil, fmt.Errorf("%w: the passphrase is empty", holdfast.ErrUsage)
	}
	f, err := ParseFormat(string(f))
	if err != nil {
		return nil, err
	}
	return &Passphrase{text, f, scryptWork, s2kCount, opensslIterations}, nil
}

// String returns a mask.
func (p Passphrase) String() string { return p.text.String() }

// GoString returns a mask.
func (p Passphrase) GoString() string { return p.text.GoString() }

// Format is the one that the passphrase seals in.
func (p *Passphrase) Format() Format { return p.format }

// Formats lists all formats: a passphrase may open any.
func (p *Passphrase) Formats() []Format { return []Format{Age, OpenPGP, OpenSSL} }

// For returns the same passphrase, sealing in the format f.
func (p *Passphrase) For(f Format) *Passphrase {
	other := *p
	other.format = f
	return &other
}

// KeyID returns "passphrase", "openpgp-passphrase" or "openssl-passphrase".
func (p *Passphrase) KeyID() string {
	if p.format == Age {
		return "passphrase"
	}
	return string(p.format) + "-passphrase"
}

// Wrap seals the key of one stream of age's.
func (p *Passphrase) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := p.WrapWithLabels(fileKey)
	return stanzas, err
}

// WrapWithLabels is Wrap, with the label that keeps a passphrase alone in its stream.
func (p *Passphrase) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	r, err := age.NewScryptRecipient(p.text.Reveal())
	if err != nil {
		return nil, nil, err
	}
	r.SetWorkFactor(p.workFactor)
	return r.WrapWithLabels(fileKey)
}

// Unwrap opens the key of one stream of age's.
func (p *Passphrase) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	i, err := age.NewScryptIdentity(p.text.Reveal())
	if err != nil {
		return nil, err
	}
	i.SetMaxWorkFactor(maxScryptWork)
	return i.Unwrap(stanzas)
}
