package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Make, list, check, replace and move keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.keyNewCommand(), a.keyListCommand(), a.keyShowCommand(), a.keyCheckCommand(), a.keyImportCommand(), a.keyExportCommand(),
		a.keyRotateCommand(), a.keyResealCommand(),
	)
	return cmd
}

// keyKinds are the kinds of key pairs that can be made, in the order of the documentation.
func keyKinds() []string {
	return []string{string(seal.X25519), string(seal.Hybrid), string(seal.OpenPGPCurve25519), string(seal.OpenPGPRSA)}
}

// newKey says what key pair to make.
type newKey struct {
	kind       string
	name       string // of an OpenPGP key
	passphrase string // file of the passphrase that locks the private half
	lock       bool   // whether an age identity is locked too
	out        string // "" for the default
}

func (n *newKey) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&n.kind, "kind", "", "`KIND` of key: "+strings.Join(keyKinds(), ", "))
	flags.StringVar(&n.name, "name", "", "name in an OpenPGP key: `\"NAME <ADDRESS>\"` (default: holdfast on this host)")
	flags.StringVar(&n.passphrase, "passphrase-file", "", "`FILE` with the passphrase that locks the private half (mode 0600); asked for when it is needed and not given")
	flags.BoolVar(&n.lock, "lock", false, "lock an age identity by a passphrase too; OpenPGP keys always are")
}

func (n *newKey) openPGP() bool {
	return n.kind == string(seal.OpenPGPCurve25519) || n.kind == string(seal.OpenPGPRSA)
}

func (n *newKey) check() error {
	if !slices.Contains(keyKinds(), n.kind) {
		return holdfast.WithHint(fmt.Errorf("%w: keys of kind %q cannot be made", holdfast.ErrUsage, n.kind), "give --kind with one of: "+strings.Join(keyKinds(), ", "))
	}
	if n.name != "" && !n.openPGP() {
		return holdfast.WithHint(fmt.Errorf("%w: --name is for OpenPGP keys: age keys have no name", holdfast.ErrUsage), "leave it out; `holder:` in the configuration says who has a key")
	}
	return nil
}

// keyPair is a new key pair. What is secret of it is in file alone.
type keyPair struct {
	file      holdfast.Secret // the text of the file with the private half, locked if it was asked for
	recipient string          // the public half as seal.ParseRecipient takes it
	info      seal.KeyInfo
}

// makePair makes a key pair in memory.
func (a *app) makePair(ctx context.Context, n newKey, host string) (keyPair, error) {
	var phrase holdfast.Secret
	var err error
	if n.openPGP() || n.lock || n.passphrase != "" {
		if phrase, err = a.newPassphrase(ctx, n.passphrase, "the new key"); err != nil {
			return keyPair{}, err
		}
	}
	var pair keyPair
	if n.openPGP() {
		name := n.name
		if name == "" {
			name = "holdfast on " + host
		}
		if pair.file, pair.recipient, err = seal.NewOpenPGPKey(seal.KeyKind(n.kind), name, phrase); err != nil {
			return keyPair{}, err
		}
	} else {
		var secret holdfast.Secret
		if secret, pair.recipient, err = seal.NewIdentity(seal.KeyKind(n.kind)); err != nil {
			return keyPair{}, err
		}
		pair.file = holdfast.NewSecret(fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", a.Now().UTC().Format(time.RFC3339), pair.recipient, secret.Reveal()))
		if !phrase.IsZero() {
			locked, err := seal.LockAge(pair.file, phrase)
			if err != nil {
				return keyPair{}, err
			}
			pair.file = holdfast.NewSecret(string(locked))
		}
	}
	r, err := seal.ParseRecipient(pair.recipient)
	if err != nil {
		return keyPair{}, err
	}
	pair.info = seal.InfoOf(r, a.Now())
	return pair, nil
}

// writePrivate writes a new file with a private half. A key is never overwritten.
func writePrivate(path string, text holdfast.Secret) error {
	err := durable.CreateFile(path, []byte(text.Reveal()), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, path), "choose another file; a key is never overwritten")
	}
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("write the identity: %w", err), "give a file in a folder that exists")
	}
	return nil
}

