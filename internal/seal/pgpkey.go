package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"holdfast"
)

// pgpRecipient is an OpenPGP public key. Which of its subkeys is sealed to is chosen when a stream begins.
type pgpRecipient struct{ entity *openpgp.Entity }

// pgpIdentity is an OpenPGP private key. A locked one opens nothing until [Unlock] has found its passphrase.
type pgpIdentity struct{ entity *openpgp.Entity }

var (
	_ Recipient = pgpRecipient{}
	_ Identity  = (*pgpIdentity)(nil)
)

func (r pgpRecipient) KeyID() string { return pgpKeyID(r.entity) }

func (r pgpRecipient) Format() Format { return OpenPGP }

// pgpKeyID is the end of the fingerprint, which gpg calls the long key ID.
func pgpKeyID(e *openpgp.Entity) string { return fmt.Sprintf("openpgp-%016x", e.PrimaryKey.KeyId) }

// describePGP names a key as its holder knows it.
func describePGP(e *openpgp.Entity) string {
	name := fmt.Sprintf("OpenPGP key %016X", e.PrimaryKey.KeyId)
	if _, identity := e.PrimaryIdentity(time.Time{}, nil); identity != nil {
		name += " (" + identity.Name + ")"
	}
	return name
}

// sealingKey returns the subkey that a stream is sealed to at the time now, or why there is none.
func (r pgpRecipient) sealingKey(now time.Time) (*packet.PublicKey, error) {
	key, ok := r.entity.EncryptionKey(now, nil)
	if ok {
		return key.PublicKey, nil
	}
	return nil, holdfast.WithHint(fmt.Errorf("%w: %s %s", holdfast.ErrUsage, describePGP(r.entity), r.unfit(now)),
		"export a key that can be sealed to with `gpg --armor --export`, and use it instead")
}

// unfit says why a key cannot be sealed to.
func (r pgpRecipient) unfit(now time.Time) string {
	e := r.entity
	self, err := e.PrimarySelfSignature(time.Time{}, nil)
	switch {
	case err != nil:
		return "has no valid signature of its own"
	case e.Revoked(now):
		return "was revoked"
	case e.PrimaryKey.KeyExpired(self, now):
		return when(e.PrimaryKey, self, now)
	}
	why := "has no subkey that encrypts"
	for _, subkey := range e.Subkeys {
		binding, err := subkey.LatestValidBindingSignature(time.Time{}, nil)
		if err != nil || !encrypts(subkey.PublicKey, binding) {
			continue
		}
		switch name := fmt.Sprintf("its subkey %016X ", subkey.PublicKey.KeyId); {
		case subkey.Revoked(binding, now):
			why = "cannot be sealed to: " + name + "was revoked"
		case subkey.Expired(binding, now):
			why = "cannot be sealed to: " + name + when(subkey.PublicKey, binding, now)
		case !binding.FlagsValid:
			why = "cannot be sealed to: " + name + "does not say what it is for"
		default:
			why = "cannot be sealed to: " + name + "is of a kind or length that is not safe any more"
		}
	}
	return why
}

// when says that a key has expired, or is not valid yet.
func when(key *packet.PublicKey, signature *packet.Signature, now time.Time) string {
	if now.Before(key.CreationTime) {
		return "is of the future: it was made on " + key.CreationTime.UTC().Format(time.DateOnly)
	}
	end, ends := expiry(key, signature)
	if !ends {
		return "expired" // its signature did, if not the key
	}
	return "expired on " + end.Format(time.DateOnly)
}

// CheckNow reports whether recipients can be sealed to today: OpenPGP keys expire and are revoked.
func CheckNow(recipients []Recipient, now time.Time) error {
	for _, r := range recipients {
		if key, ok := r.(pgpRecipient); ok {
			if _, err := key.sealingKey(now); err != nil {
				return err
			}
		}
	}
	return nil
}

// ExpiryOf returns when an OpenPGP key cannot be sealed to any more because it expires; false for what never does.
func ExpiryOf(r Recipient) (time.Time, bool) {
	key, ok := r.(pgpRecipient)
	if !ok {
		return time.Time{}, false
	}
	self, err := key.entity.PrimarySelfSignature(time.Time{}, nil)
	if err != nil {
		return time.Time{}, false
	}
	end, ends := expiry(key.entity.PrimaryKey, self)
	var last time.Time
	for _, subkey := range key.entity.Subkeys {
		binding, err := subkey.LatestValidBindingSignature(time.Time{}, nil)
		if err != nil || !encrypts(subkey.PublicKey, binding) || subkey.Revoked(binding, time.Time{}) {
			continue
		}
		subkeyEnd, subkeyEnds := expiry(subkey.PublicKey, binding)
		if !subkeyEnds {
			return end, ends
		}
		if subkeyEnd.After(last) {
			last = subkeyEnd
		}
	}
	if !last.IsZero() && (!ends || last.Before(end)) {
		return last, true
	}
	return end, ends
}

// expiry is when a key expires by the signature that binds it.
func expiry(key *packet.PublicKey, signature *packet.Signature) (time.Time, bool) {
	if signature.KeyLifetimeSecs == nil || *signature.KeyLifetimeSecs == 0 {
		return time.Time{}, false
	}
	return key.CreationTime.Add(time.Duration(*signature.KeyLifetimeSecs) * time.Second).UTC(), true
}

// encrypts reports whether a subkey is meant to be sealed to.
func encrypts(key *packet.PublicKey, binding *packet.Signature) bool {
	return key.PubKeyAlgo.CanEncrypt() && (!binding.FlagsValid || binding.FlagEncryptStorage || binding.FlagEncryptCommunications)
}

const pgpBegin = "-----BEGIN PGP "

