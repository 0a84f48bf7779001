package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"

	"holdfast"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

const (
	manifestNamespace = "holdfast-manifest"
	maxManifest       = 16 << 20
	maxSignature      = 64 << 10
)

// Backup is an existing backup whose manifest was read and whose signature holds. Safe for concurrent use.
type Backup struct {
	Entry    Entry
	Manifest Manifest
	Digest   string // SHA-256 of the manifest's bytes
	Signer   string // fingerprint of the key that signed
	Trusted  bool   // the signer is one of Options.Trusted
	archive  *Archive
}

// Open reads the manifest of entry and checks its signature. A manifest that was changed, is signed by nobody, or by
// someone who is not trusted is refused with holdfast.ErrDifference. Nothing of it is looked at before that.
func (a *Archive) Open(ctx context.Context, entry Entry) (*Backup, error) {
	data, err := a.store.ReadAll(ctx, entry.commitName(), maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", entry.ID, err)
	}
	signature, err := a.store.ReadAll(ctx, entry.dataName("manifest.json.sig"), maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the signature of %s is gone", holdfast.ErrDifference, entry.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signature of %s: %w", entry.ID, err)
	}
	key, trusted, err := a.checkSignature(manifestNamespace, signature, data)
	if err != nil {
		return nil, fmt.Errorf("%w: backup %s: %w", holdfast.ErrDifference, entry.ID, err)
	}
	manifest, err := parseManifest(data, entry)
	if err != nil {
		return nil, err
	}
	return &Backup{
		Entry: entry, Manifest: manifest, Digest: hexSum(data), Signer: key.Fingerprint(), Trusted: trusted, archive: a,
	}, nil
}

func (a *Archive) checkSignature(namespace string, signature, message []byte) (seal.PublicKey, bool, error) {
	key, err := seal.Verify(signature, namespace, message)
	if err != nil {
		return seal.PublicKey{}, false, fmt.Errorf("the signature does not fit the content, one of them was changed: %w", err)
	}
	if len(a.opt.Trusted) == 0 {
		return key, false, nil
	}
	for _, trusted := range a.opt.Trusted {
		if trusted.Fingerprint() == key.Fingerprint() {
			return key, true, nil
		}
	}
	return seal.PublicKey{}, false, holdfast.WithHint(fmt.Errorf("signed by %s, which is not among the allowed signers", key.Fingerprint()),
		"if that host is yours, add its public key to allowed_signers")
}

// Stored opens the facts and describes each source as a restore sees it. It needs an identity unless the backup is
// not sealed.
func (b *Backup) Stored(ctx context.Context) ([]source.Stored, error) {
	facts, err := b.facts(ctx)
	if err != nil {
		return nil, err
	}
	var all []source.Stored
	for _, src := range b.Manifest.Sources {
		seen, known := facts.Sources[src.Name]
		if !known {
			return nil, fmt.Errorf("%w: backup %s: there are no facts of source %s", holdfast.ErrDifference, b.Entry.ID, src.Name)
		}
		stored := source.Stored{Source: src.Name, Kind: src.Kind, Secret: src.Secret, Facts: seen}
		for _, item := range b.Manifest.Items {
			if item.Role != RoleData || item.Source != src.Name {
				continue
			}
			plain, err := b.digestOf(facts, item)
			if err != nil {
				return nil, err
			}
			stored.Items = append(stored.Items, source.StoredItem{
				Name: item.Name, Size: item.PlainSize,
				Open: func(ctx context.Context) (io.ReadCloser, error) { return b.open(ctx, item, plain) },
			})
		}
		all = append(all, stored)
	}
	return all, nil
}

// Missing tells why sources are not in the backup, in the words that are kept sealed.
func (b *Backup) Missing(ctx context.Context) (map[holdfast.SourceName]string, error) {
	facts, err := b.facts(ctx)
	return facts.Missing, err
}

