package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/seal"
)

// storeFlags are the flags of every command that reads a store.
type storeFlags struct {
	config.Flags
	allowedSigners string
	passphrase     string
}

func (f *storeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Store, "store", "", "the store: a `FOLDER`, or a name from the configuration")
	flags.StringVar(&f.Job, "job", "", "only backups of this `JOB`")
}

func (f *storeFlags) addIdentity(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.Identity, "identity", "i", "", "`FILE` with the identity that opens backups: of age, or an OpenPGP private key; it may be locked")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the passphrase, for backups sealed to one or an identity that is locked (mode 0600)")
	f.addSigners(cmd)
}

func (f *storeFlags) addSigners(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.allowedSigners, "allowed-signers", "", "`FILE` of the hosts whose backups are accepted (default: allowed_signers beside the identity)")
}

// identities reads what opens backups: the identity file, a passphrase, or, at a terminal, a passphrase asked for when
// the backup was sealed to one. None is not an error here; opening without one is.
func (a *app) identities(ctx context.Context, cfg *config.Config, f *storeFlags) ([]seal.Identity, error) {
	var all []seal.Identity
	if cfg.Identity != "" {
		read, err := a.identityFile(ctx, cfg.Identity, f.passphrase)
		if err != nil {
			return nil, err
		}
		all = append(all, read...)
	}
	if f.passphrase != "" {
		secret, err := config.SecretFile(f.passphrase).Resolve(ctx)
		if err != nil {
			return nil, err
		}
		passphrase, err := seal.NewPassphrase(secret)
		if err != nil {
			return nil, err
		}
		all = append(all, passphrase)
	}
	for _, key := range cfg.Keys {
		if key.Passphrase.IsZero() {
			continue
		}
		// A key that this host cannot resolve is no obstacle: another one may open the backup.
		secret, err := key.Passphrase.Resolve(ctx)
		if err != nil {
			a.unusable = fmt.Errorf("key %s: %w", key.Name, err)
		} else {
			passphrase, err := seal.NewPassphrase(secret)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", key.Name, err)
			}
			all = append(all, passphrase)
		}
	}
	seal.Unlock(all)
	return all, nil
}

// trusted reads the allowed signers: the file that was named, or the one beside the identity. Without any it returns none,
// and whoever opens a backup says "signer not checked".
func trusted(cfg *config.Config, f *storeFlags) ([]seal.PublicKey, error) {
	path := f.allowedSigners
	if path == "" {
		if cfg.Identity == "" {
			return nil, nil
		}
		path = filepath.Join(filepath.Dir(cfg.Identity), "allowed_signers")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: read the allowed signers: %w", holdfast.ErrUsage, err), "`holdfast init` writes this file beside the identity")
	}
	allowed, err := seal.ParseAllowedSigners(string(text))
	if err != nil {
		return nil, fmt.Errorf("allowed signers %s: %w", path, err)
	}
	var keys []seal.PublicKey
	for _, signer := range allowed {
		keys = append(keys, signer.Key)
	}
	return keys, nil
}

// reader opens the archive of a command that reads.
func (a *app) reader(ctx context.Context, cfg *config.Config, f *storeFlags) (*archive.Archive, error) {
	return a.readerSealing(ctx, cfg, f, seal.Options{}, nil)
}

// readerSealing opens the archive of a command that reads, and writes something sealed beside what it read.
func (a *app) readerSealing(ctx context.Context, cfg *config.Config, f *storeFlags, sealing seal.Options, signer *seal.Signer) (*archive.Archive, error) {
	where, err := cfg.StoreNamed("")
	if err != nil {
		return nil, err
	}
	a.about.Store = where.Name
	identities, err := a.identities(ctx, cfg, f)
	if err != nil {
		return nil, err
	}
	keys, err := trusted(cfg, f)
	if err != nil {
		return nil, err
	}
	return a.repository(ctx, where, access{seal: sealing, signer: signer, identities: identities, trusted: keys})
}

// pick opens the backup that args name, or the newest one, and says when its signer was not checked.
func (a *app) pick(ctx context.Context, repo *archive.Archive, f *storeFlags, args []string) (*archive.Backup, error) {
	id := ""
	if len(args) > 0 {
		id = args[0]
	}
	job, err := f.job()
	if err != nil {
		return nil, err
	}
	entries, err := repo.List(ctx, job)
	if err != nil {
		return nil, err
	}
	if id == "" {
		entries = regular(entries)
	}
	entry, err := archive.Find(entries, id)
	if err != nil {
		return nil, err
	}
	a.about.Job, a.about.Backup = entry.Job, entry.ID
	b, err := repo.Open(ctx, entry)
	if err != nil {
		return nil, err
	}
	if !b.Trusted {
		a.printer.warn("signer not checked: " + b.Signer)
	}
	return b, nil
}

// regular leaves out safety copies, and backups for which a re-sealed copy stands: nobody means them by "the newest".
func regular(entries []archive.Entry) []archive.Entry {
	var kept []archive.Entry
	for _, entry := range entries {
		if entry.Kind != "safety" && !entry.Superseded() {
			kept = append(kept, entry)
		}
	}
	return kept
}

func (f *storeFlags) job() (holdfast.JobName, error) {
	if f.Job == "" {
		return "", nil
	}
	return holdfast.ParseJobName(f.Job)
}

// resealing says how to seal something that belongs beside a backup: to the job's recipients when the job is configured
// here, else to whoever opened the backup.
func (a *app) resealing(ctx context.Context, cfg *config.Config, b *archive.Backup, identities []seal.Identity, sealed bool) (seal.Options, error) {
	if !sealed {
		return seal.Options{Plain: true}, nil
	}
	for _, known := range cfg.Jobs {
		if known.Name == b.Entry.Job && known.Seal != config.SealNone && len(known.Recipients) > 0 {
			opt, err := sealing(ctx, known)
			opt.ToExpired = true
			return opt, err
		}
	}
	keys := b.Manifest.Keys
	if !b.Entry.Sealed {
		// It is said nowhere whose it is: whoever is here may read it.
		keys = nil
	}
	return seal.Options{Recipients: seal.RecipientsAmong(identities, keys), ToExpired: true}, nil
}

// interactive reports whether a person is there to be asked.
func (a *app) interactive() bool {
	return term.IsTerminal(int(a.In.Fd())) && term.IsTerminal(int(a.Err.Fd())) && !a.flags.json
}
