package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/keyring"
	"holdfast/internal/seal"
)

type rotateFlags struct {
	newKey
	recipient     string
	recipientFile string
	holder        string
	expires       string
}

func (a *app) keyRotateCommand() *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Replace a key of the configuration: from now on its jobs seal to another", Args: cobra.ExactArgs(1),
		Long: "Make a new key pair, or take the public half of one that was made elsewhere, and let it take the place of the key in the\n" +
			"configuration. What the key was stays on record there, under retired. Comments and order stay; a copy of the file is\n" +
			"kept, and the new text is checked before it takes the place.\n\n" +
			"Backups that exist are not changed: the old identity opens them, and must be kept as long as there are any.\n" +
			"`holdfast key reseal` makes copies of them for the new one.",
		Example: "  holdfast key rotate ops\n  holdfast key rotate ops --recipient age1… --holder \"Anna, +49 30 123456\"",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.keyRotate(cmd.Context(), args[0], f) },
	}
	f.newKey.add(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.out, "out", "o", "", "the new `FILE` with the identity (default: NAME-ID.txt or .asc in the folder holdfast-recovery-HOST)")
	flags.StringVarP(&f.recipient, "recipient", "r", "", "seal to this age `RECIPIENT` instead of making a key")
	flags.StringVar(&f.recipientFile, "recipient-file", "", "seal to the public key in `FILE` instead of making one")
	flags.StringVar(&f.holder, "holder", "", "who keeps the new identity (default: who kept the old one)")
	flags.StringVar(&f.expires, "expires", "", "the last `DAY` of the new key, as 2027-11-22; needed when the old one has such a day")
	return cmd
}

// rotation is one replacement on its way.
type rotation struct {
	file  *keyring.File
	old   config.Key
	infos []seal.KeyInfo // of the new key
	pair  *keyPair       // nil when only its public half was given
	key   keyring.Key
	out   string // of the new identity
	undo  []string
}

