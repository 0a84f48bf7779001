package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"holdfast"
)

const (
	secretTimeLimit = 30 * time.Second
	secretSizeLimit = 64 << 10
)

// SecretRef says where a secret is to be had. The zero value refers to nothing.
type SecretRef struct {
	env    string
	file   string
	exec   []string
	given  holdfast.Secret // came with a connection text by flag or environment
	lookup func(string) (string, bool)
}

// SecretFile refers to the secret in the file at path, for a path that a flag names.
func SecretFile(path string) SecretRef { return SecretRef{file: path} }

// IsZero reports whether no secret is referred to.
func (s SecretRef) IsZero() bool {
	return s.env == "" && s.file == "" && len(s.exec) == 0 && s.given.IsZero()
}

// String tells the reference in its plain text form; a secret that was given itself is a mask.
func (s SecretRef) String() string {
	switch {
	case s.env != "":
		return "env:" + s.env
	case s.file != "":
		return "file:" + s.file
	case len(s.exec) > 0:
		return "exec:" + quoteList(s.exec)
	case !s.given.IsZero():
		return s.given.String()
	}
	return ""
}

// GoString is [SecretRef.String]: no verb shows the secret.
func (s SecretRef) GoString() string { return s.String() }

// Resolve fetches the secret. A file must be readable by its owner alone, and loses one newline at its end. A program
// is run without a shell, for at most 30 seconds; what it prints loses the blanks around it, and what it says on
// standard error is not shown, since it may hold the secret.
func (s SecretRef) Resolve(ctx context.Context) (holdfast.Secret, error) {
	var text string
	var err error
	switch {
	case s.env != "":
		text, err = s.fromEnvironment()
	case s.file != "":
		text, err = s.fromFile()
	case len(s.exec) > 0:
		text, err = s.fromProgram(ctx)
	default:
		return s.given, nil
	}
	if err != nil {
		return holdfast.Secret{}, err
	}
	if text == "" {
		return holdfast.Secret{}, holdfast.WithHint(fmt.Errorf("%w: the secret %s is empty", holdfast.ErrUsage, s), "put the secret there")
	}
	return holdfast.NewSecret(text), nil
}

func (s SecretRef) fromEnvironment() (string, error) {
	text, found := s.lookup(s.env)
	if !found {
		return "", holdfast.WithHint(fmt.Errorf("%w: the variable %s is not set", holdfast.ErrUsage, s.env),
			"set it in the environment of holdfast, or refer to a file")
	}
	return text, nil
}

func (s SecretRef) fromFile() (string, error) {
	f, err := os.Open(s.file)
	if err != nil {
		return "", holdfast.WithHint(fmt.Errorf("%w: read secret: %w", holdfast.ErrUsage, err),
			"create the file, readable by the user that runs holdfast alone")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if info.IsDir() {
		return "", holdfast.WithHint(fmt.Errorf("%w: secret file %s is a folder", holdfast.ErrUsage, s.file), "name a file")
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return "", holdfast.WithHint(
			fmt.Errorf("%w: secret file %s has mode %04o, so others than its owner can use it", holdfast.ErrUsage, s.file, info.Mode().Perm()),
			"run: chmod 600 "+s.file)
	}
	raw, err := io.ReadAll(io.LimitReader(f, secretSizeLimit+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if len(raw) > secretSizeLimit {
		return "", holdfast.WithHint(fmt.Errorf("%w: secret file %s is larger than 64 KiB", holdfast.ErrUsage, s.file), "name the right file")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r"), nil
}

func (s SecretRef) fromProgram(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.exec[0], s.exec[1:]...)
	var out limitedBuffer
	cmd.Stdout = &out
	// A group of its own, so that what the program started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %s", secretTimeLimit)
		}
		return "", holdfast.WithHint(fmt.Errorf("%w: run %s for a secret: %w", holdfast.ErrUsage, s.exec[0], err),
			"run the program by hand to see what it says")
	}
	if out.full {
		return "", holdfast.WithHint(fmt.Errorf("%w: %s printed more than 64 KiB for a secret", holdfast.ErrUsage, s.exec[0]),
			"let it print the secret alone")
	}
	return strings.TrimSpace(out.kept.String()), nil
}

// limitedBuffer keeps no more than a secret may have, so that a wrong program cannot fill the memory.
type limitedBuffer struct {
	kept bytes.Buffer // not embedded: its ReadFrom would go around the limit
	full bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.kept.Len()+len(p) > secretSizeLimit {
		b.full = true
		return len(p), nil
	}
	return b.kept.Write(p)
}

const secretForms = "write {env: NAME}, {file: PATH} or {exec: [program, argument]}"

// parseSecretText reads the plain text forms. The text is in no error: it may be the secret itself.
func parseSecretText(text string) (SecretRef, error) {
	how, rest, _ := strings.Cut(text, ":")
	rest = strings.TrimSpace(rest)
	switch {
	case rest == "":
	case how == "env":
		return SecretRef{env: rest}, nil
	case how == "file":
		return SecretRef{file: rest}, nil
	case how == "exec":
		var argv []string
		if json.Unmarshal([]byte(rest), &argv) == nil && len(argv) > 0 && argv[0] != "" {
			return SecretRef{exec: argv}, nil
		}
		return SecretRef{}, errors.New(`exec: needs a list such as exec:["program","argument"]`)
	}
	return SecretRef{}, errors.New("a secret is never written here itself; " + secretForms)
}