func (b *Backup) facts(ctx context.Context) (sealedFacts, error) {
	at := slices.IndexFunc(b.Manifest.Items, func(item ItemEntry) bool { return item.Role == RoleFacts })
	if at < 0 {
		return sealedFacts{}, fmt.Errorf("%w: backup %s has no facts", holdfast.ErrDifference, b.Entry.ID)
	}
	r, err := b.open(ctx, b.Manifest.Items[at], "")
	if err != nil {
		return sealedFacts{}, fmt.Errorf("read the facts of %s: %w", b.Entry.ID, err)
	}
	defer r.Close()
	var facts sealedFacts
	decodeErr := json.NewDecoder(r).Decode(&facts)
	// What the reader says of the stored bytes tells more than what damage did to the JSON.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return sealedFacts{}, fmt.Errorf("read the facts of %s: %w", b.Entry.ID, err)
	}
	if decodeErr != nil {
		return sealedFacts{}, fmt.Errorf("%w: the facts of %s are not readable: %w", holdfast.ErrDifference, b.Entry.ID, decodeErr)
	}
	return facts, nil
}

// digestOf returns the recorded digest of an item's plaintext. One that was never recorded cannot be compared, and that
// is not the same as being equal.
func (b *Backup) digestOf(facts sealedFacts, item ItemEntry) (string, error) {
	plain, known := facts.PlainSHA256[item.Name]
	if !known {
		return "", fmt.Errorf("%w: backup %s: the facts have no digest of %s", holdfast.ErrDifference, b.Entry.ID, item.Name)
	}
	return plain, nil
}

// open unseals one item. Its reader says io.EOF only when the stored bytes and the plain bytes were both whole.
func (b *Backup) open(ctx context.Context, item ItemEntry, plainSHA256 string) (io.ReadCloser, error) {
	opt := seal.ReadOptions{
		Compression: seal.Compression(item.Compression),
		Identities:  b.archive.opt.Identities,
		Plain:       !item.sealed(b.Entry),
		SealedTo:    b.Manifest.Keys,
		Opening:     item.opening(b.Entry),
	}
	if len(opt.Identities) == 0 {
		// Nothing will open it, and that is no reason to read it first.
		opt.Opening = seal.Opening{}
	}
	stored, opt, err := b.openStored(ctx, item, opt)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", item.Object, err)
	}
	r, err := seal.NewReader(stored, opt)
	if err != nil {
		if errors.Is(err, seal.ErrNoIdentity) && len(opt.Identities) > 0 {
			// A damaged header looks like one that was written for somebody else. Only the digest tells them apart.
			_, copyErr := io.Copy(io.Discard, stored)
			err = cmp.Or(copyErr, err)
		}
		stored.Close()
		return nil, fmt.Errorf("open %s: %w", item.Object, err)
	}
	return &itemReader{item: item, stored: stored, plain: r, want: plainSHA256, hash: sha256.New()}, nil
}

