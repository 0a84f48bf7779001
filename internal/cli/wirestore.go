package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/seal"
	"holdfast/internal/store"
	"holdfast/internal/store/local"
	"holdfast/internal/store/rsync"
	"holdfast/internal/store/s3"
	"holdfast/internal/store/sftp"
)

// openStores are the stores of one invocation: each is opened once, and closed when the command ends.
type openStores struct {
	mu        sync.Mutex // guards what follows: copies go to several stores at once
	byAddress map[string]openedStore
	closers   []io.Closer
}

type openedStore struct {
	*store.Store
	name string
}

// openStore opens the store that the configuration describes. create makes it, for a first use.
func (a *app) openStore(ctx context.Context, cfg config.Store, create bool) (*store.Store, error) {
	address := storeAddress(cfg) + "\n" + cfg.SSH.KeyFile + "\n" + cfg.Name
	if s, is := a.stores.get(address); is {
		return s.Store, nil
	}
	// Not under the lock: one that does not answer holds up no other.
	driver, retrier, err := a.storeDriver(ctx, cfg, create)
	if err != nil {
		return nil, err
	}
	bandwidth := cfg.Bandwidth
	if cfg.Kind == config.StoreRsync {
		bandwidth = 0 // rsync keeps to it by itself
	}
	s := store.New(driver, store.Options{Retrier: retrier, Bandwidth: bandwidth})
	return a.stores.add(address, driver, openedStore{s, cfg.Name}).Store, nil
}

// get returns an open store, and whether there is one at the address.
func (o *openStores) get(address string) (openedStore, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, is := o.byAddress[address]
	return s, is
}

// add keeps an open store. Of two that were opened at once the first is used, and both are closed in the end.
func (o *openStores) add(address string, driver store.Driver, s openedStore) openedStore {
	o.mu.Lock()
	defer o.mu.Unlock()
	if closer, is := driver.(io.Closer); is {
		o.closers = append(o.closers, closer)
	}
	if first, is := o.byAddress[address]; is {
		return first
	}
	if o.byAddress == nil {
		o.byAddress = map[string]openedStore{}
	}
	o.byAddress[address] = s
	return s
}

// storeDriver makes the driver of a store, and what it shares with the Store above it.
func (a *app) storeDriver(ctx context.Context, cfg config.Store, create bool) (store.Driver, *store.Retrier, error) {
	retrier := store.NewRetrier(0, 0)
	switch cfg.Kind {
	case config.StoreLocal:
		driver, err := local.Open(cfg.Path, local.Options{Create: create})
		return driver, retrier, err
	case config.StoreS3:
		driver, err := a.bucket(ctx, cfg, retrier, create)
		return driver, retrier, err
	case config.StoreSFTP:
		driver, err := a.sftp(ctx, cfg, retrier, create)
		return driver, retrier, err
	case config.StoreRsync:
		driver, err := a.rsync(ctx, cfg, retrier, create)
		return driver, retrier, err
	}
	return nil, nil, fmt.Errorf("%w: stores of kind %q are not known", holdfast.ErrUsage, cfg.Kind)
}

func (a *app) bucket(ctx context.Context, cfg config.Store, retrier *store.Retrier, create bool) (*s3.Driver, error) {
	secrets, err := resolveAll(ctx, cfg.S3.AccessKey, cfg.S3.SecretKey, cfg.S3.SessionToken)
	if err != nil {
		return nil, err
	}
	return s3.Open(ctx, s3.Options{
		Endpoint: cfg.S3.Endpoint, Region: cfg.S3.Region, Bucket: cfg.S3.Bucket, Prefix: cfg.S3.Prefix, PathStyle: cfg.S3.PathStyle, CAFile: cfg.S3.CAFile,
		AccessKey: secrets[0], SecretKey: secrets[1], SessionToken: secrets[2], Lookup: a.lookup, SSE: cfg.S3.SSE, KMSKey: cfg.S3.KMSKey,
		StorageClass: cfg.S3.StorageClass, LockMode: cfg.S3.Lock, LockFor: cfg.S3.LockFor, PartSize: cfg.S3.PartSize, Parts: cfg.S3.Parts,
		Stall: cfg.Stall, Retrier: retrier, Create: create, Now: a.Now,
		Warn: func(f store.Finding) { a.printer.warn("store " + cfg.Name + ": " + f.Message + ": " + f.Fix) },
	})
}

func (a *app) sftp(ctx context.Context, cfg config.Store, retrier *store.Retrier, create bool) (*sftp.Driver, error) {
	secrets, err := resolveAll(ctx, cfg.SSH.Passphrase, cfg.SSH.Password)
	if err != nil {
		return nil, err
	}
	return sftp.Open(ctx, sftp.Options{
		Host: cfg.SSH.Host, Port: cfg.SSH.Port, User: cfg.SSH.User, Path: cfg.SSH.Path, KeyFile: cfg.SSH.KeyFile, KeyPassphrase: secrets[0], Password: secrets[1],
		AgentSocket: cfg.SSH.Agent, KnownHosts: cfg.SSH.KnownHosts, Timeout: cfg.SSH.Timeout, Stall: cfg.Stall, Retrier: retrier, Create: create,
	})
}

