package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"holdfast"
)

// The sentinels of signatures. Both satisfy holdfast.ErrDifference.
var (
	// ErrBadSignature: the signature is not one of this message in this namespace.
	ErrBadSignature = fmt.Errorf("%w: the signature is not valid", holdfast.ErrDifference)
	// ErrUnknownSigner: the signature is good, but by a key that is not allowed to make it.
	ErrUnknownSigner = fmt.Errorf("%w: the signer is not an allowed one", holdfast.ErrDifference)
)

// The constants of the format, see PROTOCOL.sshsig of OpenSSH.
const (
	sigMagic   = "SSHSIG"
	sigVersion = 1
	sigHash    = "sha512"
	sigArmor   = "SSH SIGNATURE"
)

// sigBlob is a signature without its magic.
type sigBlob struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// sigContent is what is signed, without the magic. The namespace is in it, so that a signature made for one purpose
// is worth nothing for another.
type sigContent struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

func toBeSigned(namespace string, message []byte) []byte {
	digest := sha512.Sum512(message)
	return append([]byte(sigMagic), ssh.Marshal(sigContent{Namespace: namespace, Hash: sigHash, Digest: digest[:]})...)
}

// PublicKey is the key that checks signatures: always Ed25519.
type PublicKey struct{ key ssh.PublicKey }

// ParsePublicKey reads one line as in id_ed25519.pub or authorized_keys, without options.
func ParsePublicKey(line string) (PublicKey, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 || key.Type() != ssh.KeyAlgoED25519 {
		return PublicKey{}, holdfast.WithHint(fmt.Errorf("%w: not a public key for signatures", holdfast.ErrUsage),
			"give one line that begins with ssh-ed25519, from the .pub file")
	}
	return PublicKey{key}, nil
}

// Fingerprint returns "SHA256:…", as ssh-keygen -l does.
func (k PublicKey) Fingerprint() string {
	if k.key == nil {
		return ""
	}
	return ssh.FingerprintSHA256(k.key)
}

// String returns the key as one line of authorized_keys, without a comment.
func (k PublicKey) String() string {
	if k.key == nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.key)))
}

// Equal reports whether both are the same key.
func (k PublicKey) Equal(other PublicKey) bool {
	return k.key != nil && other.key != nil && bytes.Equal(k.key.Marshal(), other.key.Marshal())
}

// Signer signs. It prints as a mask and is safe for concurrent use.
type Signer struct{ signer ssh.Signer }

// NewSigner makes a key pair and returns the private half as an OpenSSH file and the public half as a line of
// authorized_keys.
func NewSigner() (privatePEM holdfast.Secret, authorizedKey string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return holdfast.Secret{}, "", fmt.Errorf("make signing key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return holdfast.Secret{}, "", fmt.Errorf("make signing key: %w", err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return holdfast.Secret{}, "", fmt.Errorf("make signing key: %w", err)
	}
	return holdfast.NewSecret(string(pem.EncodeToMemory(block))), PublicKey{key}.String(), nil
}

// ParseSigner reads an OpenSSH private key file that holds an Ed25519 key without a passphrase.
func ParseSigner(text holdfast.Secret) (*Signer, error) {
	raw, err := ssh.ParseRawPrivateKey([]byte(text.Reveal()))
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, holdfast.WithHint(fmt.Errorf("%w: the signing key is protected by a passphrase", holdfast.ErrUsage),
			"a host signs unattended: make a key of its own for it with `holdfast key new`")
	}
	private, ok := raw.(*ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, holdfast.WithHint(fmt.Errorf("%w: not a private key for signatures", holdfast.ErrUsage),
			"give an OpenSSH private key file of type ed25519")
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	return &Signer{signer}, nil
}

// PublicKey returns the public half.
func (s *Signer) PublicKey() PublicKey { return PublicKey{s.signer.PublicKey()} }

// String returns a mask.
func (s Signer) String() string { return holdfast.Secret{}.String() }

// GoString returns a mask.
func (s Signer) GoString() string { return holdfast.Secret{}.GoString() }

// Sign signs message for one purpose, the namespace, and returns what ssh-keygen -Y sign would write.
func (s *Signer) Sign(namespace string, message []byte) ([]byte, error) {
	if namespace == "" {
		return nil, fmt.Errorf("sign: %w: the namespace is empty", holdfast.ErrUsage)
	}
	signature, err := s.signer.Sign(rand.Reader, toBeSigned(namespace, message))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	blob := ssh.Marshal(sigBlob{
		Version:   sigVersion,
		PublicKey: s.signer.PublicKey().Marshal(),
		Namespace: namespace,
		Hash:      sigHash,
		Signature: ssh.Marshal(signature),
	})
	return pem.EncodeToMemory(&pem.Block{Type: sigArmor, Bytes: append([]byte(sigMagic), blob...)}), nil
}

