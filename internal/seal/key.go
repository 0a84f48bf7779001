package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"holdfast"
)

// Stanza is one recipient's part of the header of a sealed stream.
type Stanza = age.Stanza

// Recipient is the public half of a key. It is safe for concurrent use.
type Recipient interface {
	// Wrap seals the key of one stream.
	Wrap(fileKey []byte) ([]*Stanza, error)
	// KeyID names the recipient in a manifest: the beginning of its text, enough to tell keys apart and to find the
	// file with the identity, or "passphrase". It is not secret and proves nothing.
	KeyID() string
}

// Identity is the private half of a key. It prints as a mask and is safe for concurrent use.
type Identity interface {
	// Unwrap opens the key of one stream.
	Unwrap(stanzas []*Stanza) ([]byte, error)
}

// KeyKind is a kind of key pair.
type KeyKind string

// The kinds of key pairs.
const (
	X25519 KeyKind = "x25519" // opens with any age
	Hybrid KeyKind = "hybrid" // ML-KEM-768 with X25519: also safe from quantum computers; needs age 1.3
)

// keyIDLength is how many characters after the prefix a key ID has: 60 bits.
const keyIDLength = 12

const (
	classicPrefix = "age1"
	hybridPrefix  = "age1pq1"
)

func keyID(prefix, text string) string { return text[:len(prefix)+keyIDLength] }

type classicRecipient struct{ *age.X25519Recipient }

func (r classicRecipient) KeyID() string { return keyID(classicPrefix, r.String()) }

type hybridRecipient struct{ *age.HybridRecipient }

func (r hybridRecipient) KeyID() string { return keyID(hybridPrefix, r.String()) }

var (
	_ Recipient               = classicRecipient{}
	_ Recipient               = hybridRecipient{}
	_ age.RecipientWithLabels = hybridRecipient{}
	_ Identity                = identity{}
)

// ParseRecipient reads "age1…" or "age1pq1…".
func ParseRecipient(text string) (Recipient, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") {
		return nil, holdfast.WithHint(fmt.Errorf("%w: an identity was given where a recipient belongs", holdfast.ErrUsage),
			"give the public half, the line that begins with age1; if others saw this one, make a new key")
	}
	switch {
	case strings.HasPrefix(text, hybridPrefix):
		if r, err := age.ParseHybridRecipient(text); err == nil {
			return hybridRecipient{r}, nil
		}
	case strings.HasPrefix(text, classicPrefix):
		if r, err := age.ParseX25519Recipient(text); err == nil {
			return classicRecipient{r}, nil
		}
	}
	// The text is not repeated: it may be a secret that was put in the wrong place.
	return nil, holdfast.WithHint(fmt.Errorf("%w: the text is not a recipient", holdfast.ErrUsage),
		"a recipient begins with age1 and is one line; `holdfast key new` or age-keygen makes one")
}

// identity hides the text of an age identity, which prints itself.
type identity struct {
	secret    age.Identity
	recipient Recipient
}

func (i identity) Unwrap(stanzas []*Stanza) ([]byte, error) { return i.secret.Unwrap(stanzas) }

// String returns a mask.
func (i identity) String() string { return holdfast.Secret{}.String() }

// GoString returns a mask.
func (i identity) GoString() string { return holdfast.Secret{}.GoString() }

// RecipientOf returns the public half of an identity from [ParseIdentities], or nil for one that has none.
func RecipientOf(i Identity) Recipient {
	known, ok := i.(identity)
	if !ok {
		return nil
	}
	return known.recipient
}

// maxIdentities bounds what is read of a file of identities.
const maxIdentities = 1 << 20

// ParseIdentities reads a file of identities as age-keygen writes it: one for each line, with empty lines and
// comments that begin with #. Errors name the line and never what is in it.
func ParseIdentities(r io.Reader) ([]Identity, error) {
	var found []Identity
	limited := &io.LimitedReader{R: r, N: maxIdentities}
	lines := bufio.NewScanner(limited)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parsed, err := parseIdentity(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		found = append(found, parsed)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("%w: the file is too long for identities", holdfast.ErrUsage)
	}
	if len(found) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no identity in the file", holdfast.ErrUsage),
			"an identity is a line that begins with AGE-SECRET-KEY-")
	}
	return found, nil
}

func parseIdentity(line string) (Identity, error) {
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		if i, err := age.ParseHybridIdentity(line); err == nil {
			return identity{i, hybridRecipient{i.Recipient()}}, nil
		}
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		if i, err := age.ParseX25519Identity(line); err == nil {
			return identity{i, classicRecipient{i.Recipient()}}, nil
		}
	case strings.HasPrefix(line, classicPrefix):
		return nil, holdfast.WithHint(fmt.Errorf("%w: a recipient stands where an identity belongs", holdfast.ErrUsage),
			"give the file with the private half, lines that begin with AGE-SECRET-KEY-")
	case strings.HasPrefix(line, "age-encryption.org/"):
		return nil, holdfast.WithHint(fmt.Errorf("%w: the file of identities is encrypted itself", holdfast.ErrUsage),
			"open it first with age -d")
	}
	return nil, holdfast.WithHint(fmt.Errorf("%w: not an identity", holdfast.ErrUsage),
		"an identity is a line that begins with AGE-SECRET-KEY-1 or AGE-SECRET-KEY-PQ-1, copied whole")
}