// openStored begins to read the stored bytes of an item. Those of a format that is not authenticated as it is read are
// read to the end first and compared with what was recorded.
func (b *Backup) openStored(ctx context.Context, item ItemEntry, opt seal.ReadOptions) (*itemSource, seal.ReadOptions, error) {
	s := &itemSource{stored: b.archive.openStored(ctx, b.Entry, item)}
	if opt.Plain || opt.Opening.Format.AuthenticatesAsRead() {
		s.ReadCloser = s.stored
		return s, opt, nil
	}
	var err error
	s.ReadCloser, err = seal.Twice(func() (io.ReadCloser, error) {
		s.stored = b.archive.openStored(ctx, b.Entry, item)
		return s.stored, nil
	}, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	opt.Authenticated = true
	return s, opt, err
}

// itemSource is the stored bytes of an item as they are unsealed.
type itemSource struct {
	io.ReadCloser
	stored *storedReader // what is read from the store, which knows its errors
}

// itemReader hands on plaintext and holds it against what was recorded.
type itemReader struct {
	item   ItemEntry
	stored *itemSource
	plain  io.ReadCloser
	want   string // SHA-256 of the plaintext; "" when not recorded (the facts themselves)
	hash   hash.Hash
	n      int64
	err    error
}

func (r *itemReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.plain.Read(p)
	if int64(n) > r.item.PlainSize-r.n {
		// What was not sealed may unpack to any size: the record, not the store, says how much there is to hold.
		r.err = fmt.Errorf("%w: %s holds more than the %d bytes that were recorded", holdfast.ErrDifference, r.item.Name, r.item.PlainSize)
		return 0, r.err
	}
	r.hash.Write(p[:n])
	r.n += int64(n)
	if err == io.EOF {
		err = r.finish()
	} else if err != nil {
		err = r.damaged(err)
	}
	r.err = err
	return n, err
}

func (r *itemReader) finish() error {
	if _, err := io.Copy(io.Discard, r.stored); err != nil {
		return err
	}
	if r.n != r.item.PlainSize {
		return fmt.Errorf("%w: %s holds %d bytes, %d were recorded", holdfast.ErrDifference, r.item.Name, r.n, r.item.PlainSize)
	}
	if r.want != "" && hex.EncodeToString(r.hash.Sum(nil)) != r.want {
		return fmt.Errorf("%w: %s does not have the digest that was recorded", holdfast.ErrDifference, r.item.Name)
	}
	return io.EOF
}

// damaged tells a broken seal as what it is: stored bytes that are not those that were written. An error of the store
// itself is passed on.
func (r *itemReader) damaged(err error) error {
	if cause := r.stored.stored.err; cause != nil && cause != io.EOF {
		return cause
	}
	return fmt.Errorf("%w: %s is damaged: %w", holdfast.ErrDifference, r.item.Object, err)
}

func (r *itemReader) Close() error {
	err := r.plain.Close()
	if closeErr := r.stored.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Oddities tells what a store that keeps versions shows of b that nobody of ours did: objects that something deleted, and names that were
// written again. What was put first is what is read, so that b is as whole as Verify says.
func (b *Backup) Oddities(ctx context.Context) ([]string, error) {
	var found []string
	for _, prefix := range []string{b.Entry.commitName(), b.Entry.dataName("")} {
		for object, err := range b.archive.store.List(ctx, prefix) {
			if err != nil {
				return nil, fmt.Errorf("list the objects of %s: %w", b.Entry.ID, err)
			}
			switch name := path.Base(object.Name); {
			case object.Hidden:
				found = append(found, name+" was deleted by something else, and is there only in the store's history")
			case object.Versions > 1:
				found = append(found, fmt.Sprintf("%s was written %d times; the first content counts", name, object.Versions))
			}
		}
	}
	return found, nil
}

// Verify looks at every item of the backup as deep as level says, and its error names each that is not as it was
// recorded. done is told each item that is good.
func (b *Backup) Verify(ctx context.Context, level holdfast.Level, done func(ItemEntry)) error {
	var facts sealedFacts
	var problems []error
	if level >= holdfast.L2 {
		var err error
		facts, err = b.facts(ctx)
		if err != nil && !errors.Is(err, holdfast.ErrDifference) {
			return err
		}
		if err != nil {
			// Without the facts nothing can be said of the plaintext, but the other objects may be damaged too.
			problems = append(problems, err)
			level = holdfast.L1
		}
	}
	var objects []store.Object
	for object, err := range b.archive.store.List(ctx, b.Entry.dataName("")) {
		if err != nil {
			return fmt.Errorf("list the objects of %s: %w", b.Entry.ID, err)
		}
		objects = append(objects, object)
	}
	factsDamaged := len(problems) > 0
	for _, item := range b.Manifest.Items {
		if factsDamaged && item.Role == RoleFacts {
			continue
		}
		if err := b.verifyItem(ctx, level, item, objects, facts); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			problems = append(problems, err)
			continue
		}
		if done != nil {
			done(item)
		}
	}
	return errors.Join(problems...)
}

func (b *Backup) verifyItem(ctx context.Context, level holdfast.Level, item ItemEntry, objects []store.Object, facts sealedFacts) error {
	if err := checkSize(objects, b.Entry, item); err != nil || level == holdfast.L0 {
		return err
	}
	if level == holdfast.L1 {
		return b.archive.checkStored(ctx, b.Entry, item)
	}
	plain := ""
	if item.Role == RoleData {
		var err error
		if plain, err = b.digestOf(facts, item); err != nil {
			return err
		}
	}
	r, err := b.open(ctx, item, plain)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		r.Close()
		return err
	}
	return r.Close()
}

