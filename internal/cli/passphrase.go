package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/config"
)

// shortPassphrase is how many characters a passphrase should have at least: with fewer, trying all of them is a matter of
// money.
const shortPassphrase = 16

// newPassphrase is the passphrase that a private half is locked with: from the file, or asked for twice at a terminal.
func (a *app) newPassphrase(ctx context.Context, file, what string) (holdfast.Secret, error) {
	var secret holdfast.Secret
	var err error
	switch {
	case file != "":
		secret, err = config.SecretFile(file).Resolve(ctx)
	case !a.interactive():
		return holdfast.Secret{}, holdfast.WithHint(fmt.Errorf("%w: %s needs a passphrase", holdfast.ErrUsage, what),
			"give --passphrase-file FILE (mode 0600), or run it at a terminal")
	default:
		if secret, err = a.askSecret(ctx, "new passphrase for "+what+": "); err != nil {
			return holdfast.Secret{}, err
		}
		var again holdfast.Secret
		if again, err = a.askSecret(ctx, "the same once more: "); err == nil && again.Reveal() != secret.Reveal() {
			err = fmt.Errorf("%w: the two passphrases differ", holdfast.ErrUsage)
		}
	}
	if err != nil {
		return holdfast.Secret{}, err
	}
	if secret.IsZero() {
		return holdfast.Secret{}, fmt.Errorf("%w: the passphrase is empty", holdfast.ErrUsage)
	}
	if n := utf8.RuneCountInString(secret.Reveal()); n < shortPassphrase {
		a.printer.warn(fmt.Sprintf("the passphrase has %d characters; whoever gets the file can try all short ones: take six random words", n))
	}
	return secret, nil
}

// oldPassphrase is the passphrase that something is locked with already: from the file, or asked for at a terminal.
func (a *app) oldPassphrase(ctx context.Context, file, what string) (holdfast.Secret, error) {
	if file != "" {
		return config.SecretFile(file).Resolve(ctx)
	}
	if !a.interactive() {
		return holdfast.Secret{}, holdfast.WithHint(fmt.Errorf("%w: %s is locked by a passphrase", holdfast.ErrUsage, what),
			"give the file with its passphrase (mode 0600; --help has the flag), or run it at a terminal")
	}
	return a.askSecret(ctx, "passphrase of "+what+": ")
}

// askSecret asks at the terminal and shows nothing of the answer.
func (a *app) askSecret(ctx context.Context, question string) (answer holdfast.Secret, err error) {
	fd := int(a.In.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return holdfast.Secret{}, fmt.Errorf("ask for a passphrase: %w", err)
	}
	silent := *was
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return holdfast.Secret{}, fmt.Errorf("ask for a passphrase: %w", err)
	}
	defer func() {
		fmt.Fprintln(a.Err)
		err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, was))
	}()
	fmt.Fprint(a.Err, question)
	line, err := bufio.NewReader(&answers{ctx: ctx, file: a.In}).ReadString('\n')
	if ctx.Err() != nil {
		return holdfast.Secret{}, holdfast.ErrInterrupted
	}
	if err != nil && !(errors.Is(err, io.EOF) && line != "") {
		return holdfast.Secret{}, fmt.Errorf("%w: no answer: %w", holdfast.ErrUsage, err)
	}
	return holdfast.NewSecret(strings.TrimRight(line, "\r\n")), nil
}
