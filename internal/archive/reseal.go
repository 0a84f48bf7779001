package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/store"
)

const (
	originalManifest  = "original.json"
	originalSignature = "original.json.sig"
)

// Superseded reports whether a re-sealed copy stands for this backup.
func (e Entry) Superseded() bool { return e.SupersededBy != "" }

// markCopies tells entries which of them are copies of which. A marker without both backups says nothing.
func markCopies(entries []Entry, markers []store.Object) {
	at := make(map[string]int, len(entries))
	for i, entry := range entries {
		at[entry.key()] = i
	}
	for _, object := range markers {
		from, to, ok := parseReseal(object.Name)
		if !ok {
			continue
		}
		original, known := at[from]
		copied, exists := at[to]
		if known && exists {
			entries[copied].From = entries[original].ID
			entries[original].SupersededBy = entries[copied].ID
		}
	}
}

// ResealPlan says who makes a copy, and who is told how far it is.
type ResealPlan struct {
	Time  time.Time
	Host  string
	Who   string
	Begun func(Entry) error              // told the entry before anything is stored; may be nil
	Told  func(item string, n, of int64) // told the plain bytes so far; may be nil
}

// Reseal copies b into a new backup of the same job, time and kind, sealed as Options.Seal says. Every item is read once,
// never stored in between, and compared with the recorded digest of its plaintext; what is stored is read back; the
// manifest, which says what was copied, comes last. When it fails nothing of the copy is left and b is as it was.
//
// Damage found in b is holdfast.ErrDifference. Without an identity that opens b it is seal.ErrNoIdentity.
func (a *Archive) Reseal(ctx context.Context, b *Backup, plan ResealPlan) (Entry, Manifest, error) {
	if a.opt.Seal.Plain {
		return Entry{}, Manifest{}, fmt.Errorf("%w: a copy that is not sealed is not made", holdfast.ErrUsage)
	}
	facts, err := b.facts(ctx)
	if err != nil {
		return Entry{}, Manifest{}, err
	}
	first, signature, err := b.original(ctx)
	if err != nil {
		return Entry{}, Manifest{}, err
	}
	d, err := a.copyOf(b, plan)
	if err != nil {
		return Entry{}, Manifest{}, err
	}
	if plan.Begun != nil {
		if err := plan.Begun(d.entry); err != nil {
			return Entry{}, Manifest{}, err
		}
	}
	entry, manifest, err := d.reseal(ctx, b, facts, first, signature, plan.Told)
	if err != nil {
		return Entry{}, Manifest{}, errors.Join(err, d.Abort(ctx))
	}
	return entry, manifest, nil
}

// copyOf begins a draft that says of itself what b says.
func (a *Archive) copyOf(b *Backup, plan ResealPlan) (*Draft, error) {
	m := b.Manifest
	d, err := a.Create(Header{Job: m.Job, ID: holdfast.NewBackupID(), Time: m.Time, Host: m.Host, Kind: m.Kind, Reason: m.Reason})
	if err != nil {
		return nil, err
	}
	d.entry.From = b.Entry.ID
	d.manifest.Finished, d.manifest.Complete = m.Finished, m.Complete
	d.manifest.Sources, d.manifest.Missing = m.Sources, m.Missing
	d.manifest.Versions, d.manifest.Exclusions = m.Versions, m.Exclusions
	d.manifest.Resealed = &Resealed{
		From: m.ID, FromManifest: b.Digest, Original: m.ID, OriginalSigner: b.Signer,
		Time: plan.Time.UTC().Truncate(time.Second), Host: plan.Host, Who: plan.Who, Version: a.opt.Version,
	}
	if m.Resealed != nil {
		d.manifest.Resealed.Original, d.manifest.Resealed.OriginalSigner = m.Resealed.Original, m.Resealed.OriginalSigner
	}
	return d, nil
}

func (d *Draft) reseal(ctx context.Context, b *Backup, facts sealedFacts, first, signature []byte, told func(string, int64, int64)) (Entry, Manifest, error) {
	for _, item := range b.Manifest.Items {
		var err error
		switch item.Role {
		case RoleData:
			err = d.resealItem(ctx, b, facts, item, told)
		case RoleFacts:
			err = d.resealFacts(ctx, b, item)
		}
		if err != nil {
			return Entry{}, Manifest{}, fmt.Errorf("re-seal backup %s: %w", b.Entry.ID, err)
		}
	}
	for _, text := range []struct{ name, content string }{
		{"RESTORE.txt", recoveryText(&d.manifest)}, {originalManifest, string(first)}, {originalSignature, string(signature)},
	} {
		if err := d.putText(ctx, text.name, text.content); err != nil {
			return Entry{}, Manifest{}, err
		}
	}
	if err := d.readBack(ctx); err != nil {
		return Entry{}, Manifest{}, err
	}
	return d.publish(ctx)
}