func (a *app) keyRotate(ctx context.Context, name string, f rotateFlags) (err error) {
	cfg, err := a.load(config.Flags{}, false)
	if err != nil {
		return err
	}
	if cfg.File == "" {
		return holdfast.WithHint(fmt.Errorf("%w: there is no configuration file with a key %s", holdfast.ErrUsage, name), "name the file with --config; keys of the environment are replaced there")
	}
	file, err := keyring.Open(cfg.File)
	if err != nil {
		return err
	}
	defer file.Close()
	// The file may have changed before it was locked.
	if cfg, err = a.checkConfig(file); err != nil {
		return err
	}
	a.about.Detail = "key " + name
	r := rotation{file: file}
	if r.old, err = rotatable(cfg, name); err != nil {
		return err
	}
	if err := a.newHalf(ctx, cfg, &r, f); err != nil {
		return err
	}
	defer func() {
		// Nothing that was made counts before the file says so.
		if err != nil {
			for _, path := range r.undo {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	return a.replaceKey(ctx, &r)
}

// rotatable finds the key, if it is one that can be replaced.
func rotatable(cfg *config.Config, name string) (config.Key, error) {
	key, err := configKey(cfg, name)
	if err != nil {
		return config.Key{}, err
	}
	if !key.Passphrase.IsZero() {
		return config.Key{}, holdfast.WithHint(fmt.Errorf("%w: key %s is a passphrase (%s), which is changed where it is kept", holdfast.ErrUsage, name, key.Passphrase),
			"keep the old passphrase as long as there are backups that only it opens; better, seal to a key pair: `holdfast key new`")
	}
	return key, nil
}

// newHalf makes the new key pair in memory, or reads the public half that was given.
func (a *app) newHalf(ctx context.Context, cfg *config.Config, r *rotation, f rotateFlags) (err error) {
	was := keyInfos(r.old, a.Now())
	if r.key.Expires, err = parseDay(f.expires); err != nil {
		return err
	}
	switch {
	case r.key.Expires.IsZero() && !r.old.Expires.IsZero():
		return holdfast.WithHint(fmt.Errorf("%w: the key that is replaced may be used until %s; for the new one no such day is given", holdfast.ErrUsage, r.old.Expires.Format(time.DateOnly)),
			"give --expires DAY; to have none, remove the line from the configuration first")
	case !r.key.Expires.IsZero() && a.Now().After(r.key.Expires.AddDate(0, 0, 1)):
		return fmt.Errorf("%w: the day that the new key expires on is over", holdfast.ErrUsage)
	}
	r.key.Holder = f.holder
	r.key.Created = a.Now().UTC()
	if f.recipient != "" || f.recipientFile != "" {
		if f.recipient != "" && f.recipientFile != "" || f.kind != "" || f.out != "" || f.name != "" {
			return holdfast.WithHint(fmt.Errorf("%w: a public half that is there and a key that is to be made exclude each other", holdfast.ErrUsage),
				"give one of --recipient, --recipient-file and --kind")
		}
		if r.infos, err = a.givenHalf(f); err != nil {
			return err
		}
		if at := oldest(r.infos); !at.IsZero() {
			r.key.Created = at
		}
	} else {
		if f.kind == "" {
			f.kind = was[0].Kind
		}
		if err := f.check(); err != nil {
			return err
		}
		pair, err := a.makePair(ctx, f.newKey, cfg.Host)
		if err != nil {
			return err
		}
		r.pair, r.infos = &pair, []seal.KeyInfo{pair.info}
		if r.out, err = rotationOut(cfg, r.old.Name, pair.info.ID, f); err != nil {
			return err
		}
	}
	for _, info := range r.infos {
		if info.Unfit != "" {
			return holdfast.WithHint(fmt.Errorf("%w: nothing can be sealed to key %s: it %s", holdfast.ErrUsage, info.ID, info.Unfit), "take another key")
		}
		if slices.ContainsFunc(was, func(old seal.KeyInfo) bool { return old.ID == info.ID }) {
			return holdfast.WithHint(fmt.Errorf("%w: key %s has %s already", holdfast.ErrUsage, r.old.Name, info.ID), "give the public half of another key")
		}
	}
	return nil
}

// givenHalf reads the public half of a key that was made elsewhere.
func (a *app) givenHalf(f rotateFlags) ([]seal.KeyInfo, error) {
	if f.recipient != "" {
		recipient, err := seal.ParseRecipient(f.recipient)
		if err != nil {
			return nil, err
		}
		return []seal.KeyInfo{seal.InfoOf(recipient, a.Now())}, nil
	}
	data, err := a.readKeys(f.recipientFile)
	if err != nil {
		return nil, err
	}
	infos, err := seal.Inspect(data, a.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.recipientFile, err)
	}
	if slices.ContainsFunc(infos, func(info seal.KeyInfo) bool { return info.Private }) {
		return nil, holdfast.WithHint(fmt.Errorf("%w: %s holds a private half", holdfast.ErrUsage, f.recipientFile), "`holdfast key export --identity FILE` writes the public half; keep the private one off this host")
	}
	return infos, nil
}

// rotationOut is where the new identity goes: into a new file.
func rotationOut(cfg *config.Config, name, id string, f rotateFlags) (string, error) {
	out := f.out
	if out == "" {
		end := ".txt"
		if f.openPGP() {
			end = ".asc"
		}
		out = filepath.Join("holdfast-recovery-"+cfg.Host, name+"-"+id+end)
	}
	out, err := filepath.Abs(out)
	if err != nil {
		return "", fmt.Errorf("find the identity's folder: %w", err)
	}
	if _, err := os.Lstat(out); err == nil {
		return "", holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, out), "choose another file; a key is never overwritten")
	}
	return out, nil
}