// checkSize compares the parts that the store lists, and their sizes, with what was recorded. A part too many is damage:
// the stock commands join all there are.
func checkSize(objects []store.Object, entry Entry, item ItemEntry) error {
	names := make(map[string]bool, item.Parts)
	for part := range item.Parts {
		names[entry.dataName(partName(item.Object, part))] = true
	}
	var size int64
	for _, object := range objects {
		switch {
		case names[object.Name]:
			delete(names, object.Name)
			size += object.Size
		case isPart(object.Name, entry.dataName(item.Object)):
			return fmt.Errorf("%w: backup %s has the object %s, which nobody recorded", holdfast.ErrDifference, entry.ID, path.Base(object.Name))
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("%w: %s of backup %s is gone", holdfast.ErrDifference, item.Object, entry.ID)
	}
	if size != item.StoredSize {
		return sizeDifference(entry, item, size)
	}
	return nil
}

func sizeDifference(entry Entry, item ItemEntry, size int64) error {
	return fmt.Errorf("%w: %s of backup %s has %d bytes, %d were stored", holdfast.ErrDifference, item.Object, entry.ID, size, item.StoredSize)
}

// checkStored reads the stored bytes of item and compares them with what was recorded.
func (a *Archive) checkStored(ctx context.Context, entry Entry, item ItemEntry) error {
	r := a.openStored(ctx, entry, item)
	if _, err := io.Copy(io.Discard, r); err != nil {
		r.Close()
		return err
	}
	return r.Close()
}

// storedReader reads the parts of an item one after another and says io.EOF only when the bytes were those recorded.
type storedReader struct {
	archive *Archive
	ctx     context.Context // of the one read that the reader lives for
	entry   Entry
	item    ItemEntry
	part    int
	r       io.ReadCloser
	n       int64
	hash    hash.Hash
	err     error
}

func (a *Archive) openStored(ctx context.Context, entry Entry, item ItemEntry) *storedReader {
	return &storedReader{archive: a, ctx: ctx, entry: entry, item: item, hash: sha256.New()}
}

func (s *storedReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.read(p)
	if int64(n) > s.item.StoredSize-s.n {
		s.err = fmt.Errorf("%w: %s of backup %s has more than the %d bytes that were stored", holdfast.ErrDifference, s.item.Object, s.entry.ID, s.item.StoredSize)
		return 0, s.err
	}
	s.hash.Write(p[:n])
	s.n += int64(n)
	if err == io.EOF {
		switch {
		case s.n != s.item.StoredSize:
			err = sizeDifference(s.entry, s.item, s.n)
		case hex.EncodeToString(s.hash.Sum(nil)) != s.item.StoredSHA256:
			err = notAsWritten(s.item, s.entry)
		}
	}
	s.err = err
	return n, err
}

func (s *storedReader) read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	for {
		if s.r == nil {
			if s.part == s.item.Parts {
				return 0, io.EOF
			}
			name := partName(s.item.Object, s.part)
			r, err := s.archive.store.Open(s.ctx, s.entry.dataName(name), 0, -1)
			if errors.Is(err, fs.ErrNotExist) {
				return 0, fmt.Errorf("%w: %s of backup %s is gone", holdfast.ErrDifference, name, s.entry.ID)
			}
			if err != nil {
				return 0, fmt.Errorf("open %s: %w", name, err)
			}
			s.r, s.part = r, s.part+1
		}
		n, err := s.r.Read(p)
		if err != io.EOF {
			return n, err
		}
		err = s.r.Close()
		s.r = nil
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *storedReader) Close() error {
	if s.r == nil {
		return nil
	}
	err := s.r.Close()
	s.r = nil
	return err
}