// Verify checks a signature and returns the key that made it. That alone says nothing: the caller compares the key
// with those it trusts, or uses [AllowedSigners.Verify]. Errors satisfy [ErrBadSignature].
func Verify(armored []byte, namespace string, message []byte) (PublicKey, error) {
	key, err := verify(armored, namespace, message)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return PublicKey{key}, nil
}

func verify(armored []byte, namespace string, message []byte) (ssh.PublicKey, error) {
	block, rest := pem.Decode(armored)
	// What stands before or after the armor is not signed, and must not look as if it were.
	if !bytes.HasPrefix(armored, []byte("-----BEGIN")) || block == nil || block.Type != sigArmor || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not an armored SSH signature")
	}
	data, ok := bytes.CutPrefix(block.Bytes, []byte(sigMagic))
	if !ok {
		return nil, errors.New("it is not an SSH signature")
	}
	var blob sigBlob
	if err := ssh.Unmarshal(data, &blob); err != nil {
		return nil, errors.New("it is malformed")
	}
	switch {
	case blob.Version != sigVersion:
		return nil, fmt.Errorf("version %d is not known", blob.Version)
	case namespace == "" || blob.Namespace != namespace:
		return nil, fmt.Errorf("it was made for %q, not for %q", blob.Namespace, namespace)
	case blob.Hash != sigHash:
		return nil, fmt.Errorf("hash %q is not %s", blob.Hash, sigHash)
	case blob.Reserved != "":
		return nil, errors.New("it uses what is reserved")
	}
	key, err := ssh.ParsePublicKey(blob.PublicKey)
	if err != nil || key.Type() != ssh.KeyAlgoED25519 {
		return nil, errors.New("its key is not of type ssh-ed25519")
	}
	var signature ssh.Signature
	if err := ssh.Unmarshal(blob.Signature, &signature); err != nil || len(signature.Rest) > 0 {
		return nil, errors.New("it is malformed")
	}
	if err := key.Verify(toBeSigned(namespace, message), &signature); err != nil {
		return nil, errors.New("the message or the signature was changed")
	}
	return key, nil
}

// AllowedSigner is one key that may sign.
type AllowedSigner struct {
	Principal  string
	Namespaces []string // what it may sign; empty: everything
	Key        PublicKey
}

// AllowedSigners says who may sign, as the file of that name of ssh-keygen -Y verify does.
type AllowedSigners []AllowedSigner

// AllowedSignersLine returns the line for key in an allowed signers file.
func AllowedSignersLine(principal string, key PublicKey) string {
	return principal + " " + key.String()
}

// ParseAllowedSigners reads an allowed signers file of Ed25519 keys. Of the options it knows namespaces without
// wildcards and refuses the others, because ignoring one would allow more than the file says.
func ParseAllowedSigners(text string) (AllowedSigners, error) {
	var allowed AllowedSigners
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		signer, err := parseAllowedSigner(line)
		if err != nil {
			return nil, fmt.Errorf("%w: allowed signers, line %d: %w", holdfast.ErrUsage, number, err)
		}
		allowed = append(allowed, signer)
	}
	return allowed, nil
}

func parseAllowedSigner(line string) (AllowedSigner, error) {
	end := strings.IndexAny(line, " \t")
	if end < 0 || strings.ContainsAny(line[:end], `"*?!,`) {
		return AllowedSigner{}, errors.New("it must begin with one principal, without quotes and wildcards")
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line[end:]))
	if err != nil || key.Type() != ssh.KeyAlgoED25519 {
		return AllowedSigner{}, errors.New("it has no ssh-ed25519 key")
	}
	signer := AllowedSigner{Principal: line[:end], Key: PublicKey{key}}
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		value = strings.Trim(value, `"`)
		if !strings.EqualFold(name, "namespaces") || value == "" || strings.ContainsAny(value, "*?!") {
			return AllowedSigner{}, fmt.Errorf("option %q is not known", option)
		}
		signer.Namespaces = append(signer.Namespaces, strings.Split(value, ",")...)
	}
	return signer, nil
}

// Verify checks a signature and returns the signer. Errors satisfy [ErrBadSignature] or [ErrUnknownSigner].
func (a AllowedSigners) Verify(armored []byte, namespace string, message []byte) (AllowedSigner, error) {
	key, err := Verify(armored, namespace, message)
	if err != nil {
		return AllowedSigner{}, err
	}
	for _, signer := range a {
		if signer.Key.Equal(key) && (len(signer.Namespaces) == 0 || slices.Contains(signer.Namespaces, namespace)) {
			return signer, nil
		}
	}
	return AllowedSigner{}, fmt.Errorf("%w: %s", ErrUnknownSigner, key.Fingerprint())
}