// replaceKey writes, in this order: the copy of the configuration, the public half, the identity, the configuration. A kill
// in between leaves files that nobody uses, and the old key in force.
func (a *app) replaceKey(ctx context.Context, r *rotation) error {
	r.key.Recipient = recipientLine(r.infos)
	public := ""
	if r.key.Recipient == "" {
		folder := filepath.Join(filepath.Dir(r.file.Path()), "keys")
		if r.old.File != "" {
			folder = filepath.Dir(r.old.File)
		}
		public = publicPath("", filepath.Join(folder, r.old.Name+"-"+r.infos[0].ID+filepath.Ext(publicPath("", "", "", r.infos))), "", r.infos)
		r.key.RecipientFile = public
	}
	retired := keyring.Retired{IDs: keyIDs(r.old), Holder: r.old.Holder, Since: r.old.Created, Until: a.Now().UTC()}
	if err := r.file.Replace(r.old.Name, r.key, retired); err != nil {
		return err
	}
	kept, err := r.file.Keep(a.Now())
	if err != nil {
		return err
	}
	r.undo = append(r.undo, kept)
	if public != "" {
		_, made, err := putPublic(public, r.infos)
		if err != nil {
			return err
		}
		if made {
			r.undo = append(r.undo, public)
		}
	}
	now, err := a.checkConfig(r.file)
	if err != nil {
		return err
	}
	if r.pair != nil {
		if err := os.MkdirAll(filepath.Dir(r.out), 0o700); err != nil {
			return fmt.Errorf("make the identity's folder: %w", err)
		}
		if err := writePrivate(r.out, r.pair.file); err != nil {
			return err
		}
	}
	// From here on nothing is undone: the file may be there although writing it was not told to have worked.
	r.undo = nil
	if err := r.file.Commit(); err != nil {
		return err
	}
	return a.tellRotation(ctx, now, r, kept)
}

func (a *app) tellRotation(ctx context.Context, cfg *config.Config, r *rotation, kept string) error {
	var to []string
	for _, info := range r.infos {
		to = append(to, info.ID)
	}
	before := keyIDs(r.old)
	sealed, err := a.countSealed(ctx, cfg)
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printEvent("rotate", map[string]any{
			"key": r.old.Name, "ids": to, "before": before, "identity": r.out, "configuration": r.file.Path(), "kept": kept, "sealed_to_before": sealed.of,
		})
		return nil
	}
	a.result("key %s: from the next backup on jobs seal to %s, and no more to %s", r.old.Name, strings.Join(to, ", "), strings.Join(before, ", "))
	fmt.Fprintf(a.Out, "configuration  %s, as it was: %s\n", r.file.Path(), kept)
	if r.out != "" {
		if err := a.rotationKit(cfg, r); err != nil {
			return err
		}
		fmt.Fprintf(a.Out, "new identity   %s\n\nThe new identity must leave this host now: copy it to two safe places, such as a password manager and an\n"+
			"offline medium, then delete it here. Whoever has it can read every backup from now on; without it nobody can.\n", r.out)
	}
	fmt.Fprintf(a.Out, "\nThe old identity must be kept as long as there are backups that only it opens: %s.\n", sealed.text(before))
	fmt.Fprintf(a.Out, "\nnext: holdfast backup; then, where the new identity is kept, holdfast key check --identity FILE;\n"+
		"copies of old backups for it: holdfast key reseal --all --identity OLD, where the old one is kept\n")
	return nil
}

// rotationKit puts allowed_signers and the recovery sheet of each job of the key beside the new identity.
func (a *app) rotationKit(cfg *config.Config, r *rotation) error {
	if _, err := os.Stat(cfg.Signer); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	for _, job := range cfg.Jobs {
		if !slices.ContainsFunc(job.Recipients, func(key config.Key) bool { return key.Name == r.old.Name }) {
			continue
		}
		if err := a.writeKit(kit{dir: filepath.Dir(r.out), identity: r.out}, cfg, job, signer.PublicKey(), r.file.Path()); err != nil {
			return err
		}
	}
	return nil
}
