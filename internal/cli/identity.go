package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

// identityFile reads a file of identities, once in an invocation. A locked one is opened with the passphrase in the file
// passphrase, or with one that is asked for at a terminal.
func (a *app) identityFile(ctx context.Context, path, passphrase string) ([]seal.Identity, error) {
	if all, read := a.opened[path]; read {
		return all, nil
	}
	data, err := a.readKeys(path)
	if err != nil {
		return nil, err
	}
	text, unlock, err := a.unlocked(ctx, path, data, passphrase)
	if err != nil {
		return nil, err
	}
	all, err := seal.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("identity %s: %w", path, err)
	}
	if !unlock.IsZero() {
		opener, err := seal.NewPassphrase(unlock)
		if err != nil {
			return nil, err
		}
		all = append(all, opener)
	}
	if a.opened == nil {
		a.opened = map[string][]seal.Identity{}
	}
	a.opened[path] = all
	return all, nil
}

// maxKeyFile bounds what is read of a file of keys.
const maxKeyFile = 4 << 20

// readKeys reads a file of keys, public or private. That others can read a private one is said, not refused: in an
// emergency it comes from a stick whose filesystem knows no modes.
func (a *app) readKeys(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: read the identity: %w", holdfast.ErrUsage, err), "give the file that `holdfast init` or `holdfast key new` wrote with --identity")
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read the identity: %w", holdfast.ErrUsage, err)
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%w: %s is too long for a file of keys", holdfast.ErrUsage, path)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the identity: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 && holdsOpenPrivate(data, a.Now()) {
		a.printer.warn(fmt.Sprintf("others on this machine can read the identity %s (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path))
	}
	return data, nil
}

// holdsOpenPrivate reports whether whoever reads the file has a private key without knowing any passphrase.
func holdsOpenPrivate(data []byte, now time.Time) bool {
	keys, err := seal.Inspect(data, now)
	return err == nil && slices.ContainsFunc(keys, func(key seal.KeyInfo) bool { return key.Private && !key.Locked })
}

// unlocked returns the text of a file of identities. A file that age encrypted is opened; of OpenPGP keys that are locked
// the passphrase is returned beside them.
func (a *app) unlocked(ctx context.Context, path string, data []byte, passphrase string) (text []byte, unlock holdfast.Secret, err error) {
	if seal.IsLockedAge(data) {
		secret, err := a.oldPassphrase(ctx, passphrase, path)
		if err != nil {
			return nil, holdfast.Secret{}, err
		}
		opened, err := seal.UnlockAge(data, secret)
		if err != nil {
			return nil, holdfast.Secret{}, fmt.Errorf("identity %s: %w", path, err)
		}
		return []byte(opened.Reveal()), holdfast.Secret{}, nil
	}
	keys, err := seal.Inspect(data, a.Now())
	if err != nil {
		// What is wrong with it is told by whoever reads it as what it should be.
		return data, holdfast.Secret{}, nil
	}
	for _, key := range keys {
		if key.Locked && (passphrase != "" || a.interactive()) {
			unlock, err = a.oldPassphrase(ctx, passphrase, path)
			return data, unlock, err
		}
	}
	return data, holdfast.Secret{}, nil
}
