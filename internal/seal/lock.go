package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"holdfast"
)

// ErrLocked: the private keys are under a passphrase that was not given, or is another one.
var ErrLocked = errors.New("the private key is locked by a passphrase")

// maxKeyFile bounds a file of keys, locked or not.
const maxKeyFile = 2 * maxIdentities

// IsLockedAge reports whether a file is encrypted by age as a whole, as files of identities may be.
func IsLockedAge(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return bytes.HasPrefix(data, []byte(ageMagic)) || bytes.HasPrefix(data, []byte(armor.Header))
}

// LockAge seals a file of age identities to a passphrase, armored: `age -d` opens it, and `age -d -i` takes it as it is.
func LockAge(identities, passphrase holdfast.Secret) ([]byte, error) {
	p, err := NewPassphrase(passphrase)
	if err != nil {
		return nil, err
	}
	if _, err := ParseIdentities(strings.NewReader(identities.Reveal())); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	lines := armor.NewWriter(&out)
	w, err := age.Encrypt(lines, p)
	if err != nil {
		return nil, fmt.Errorf("lock identities: %w", err)
	}
	_, err = io.WriteString(w, identities.Reveal())
	if err := errors.Join(err, w.Close(), lines.Close()); err != nil {
		return nil, fmt.Errorf("lock identities: %w", err)
	}
	return out.Bytes(), nil
}

// UnlockAge opens a file that [LockAge] or `age -p` wrote, armored or not. It fails with [ErrLocked] when the passphrase is
// not the one.
func UnlockAge(data []byte, passphrase holdfast.Secret) (holdfast.Secret, error) {
	p, err := NewPassphrase(passphrase)
	if err != nil {
		return holdfast.Secret{}, err
	}
	var in io.Reader = bytes.NewReader(data)
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); bytes.HasPrefix(trimmed, []byte(armor.Header)) {
		in = armor.NewReader(bytes.NewReader(trimmed))
	}
	opened, err := age.Decrypt(in, p)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return holdfast.Secret{}, holdfast.WithHint(fmt.Errorf("%w: %w, and this one does not open it", holdfast.ErrUsage, ErrLocked),
			"give the passphrase that the file was sealed to; a file sealed to a key is opened with age -d")
	}
	if err != nil {
		return holdfast.Secret{}, fmt.Errorf("%w: the locked file of identities: %w", ErrDamaged, err)
	}
	text, err := io.ReadAll(io.LimitReader(opened, maxKeyFile+1))
	if err != nil {
		return holdfast.Secret{}, fmt.Errorf("%w: the locked file of identities: %w", ErrDamaged, err)
	}
	if len(text) > maxKeyFile {
		return holdfast.Secret{}, fmt.Errorf("%w: the file is too long for identities", holdfast.ErrUsage)
	}
	return holdfast.NewSecret(string(text)), nil
}

// LockPGP returns the OpenPGP private keys in data, armored, under a passphrase, so that gpg --import takes them. Those that
// are locked are opened with unlock first; it fails with [ErrLocked] when that does not fit.
func LockPGP(data []byte, unlock, passphrase holdfast.Secret) ([]byte, error) {
	if passphrase.IsZero() {
		return nil, fmt.Errorf("%w: the passphrase is empty", holdfast.ErrUsage)
	}
	if _, err := parsePGPIdentities(data); err != nil {
		return nil, err
	}
	entities, err := readPGPKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read OpenPGP keys: %w", err)
	}
	config := lockConfig()
	text, err := armored(openpgp.PrivateKeyType, func(w io.Writer) error {
		for _, entity := range entities {
			if entity.PrivateKey == nil {
				continue
			}
			if err := unlockPGP(entity, unlock); err != nil {
				return err
			}
			if err := entity.EncryptPrivateKeys([]byte(passphrase.Reveal()), config); err != nil {
				return err
			}
			if err := entity.SerializePrivateWithoutSigning(w, config); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lock an OpenPGP key: %w", err)
	}
	return []byte(text), nil
}

// unlockPGP opens every locked part of a key with one passphrase.
func unlockPGP(entity *openpgp.Entity, passphrase holdfast.Secret) error {
	keys := []*packet.PrivateKey{entity.PrivateKey}
	for _, subkey := range entity.Subkeys {
		keys = append(keys, subkey.PrivateKey)
	}
	for _, key := range keys {
		if key == nil || key.Dummy() || !key.Encrypted {
			continue
		}
		if key.Decrypt([]byte(passphrase.Reveal())) != nil {
			why := "and none was given"
			if !passphrase.IsZero() {
				why = "and this one does not open it"
			}
			return holdfast.WithHint(fmt.Errorf("%w: %w, %s", holdfast.ErrUsage, ErrLocked, why), "give the passphrase of "+describePGP(entity))
		}
	}
	return nil
}

// UnlocksPGP proves that the passphrase opens every private key in data.
func UnlocksPGP(data []byte, passphrase holdfast.Secret) error {
	if _, err := parsePGPIdentities(data); err != nil {
		return err
	}
	entities, err := readPGPKeys(data)
	if err != nil {
		return fmt.Errorf("read OpenPGP keys: %w", err)
	}
	for _, entity := range entities {
		if entity.PrivateKey == nil {
			continue
		}
		if err := unlockPGP(entity, passphrase); err != nil {
			return err
		}
	}
	return nil
}