func (d *Draft) resealItem(ctx context.Context, b *Backup, facts sealedFacts, item ItemEntry, told func(string, int64, int64)) error {
	want, err := b.digestOf(facts, item)
	if err != nil {
		return err
	}
	r, err := b.open(ctx, item, want)
	if err != nil {
		return err
	}
	count := &counter{r: r, ctx: ctx}
	if told != nil {
		count.tell = func(n int64) { told(item.Name, n, item.PlainSize) }
	}
	copied, err := d.put(ctx, ItemEntry{Source: item.Source, Name: item.Name, Role: RoleData}, d.archive.opt.Seal, count, r)
	if err != nil {
		return err
	}
	if copied.PlainSize != item.PlainSize || d.facts.PlainSHA256[item.Name] != want {
		return fmt.Errorf("%w: what was sealed of %s is not what was recorded", holdfast.ErrDifference, item.Name)
	}
	return nil
}

// resealFacts copies the bytes of the facts, so that nothing in them is lost that this version does not know.
func (d *Draft) resealFacts(ctx context.Context, b *Backup, item ItemEntry) error {
	r, err := b.open(ctx, item, "")
	if err != nil {
		return err
	}
	return errors.Join(d.putFacts(ctx, r), r.Close())
}

// original returns the manifest of the first backup of the line, and its signature: for an original its own.
func (b *Backup) original(ctx context.Context) (manifest, signature []byte, err error) {
	if b.Manifest.Resealed != nil {
		if manifest, err = b.text(ctx, originalManifest); err != nil {
			return nil, nil, err
		}
		signature, err = b.text(ctx, originalSignature)
		return manifest, signature, err
	}
	if manifest, err = b.archive.store.ReadAll(ctx, b.Entry.commitName(), maxManifest); err != nil {
		return nil, nil, fmt.Errorf("read the manifest of %s: %w", b.Entry.ID, err)
	}
	if hexSum(manifest) != b.Digest {
		return nil, nil, fmt.Errorf("%w: the manifest of %s changed while it was read", holdfast.ErrDifference, b.Entry.ID)
	}
	if signature, err = b.archive.store.ReadAll(ctx, b.Entry.dataName("manifest.json.sig"), maxSignature); err != nil {
		return nil, nil, fmt.Errorf("read the signature of %s: %w", b.Entry.ID, err)
	}
	return manifest, signature, nil
}

// text reads an item of role text, whose bytes are held against the manifest.
func (b *Backup) text(ctx context.Context, name string) ([]byte, error) {
	at := slices.IndexFunc(b.Manifest.Items, func(item ItemEntry) bool { return item.Role == RoleText && item.Name == name })
	if at < 0 {
		return nil, fmt.Errorf("%w: backup %s has no %s", holdfast.ErrDifference, b.Entry.ID, name)
	}
	if b.Manifest.Items[at].PlainSize > maxManifest {
		return nil, fmt.Errorf("%w: %s of backup %s is too big", holdfast.ErrDifference, name, b.Entry.ID)
	}
	r, err := b.open(ctx, b.Manifest.Items[at], "")
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// Origin is what a copy proves about the first backup of its line.
type Origin struct {
	Manifest Manifest // of the original
	Signer   string   // fingerprint of the key that signed it
	Trusted  bool     // that key is one of Options.Trusted
}

// Origin reads the manifest of the original that a copy carries, checks its signature, and that it is the backup that the
// copy says it comes from. It works when the original is gone. What is not so is holdfast.ErrDifference.
func (b *Backup) Origin(ctx context.Context) (Origin, error) {
	if b.Manifest.Resealed == nil {
		return Origin{Manifest: b.Manifest, Signer: b.Signer, Trusted: b.Trusted}, nil
	}
	manifest, signature, err := b.original(ctx)
	if err != nil {
		return Origin{}, err
	}
	key, trusted, err := b.archive.checkSignature(manifestNamespace, signature, manifest)
	if err != nil {
		return Origin{}, fmt.Errorf("%w: the original of backup %s: %w", holdfast.ErrDifference, b.Entry.ID, err)
	}
	said := b.Manifest.Resealed
	first, err := decodeManifest(manifest, said.Original)
	if err != nil {
		return Origin{}, err
	}
	m := b.Manifest
	if first.ID != said.Original || key.Fingerprint() != said.OriginalSigner || first.Job != m.Job || !first.Time.Equal(m.Time) || first.Kind != m.Kind {
		return Origin{}, fmt.Errorf("%w: the original that backup %s carries is not the one it names", holdfast.ErrDifference, b.Entry.ID)
	}
	return Origin{Manifest: first, Signer: key.Fingerprint(), Trusted: trusted}, nil
}
