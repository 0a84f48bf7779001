package sftp

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"holdfast"
)

// known is what known_hosts files say.
type known struct {
	files     []string
	check     ssh.HostKeyCallback
	authority bool // some line is of a certificate authority
}

// readKnown reads the files again for every connect, so that a corrected file helps a run that is under way.
func readKnown(files []string) (*known, error) {
	k := &known{files: files}
	var present []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // as good as empty; the refusal then names the line to add
		}
		if err != nil {
			return nil, fmt.Errorf("read known_hosts: %w: %w", holdfast.ErrUsage, err)
		}
		k.authority = k.authority || bytes.Contains(text, []byte("@cert-authority"))
		present = append(present, file)
	}
	var err error
	if k.check, err = knownhosts.New(present...); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("read known_hosts: %w: %w", holdfast.ErrUsage, err), "correct or remove that line")
	}
	return k, nil
}

// noKey is a key that no file has, which is how the known ones are asked for.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("sftp: no key verifies nothing") }

// wanted returns the keys that are known for addr.
func (k *known) wanted(addr string, remote net.Addr) []knownhosts.KnownKey {
	var mismatch *knownhosts.KeyError
	if errors.As(k.check(addr, remote, noKey{}), &mismatch) {
		return mismatch.Want
	}
	return nil
}

// algorithms returns what to ask the server for, best first: the kinds of key that are known for it. Otherwise a server with
// several keys may show one that is not in known_hosts, and look like an impostor.
func (k *known) algorithms(addr string, remote net.Addr) []string {
	kinds := map[string]bool{}
	wanted := k.wanted(addr, remote)
	for _, key := range wanted {
		kinds[key.Key.Type()] = true
	}
	var asked []string
	for _, kind := range []struct {
		key        string
		algorithms []string
	}{
		{ssh.KeyAlgoED25519, []string{ssh.KeyAlgoED25519}},
		{ssh.KeyAlgoSKED25519, []string{ssh.KeyAlgoSKED25519}},
		{ssh.KeyAlgoECDSA256, []string{ssh.KeyAlgoECDSA256}},
		{ssh.KeyAlgoSKECDSA256, []string{ssh.KeyAlgoSKECDSA256}},
		{ssh.KeyAlgoECDSA384, []string{ssh.KeyAlgoECDSA384}},
		{ssh.KeyAlgoECDSA521, []string{ssh.KeyAlgoECDSA521}},
		{ssh.KeyAlgoRSA, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}},
	} {
		if len(wanted) == 0 || kinds[kind.key] {
			asked = append(asked, kind.algorithms...)
		}
	}
	if k.authority {
		asked = append([]string{
			ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
			ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
		}, asked...)
	}
	return asked
}

// verify refuses every key that is not in the files, and says what to do. It is final: the key does not change by asking again.
func (k *known) verify(addr string, remote net.Addr, key ssh.PublicKey) error {
	err := k.check(addr, remote, key)
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	var revoked *knownhosts.RevokedError
	var mismatch *knownhosts.KeyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return holdfast.WithHint(fmt.Errorf("%w: the server's key %s is revoked in %s:%d",
			fs.ErrPermission, shown, revoked.Revoked.Filename, revoked.Revoked.Line),
			"somebody may stand between: ask the server's owner, and do not log in before")
	case errors.As(err, &mismatch) && len(mismatch.Want) > 0:
		var places []string
		for _, want := range mismatch.Want {
			places = append(places, fmt.Sprintf("%s %s in %s:%d", want.Key.Type(), ssh.FingerprintSHA256(want.Key), want.Filename, want.Line))
		}
		return holdfast.WithHint(fmt.Errorf("%w: the server's key is %s, and the known one is %s",
			fs.ErrPermission, shown, strings.Join(places, " or ")),
			"somebody may stand between, or the server was set up anew: ask its owner, and only then replace that line by: "+
				knownhosts.Line([]string{addr}, key))
	case errors.As(err, &mismatch):
		return holdfast.WithHint(fmt.Errorf("%w: the server's key %s is not in %s", fs.ErrPermission, shown, strings.Join(k.files, ", ")),
			"compare the fingerprint with what the server's owner tells you, and then add this line to "+k.files[0]+": "+
				knownhosts.Line([]string{addr}, key))
	}
	return fmt.Errorf("%w: check the server's key %s: %w", fs.ErrPermission, shown, err)
}