// NewIdentity makes a key pair and returns the text of both halves.
func NewIdentity(kind KeyKind) (identityText holdfast.Secret, recipient string, err error) {
	switch kind {
	case X25519:
		i, err := age.GenerateX25519Identity()
		if err != nil {
			return holdfast.Secret{}, "", fmt.Errorf("make identity: %w", err)
		}
		return holdfast.NewSecret(i.String()), i.Recipient().String(), nil
	case Hybrid:
		i, err := age.GenerateHybridIdentity()
		if err != nil {
			return holdfast.Secret{}, "", fmt.Errorf("make identity: %w", err)
		}
		return holdfast.NewSecret(i.String()), i.Recipient().String(), nil
	}
	return holdfast.Secret{}, "", holdfast.WithHint(
		fmt.Errorf("%w: key kind %q is not known", holdfast.ErrUsage, kind), "use x25519 or hybrid")
}

// Passphrase is recipient and identity in one. It prints as a mask.
type Passphrase struct {
	text       holdfast.Secret
	workFactor int
}

var (
	_ Recipient               = (*Passphrase)(nil)
	_ age.RecipientWithLabels = (*Passphrase)(nil)
	_ Identity                = (*Passphrase)(nil)
)

const (
	// scryptWork costs about one second and 256 MiB, as in age.
	scryptWork = 18
	// maxScryptWork bounds what a stream can ask of its reader: 1 GiB.
	maxScryptWork = 20
)

// NewPassphrase uses text as a key. Guessing is as hard as text is long: there is no second factor.
func NewPassphrase(text holdfast.Secret) (*Passphrase, error) {
	if text.IsZero() {
		return nil, fmt.Errorf("%w: the passphrase is empty", holdfast.ErrUsage)
	}
	return &Passphrase{text, scryptWork}, nil
}

// String returns a mask.
func (p Passphrase) String() string { return p.text.String() }

// GoString returns a mask.
func (p Passphrase) GoString() string { return p.text.GoString() }

// KeyID returns "passphrase".
func (p *Passphrase) KeyID() string { return "passphrase" }

// Wrap seals the key of one stream.
func (p *Passphrase) Wrap(fileKey []byte) ([]*Stanza, error) {
	stanzas, _, err := p.WrapWithLabels(fileKey)
	return stanzas, err
}

// WrapWithLabels is Wrap, with the label that keeps a passphrase alone in its stream.
func (p *Passphrase) WrapWithLabels(fileKey []byte) ([]*Stanza, []string, error) {
	r, err := age.NewScryptRecipient(p.text.Reveal())
	if err != nil {
		return nil, nil, err
	}
	r.SetWorkFactor(p.workFactor)
	return r.WrapWithLabels(fileKey)
}

// Unwrap opens the key of one stream.
func (p *Passphrase) Unwrap(stanzas []*Stanza) ([]byte, error) {
	i, err := age.NewScryptIdentity(p.text.Reveal())
	if err != nil {
		return nil, err
	}
	i.SetMaxWorkFactor(maxScryptWork)
	return i.Unwrap(stanzas)
}

// CheckRecipients refuses what cannot be sealed to: nobody, a passphrase beside others, and hybrid keys beside classic
// ones, which would leave the stream as weak as its weakest key.
func CheckRecipients(recipients []Recipient) error {
	if len(recipients) == 0 {
		return holdfast.WithHint(fmt.Errorf("%w: there is no recipient", holdfast.ErrUsage),
			"name at least one recipient; `holdfast key new` makes one")
	}
	var classic, hybrid, passphrase int
	for _, r := range recipients {
		switch r.(type) {
		case classicRecipient:
			classic++
		case hybridRecipient:
			hybrid++
		case *Passphrase:
			passphrase++
		default:
			return errors.New("recipient of an unknown kind")
		}
	}
	switch {
	case passphrase > 0 && len(recipients) > 1:
		return holdfast.WithHint(fmt.Errorf("%w: a passphrase cannot be used beside other recipients", holdfast.ErrUsage),
			"use either keys or one passphrase")
	case classic > 0 && hybrid > 0:
		return holdfast.WithHint(
			fmt.Errorf("%w: hybrid recipients (age1pq1…) cannot be mixed with classic ones (age1…)", holdfast.ErrUsage),
			"use one kind: with a classic key among them, the others would not be safe from quantum computers either")
	}
	return nil
}
