package seal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"

	"holdfast"
)

// Recipient is the public half of a key, or a passphrase. It is safe for concurrent use. All of them are made here.
type Recipient interface {
	// KeyID names the recipient in a manifest: the beginning of an age key, the end of an OpenPGP key's fingerprint, or
	// that it is a passphrase. It is enough to find the file with the identity, is not secret and proves nothing.
	KeyID() string
	// Format is how a stream sealed to it is encrypted.
	Format() Format
}

// Identity is the private half of a key, or a passphrase. It prints as a mask and is safe for concurrent use. All of them
// are made here.
type Identity interface {
	fmt.Stringer
	// Formats lists what the identity may open.
	Formats() []Format
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

func (r classicRecipient) Format() Format { return Age }

type hybridRecipient struct{ *age.HybridRecipient }

func (r hybridRecipient) KeyID() string { return keyID(hybridPrefix, r.String()) }

func (r hybridRecipient) Format() Format { return Age }

var (
	_ Recipient               = classicRecipient{}
	_ Recipient               = hybridRecipient{}
	_ age.RecipientWithLabels = hybridRecipient{}
	_ Identity                = identity{}
	_ age.Identity            = identity{}
)

// ParseRecipient reads "age1…", "age1pq1…", or one armored OpenPGP public key.
func ParseRecipient(text string) (Recipient, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") {
		return nil, holdfast.WithHint(fmt.Errorf("%w: an identity was given where a recipient belongs", holdfast.ErrUsage),
			"give the public half, the line that begins with age1; if others saw this one, make a new key")
	}
	switch {
	case strings.HasPrefix(text, pgpBegin):
		keys, err := parsePGPRecipients([]byte(text))
		if err != nil {
			return nil, err
		}
		if len(keys) > 1 {
			return nil, holdfast.WithHint(fmt.Errorf("%w: the text holds %d OpenPGP keys", holdfast.ErrUsage, len(keys)), "give one key, or the file with all of them")
		}
		return keys[0], nil
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

// RecipientTexts takes a file of recipients apart into texts that [ParseRecipient] takes: age recipients, one for each
// line, with empty lines and comments that begin with #, or OpenPGP public keys, armored or not. Errors never say what is
// in the file. A text that occurs twice is returned once.
func RecipientTexts(data []byte) ([]string, error) {
	var texts []string
	if isPGPKeys(data) {
		keys, err := parsePGPRecipients(data)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			text, err := key.text()
			if err != nil {
				return nil, err
			}
			texts = append(texts, text)
		}
	} else {
		for i, line := range strings.Split(string(data), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if _, err := ParseRecipient(line); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			texts = append(texts, line)
		}
	}
	var once []string
	for _, text := range texts {
		if !slices.Contains(once, text) {
			once = append(once, text)
		}
	}
	if len(once) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no recipient in the file", holdfast.ErrUsage), "it needs one for each line, or an OpenPGP public key")
	}
	return once, nil
}

// identity hides the text of an age identity, which prints itself.
type identity struct {
	secret    age.Identity
	recipient Recipient
}

// Formats returns Age.
func (i identity) Formats() []Format { return []Format{Age} }

// Unwrap opens the key of one stream.
func (i identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) { return i.secret.Unwrap(stanzas) }

// String returns a mask.
func (i identity) String() string { return holdfast.Secret{}.String() }

// GoString returns a mask.
func (i identity) GoString() string { return holdfast.Secret{}.GoString() }

// RecipientOf returns the public half of an identity from [ParseIdentities], or nil for one that has none.
func RecipientOf(i Identity) Recipient {
	switch i := i.(type) {
	case identity:
		return i.recipient
	case *pgpIdentity:
		return pgpRecipient{i.entity}
	}
	return nil
}