// rsync reaches a mirror through the program of that name. What is on its way waits, sealed, below the state folder.
func (a *app) rsync(ctx context.Context, cfg config.Store, retrier *store.Retrier, create bool) (*rsync.Driver, error) {
	cache := filepath.Join(a.state, "rsync")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("make the folder of objects on their way: %w", err), "choose another state folder with --state or HOLDFAST_STATE")
	}
	var env []string
	for _, name := range []string{"PATH", "HOME", "SSH_AUTH_SOCK"} {
		if value := a.env(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return rsync.Open(ctx, rsync.Options{
		Host: cfg.SSH.Host, Port: cfg.SSH.Port, User: cfg.SSH.User, Path: cfg.SSH.Path, KeyFile: cfg.SSH.KeyFile, KnownHosts: cfg.SSH.KnownHosts,
		Cache: cache, Bandwidth: cfg.Bandwidth, Timeout: cfg.SSH.Timeout, Stall: cfg.Stall, Env: env, Retrier: retrier, Create: create,
	})
}

// resolveAll fetches secrets; one that is not referred to stays zero.
func resolveAll(ctx context.Context, refs ...config.SecretRef) ([]holdfast.Secret, error) {
	secrets := make([]holdfast.Secret, len(refs))
	for i, ref := range refs {
		if ref.IsZero() {
			continue
		}
		var err error
		if secrets[i], err = ref.Resolve(ctx); err != nil {
			return nil, err
		}
	}
	return secrets, nil
}

// lookup finds a variable of the environment.
func (a *app) lookup(name string) (string, bool) {
	value := a.env(name)
	return value, value != ""
}

// tellRetries says which stores did not answer at the first try: what is slow today is away tomorrow.
func (a *app) tellRetries() {
	a.stores.mu.Lock()
	defer a.stores.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(a.stores.byAddress)) {
		s := a.stores.byAddress[address]
		c := s.Counters()
		if c.Retries == 0 {
			continue
		}
		if a.flags.json {
			a.printEvent("retries", map[string]any{"store": s.name, "retries": c.Retries, "puts": c.Puts, "opens": c.Opens, "lists": c.Lists, "deletes": c.Deletes, "bytes_put": c.BytesPut, "bytes_read": c.BytesRead})
		}
		a.printer.say(fmt.Sprintf("store %s: what failed was tried again %d times; of its calls, %d put, %d read, %d listed and %d deleted",
			s.name, c.Retries, c.Puts, c.Opens, c.Lists, c.Deletes))
	}
}

// closeStores ends the connections of the invocation.
func (a *app) closeStores() error {
	a.stores.mu.Lock()
	defer a.stores.mu.Unlock()
	var errs []error
	for _, closer := range a.stores.closers {
		errs = append(errs, closer.Close())
	}
	a.stores.byAddress, a.stores.closers = nil, nil
	return errors.Join(errs...)
}

// storeAddress is what a store is locked by: two spellings of one folder are one store.
func storeAddress(cfg config.Store) string {
	if cfg.IsLocal() {
		return realPath(cfg.Path)
	}
	return cfg.Address()
}

func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// access is what a command may do with an archive.
type access struct {
	seal       seal.Options
	signer     *seal.Signer
	identities []seal.Identity
	trusted    []seal.PublicKey
	create     bool
}

func (a *app) repository(ctx context.Context, cfg config.Store, with access) (*archive.Archive, error) {
	s, err := a.openStore(ctx, cfg, with.create)
	if err != nil {
		return nil, err
	}
	return a.archiveOn(s, with), nil
}

func (a *app) archiveOn(s *store.Store, with access) *archive.Archive {
	return archive.New(s, archive.Options{
		Seal: with.seal, Signer: with.signer, Identities: with.identities, Trusted: with.trusted, Version: a.Version,
		Now: a.Now,
	})
}

// destinationStore opens a store that gets copies.
func (a *app) destinationStore(ctx context.Context, cfg config.Store, with access) (engine.Destination, error) {
	s, err := a.openStore(ctx, cfg, with.create)
	if err != nil {
		return engine.Destination{}, err
	}
	to := engine.Destination{Name: cfg.Name, Archive: a.archiveOn(s, with), Mirror: store.AsMirror(s)}
	if mirror, own := s.Driver().(store.Mirror); own {
		to.Mirror = mirror
	}
	return to, nil
}

// makeParent makes the folders above a new local store.
func makeParent(cfg config.Store) error {
	if !cfg.IsLocal() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	return nil
}

// bucketPolicy is the least that a role needs at a bucket.
func bucketPolicy(role string, where config.Store) ([]byte, error) {
	return s3.Policy(role, where.S3.Bucket, where.S3.Prefix, where.S3.KMSKey, where.S3.Endpoint == "")
}
