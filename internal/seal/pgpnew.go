package seal

import (
	"crypto"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"holdfast"
)

// The kinds of OpenPGP key pairs.
const (
	OpenPGPCurve25519 KeyKind = "openpgp-ed25519" // ed25519 with a subkey cv25519
	OpenPGPRSA        KeyKind = "openpgp-rsa4096" // RSA with 4096 bits, twice; for programs that know nothing newer
)

// userIDRule is "Name" or "Name <address>".
var userIDRule = regexp.MustCompile(`^([^()<>]*[^()<> ]) ?(?:<([^()<> ]+@[^()<> ]+)>)?$`)

// NewOpenPGPKey makes an OpenPGP key pair for name ("Ops" or "Ops <ops@example.com>") that gpg --import takes, and returns
// both halves armored. It never expires. The private half is locked by passphrase, unless that is zero.
func NewOpenPGPKey(kind KeyKind, name string, passphrase holdfast.Secret) (private holdfast.Secret, public string, err error) {
	config := lockConfig()
	switch kind {
	case OpenPGPCurve25519:
		config.Algorithm, config.Curve = packet.PubKeyAlgoEdDSA, packet.Curve25519
	case OpenPGPRSA:
		config.Algorithm, config.RSABits = packet.PubKeyAlgoRSA, 4096
	default:
		return holdfast.Secret{}, "", holdfast.WithHint(fmt.Errorf("%w: kind %q of OpenPGP keys is not known", holdfast.ErrUsage, kind),
			fmt.Sprintf("use %s or %s", OpenPGPCurve25519, OpenPGPRSA))
	}
	parts := userIDRule.FindStringSubmatch(strings.TrimSpace(name))
	if parts == nil || strings.ContainsFunc(name, unicode.IsControl) {
		return holdfast.Secret{}, "", holdfast.WithHint(fmt.Errorf("%w: %q cannot be the name of an OpenPGP key", holdfast.ErrUsage, name),
			`give "Name" or "Name <address>"`)
	}
	entity, err := openpgp.NewEntity(parts[1], "", parts[2], config)
	if err != nil {
		return holdfast.Secret{}, "", fmt.Errorf("make an OpenPGP key: %w", err)
	}
	if public, err = (pgpRecipient{entity}).text(); err != nil {
		return holdfast.Secret{}, "", fmt.Errorf("write an OpenPGP key: %w", err)
	}
	if !passphrase.IsZero() {
		if err := entity.EncryptPrivateKeys([]byte(passphrase.Reveal()), config); err != nil {
			return holdfast.Secret{}, "", fmt.Errorf("lock an OpenPGP key: %w", err)
		}
	}
	text, err := armored(openpgp.PrivateKeyType, func(w io.Writer) error { return entity.SerializePrivateWithoutSigning(w, config) })
	if err != nil {
		return holdfast.Secret{}, "", fmt.Errorf("write an OpenPGP key: %w", err)
	}
	return holdfast.NewSecret(text), public, nil
}

// lockConfig says how private keys are written and locked.
func lockConfig() *packet.Config {
	return &packet.Config{
		DefaultHash: crypto.SHA512, DefaultCipher: packet.CipherAES256,
		S2KConfig: &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, Hash: crypto.SHA256, S2KCount: s2kCount},
		Time:      time.Now,
	}
}