// isPGPKeys reports whether data looks like OpenPGP keys, armored or not.
func isPGPKeys(data []byte) bool {
	if bytes.Contains(data, []byte(pgpBegin)) {
		return true
	}
	h, _, err := parsePGPHeader(data)
	return err == nil && (h.tag == 5 || h.tag == 6)
}

// readPGPKeys reads every key of a file, armored (also several blocks) or not.
func readPGPKeys(data []byte) (openpgp.EntityList, error) {
	if !bytes.Contains(data, []byte(pgpBegin)) {
		return openpgp.ReadKeyRing(bytes.NewReader(data))
	}
	var all openpgp.EntityList
	for rest := data; ; {
		at := bytes.Index(rest, []byte(pgpBegin))
		if at < 0 {
			return all, nil
		}
		rest = rest[at:]
		block, err := armor.Decode(bytes.NewReader(rest))
		if err != nil {
			return nil, cutShort(err)
		}
		if block.Type != openpgp.PublicKeyType && block.Type != openpgp.PrivateKeyType {
			return nil, fmt.Errorf("a block of type %q is not a key", block.Type)
		}
		keys, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
		rest = rest[len(pgpBegin):]
	}
}

// parsePGPRecipients reads OpenPGP public keys.
func parsePGPRecipients(data []byte) ([]pgpRecipient, error) {
	entities, err := readPGPKeys(data)
	if err != nil || len(entities) == 0 {
		// The text is not repeated, nor is what the parser says of it: it may be a secret in the wrong place.
		return nil, holdfast.WithHint(fmt.Errorf("%w: the OpenPGP key cannot be read", holdfast.ErrUsage),
			"give the file that `gpg --armor --export KEY` writes")
	}
	var recipients []pgpRecipient
	for _, e := range entities {
		if e.PrivateKey != nil {
			return nil, holdfast.WithHint(fmt.Errorf("%w: an OpenPGP private key was given where a recipient belongs", holdfast.ErrUsage),
				"give the public half, which `gpg --armor --export KEY` writes, and keep the private one off this host")
		}
		recipients = append(recipients, pgpRecipient{e})
	}
	return recipients, nil
}

// text is the key as ParseRecipient takes it: armored, without what others signed on it.
func (r pgpRecipient) text() (string, error) {
	return armored(openpgp.PublicKeyType, r.entity.Serialize)
}

func armored(kind string, write func(io.Writer) error) (string, error) {
	var b strings.Builder
	w, err := armor.Encode(&b, kind, nil)
	if err != nil {
		return "", err
	}
	if err := errors.Join(write(w), w.Close()); err != nil {
		return "", err
	}
	return b.String() + "\n", nil
}

// parsePGPIdentities reads OpenPGP private keys. Those whose private halves are elsewhere (on a card, say) are left out.
func parsePGPIdentities(data []byte) ([]Identity, error) {
	entities, err := readPGPKeys(data)
	if err != nil || len(entities) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: the OpenPGP key cannot be read", holdfast.ErrUsage),
			"give the file that `gpg --armor --export-secret-keys KEY` writes")
	}
	var found []Identity
	public, absent := 0, 0
	for _, e := range entities {
		i := &pgpIdentity{entity: e}
		switch {
		case e.PrivateKey == nil:
			public++
		case len(i.openers()) == 0:
			absent++
		default:
			found = append(found, i)
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case absent > 0:
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no private key that opens anything in the file", holdfast.ErrUsage),
			"a key on a card cannot be exported: open the file with gpg, or give a key whose encryption subkey was exported")
	default:
		return nil, holdfast.WithHint(fmt.Errorf("%w: an OpenPGP public key stands where an identity belongs", holdfast.ErrUsage),
			"give the file with the private half, which `gpg --armor --export-secret-keys KEY` writes")
	}
}

// openers returns the private keys of i that can open a stream. Whether they have expired, were revoked or say that
// they encrypt does not matter: what was once sealed to them must stay readable.
func (i *pgpIdentity) openers() []*packet.PrivateKey {
	all := []*packet.PrivateKey{i.entity.PrivateKey}
	for _, subkey := range i.entity.Subkeys {
		all = append(all, subkey.PrivateKey)
	}
	var keys []*packet.PrivateKey
	for _, key := range all {
		if key != nil && !key.Dummy() && key.PubKeyAlgo.CanEncrypt() {
			keys = append(keys, key)
		}
	}
	return keys
}

// Formats returns OpenPGP.
func (i *pgpIdentity) Formats() []Format { return []Format{OpenPGP} }

// String returns a mask.
func (i *pgpIdentity) String() string { return holdfast.Secret{}.String() }

// GoString returns a mask.
func (i *pgpIdentity) GoString() string { return holdfast.Secret{}.GoString() }

// open decrypts the session key in esk. locked reports that a private key which may fit needs its passphrase.
func (i *pgpIdentity) open(esk *packet.EncryptedKey) (opened, locked bool) {
	for _, key := range i.openers() {
		switch {
		case esk.KeyId != 0 && esk.KeyId != key.KeyId:
		case key.Encrypted:
			locked = true
		case esk.Decrypt(key, nil) == nil:
			return true, false
		}
	}
	return false, locked
}

// Unlock unlocks the OpenPGP private keys among identities with the passphrases among them, for as long as they are kept.
// What no passphrase fits stays locked, and opening says so where it is needed. It must not run while the identities are
// used.
func Unlock(identities []Identity) {
	for _, identity := range identities {
		i, ok := identity.(*pgpIdentity)
		if !ok {
			continue
		}
		for _, key := range i.openers() {
			for _, other := range identities {
				if p, ok := other.(*Passphrase); ok && key.Encrypted {
					// An error means that it is the passphrase of something else.
					_ = key.Decrypt([]byte(p.text.Reveal()))
				}
			}
		}
	}
}