func (a *app) keyNewCommand() *cobra.Command {
	var n newKey
	var hybrid bool
	cmd := &cobra.Command{
		Use: "new", Short: "Make a key pair", Args: cobra.NoArgs,
		Long: "Make a key pair. The identity, its private half, opens backups: keep it away from the hosts that are backed up. The\n" +
			"recipient, its public half, is printed: that is what the hosts need.\n\n" +
			"  x25519           age; the default\n" +
			"  hybrid           age, safe from quantum computers too; stock age needs 1.3 to open what it seals\n" +
			"  openpgp-ed25519  for gpg 2.2 and newer, which imports both halves\n" +
			"  openpgp-rsa4096  for programs that know nothing newer\n\n" +
			"The private half of an OpenPGP key is always locked by a passphrase; that of an age key with --lock or --passphrase-file.",
		Example: "  holdfast key new --out identity.txt\n  holdfast key new --kind openpgp-ed25519 --name \"Ops <ops@example.com>\" --out ops-secret.asc > ops.asc",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if hybrid && n.kind != "" && n.kind != string(seal.Hybrid) {
				return holdfast.WithHint(fmt.Errorf("%w: --hybrid and --kind %s say different things", holdfast.ErrUsage, n.kind), "give one of them")
			}
			if n.kind == "" {
				n.kind = string(seal.X25519)
			}
			if hybrid {
				n.kind = string(seal.Hybrid)
			}
			return a.keyNew(cmd.Context(), n)
		},
	}
	n.add(cmd)
	cmd.Flags().StringVarP(&n.out, "out", "o", "", "the new `FILE` with the private half (default holdfast-identity.txt, of OpenPGP keys holdfast-identity.asc)")
	cmd.Flags().BoolVar(&hybrid, "hybrid", false, "the same as --kind hybrid")
	return cmd
}

func (a *app) keyNew(ctx context.Context, n newKey) error {
	cfg, err := config.Resolve(config.Inputs{NoFile: true, Environ: a.Environ, Now: a.Now(), Flags: config.Flags{State: a.flags.state, LogFile: a.flags.logFile}})
	if err != nil {
		return err
	}
	if err := a.start(cfg); err != nil {
		return err
	}
	if err := n.check(); err != nil {
		return err
	}
	if n.out == "" {
		n.out = "holdfast-identity.txt"
		if n.openPGP() {
			n.out = "holdfast-identity.asc"
		}
	}
	pair, err := a.makePair(ctx, n, cfg.Host)
	if err != nil {
		return err
	}
	if err := writePrivate(n.out, pair.file); err != nil {
		return err
	}
	a.about.Detail = pair.info.ID
	if a.flags.json {
		a.printEvent("key", map[string]any{"key_id": pair.info.ID, "kind": pair.info.Kind, "recipient": pair.recipient, "identity": n.out})
		return nil
	}
	fmt.Fprintf(a.Err, "identity written to %s: keep it away from the hosts that are backed up\n", n.out)
	_, err = fmt.Fprintln(a.Out, strings.TrimSpace(pair.recipient))
	return err
}

// configKey is the key of the configuration called name.
func configKey(cfg *config.Config, name string) (config.Key, error) {
	var known []string
	for _, key := range cfg.Keys {
		if key.Name == name {
			return key, nil
		}
		known = append(known, key.Name)
	}
	hint := "the configuration has no keys; `holdfast key import FILE --add NAME` adds one"
	if len(known) > 0 {
		hint = "known keys: " + strings.Join(known, ", ")
	}
	return config.Key{}, holdfast.WithHint(fmt.Errorf("%w: key %q is not configured", holdfast.ErrUsage, name), hint)
}

// keyInfos tells what a key of the configuration is made of.
func keyInfos(key config.Key, now time.Time) []seal.KeyInfo {
	var infos []seal.KeyInfo
	for _, recipient := range key.SealRecipients() {
		infos = append(infos, seal.InfoOf(recipient, now))
	}
	return infos
}

func keyIDs(key config.Key) []string {
	var ids []string
	for _, info := range keyInfos(key, time.Time{}) {
		ids = append(ids, info.ID)
	}
	return ids
}

func jobsOf(cfg *config.Config, key string) []string {
	var jobs []string
	for _, job := range cfg.Jobs {
		for _, used := range job.Recipients {
			if used.Name == key {
				jobs = append(jobs, string(job.Name))
			}
		}
	}
	return jobs
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