// RecipientsAmong returns the recipients, of those that identities open, that have one of the key IDs; without any key IDs
// the recipients of the first format that can be sealed to. It is for sealing something to those who opened a stream.
func RecipientsAmong(identities []Identity, keyIDs []string) []Recipient {
	var found []Recipient
	add := func(r Recipient) {
		wanted := slices.Contains(keyIDs, r.KeyID()) || len(keyIDs) == 0
		known := slices.ContainsFunc(found, func(other Recipient) bool { return other.KeyID() == r.KeyID() })
		if wanted && !known && CheckRecipients(append(slices.Clone(found), r)) == nil {
			found = append(found, r)
		}
	}
	for _, i := range identities {
		if r := RecipientOf(i); r != nil {
			add(r)
		}
		if p, ok := i.(*Passphrase); ok {
			for _, format := range p.Formats() {
				add(p.For(format))
			}
		}
	}
	return found
}

// maxIdentities bounds what is read of a file of identities.
const maxIdentities = 1 << 20

// ParseIdentities reads a file of identities: as age-keygen writes it, one for each line, with empty lines and comments
// that begin with #; or OpenPGP private keys as gpg --export-secret-keys writes them, armored or not. Those
// that are locked are unlocked by [Unlock]. Errors name the line and never what is in it.
func ParseIdentities(r io.Reader) ([]Identity, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxIdentities+1))
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	if len(data) > maxIdentities {
		return nil, fmt.Errorf("%w: the file is too long for identities", holdfast.ErrUsage)
	}
	if isPGPKeys(data) {
		return parsePGPIdentities(data)
	}
	var found []Identity
	lines := bufio.NewScanner(bytes.NewReader(data))
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
	if len(found) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no identity in the file", holdfast.ErrUsage),
			"an identity is a line that begins with AGE-SECRET-KEY-, or an OpenPGP private key")
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

// CheckRecipients refuses what cannot be sealed to: nobody; recipients of two formats; an age or openssl passphrase beside
// others; two OpenPGP passphrases; and hybrid keys beside classic ones, which would leave the stream as weak as its weakest
// key. OpenPGP keys and one OpenPGP passphrase go together. Whether keys have expired is for [CheckNow].
func CheckRecipients(recipients []Recipient) error {
	if len(recipients) == 0 {
		return holdfast.WithHint(fmt.Errorf("%w: there is no recipient", holdfast.ErrUsage),
			"name at least one recipient; `holdfast key new` makes one")
	}
	var classic, hybrid, passphrase, pgpPassphrase int
	format := recipients[0].Format()
	for _, r := range recipients {
		if r.Format() != format {
			return holdfast.WithHint(fmt.Errorf("%w: one file cannot be sealed with %s and with %s", holdfast.ErrUsage, format, r.Format()),
				"use recipients of one format in a job: age keys, or OpenPGP keys and OpenPGP passphrases, or one openssl passphrase")
		}
		switch r := r.(type) {
		case classicRecipient:
			classic++
		case hybridRecipient:
			hybrid++
		case *Passphrase:
			if r.format == OpenPGP {
				pgpPassphrase++
			} else {
				passphrase++
			}
		case pgpRecipient:
		default:
			return errors.New("recipient of an unknown kind")
		}
	}
	switch {
	case passphrase > 0 && len(recipients) > 1:
		return holdfast.WithHint(fmt.Errorf("%w: a passphrase cannot be used beside other recipients", holdfast.ErrUsage),
			"use either keys or one passphrase")
	case pgpPassphrase > 1:
		// gpg gives up on the second when the first does not fit.
		return holdfast.WithHint(fmt.Errorf("%w: there can be one OpenPGP passphrase beside OpenPGP keys, not %d", holdfast.ErrUsage, pgpPassphrase),
			"leave all but one out")
	case classic > 0 && hybrid > 0:
		return holdfast.WithHint(
			fmt.Errorf("%w: hybrid recipients (age1pq1…) cannot be mixed with classic ones (age1…)", holdfast.ErrUsage),
			"use one kind: with a classic key among them, the others would not be safe from quantum computers either")
	}
	return nil
}
