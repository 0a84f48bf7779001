package survey_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/health"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/survey"
)

const (
	hour = time.Hour
	day  = 24 * hour
)

var start = time.Date(2026, 7, 1, 2, 0, 0, 0, time.UTC)

// box is a store in memory that counts what is read of it.
type box struct {
	*storetest.Memory
	hide  string // names that contain it are there only in the store's history; "" for none
	twice string // names that contain it were written again; "" for none

	mu     sync.Mutex // guards what follows
	opened []string
	now    atomic.Int32
	most   int32 // how many objects were read at once
}

func newBox(t testing.TB) *box { return &box{Memory: storetest.NewMemory(t)} }

func (b *box) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	b.mu.Lock()
	b.opened = append(b.opened, name)
	b.most = max(b.most, b.now.Add(1))
	b.mu.Unlock()
	r, err := b.Memory.Open(ctx, name, offset, length)
	if err != nil {
		b.now.Add(-1)
		return nil, err
	}
	return closer{r, func() { b.now.Add(-1) }}, nil
}

type closer struct {
	io.ReadCloser
	after func()
}

func (c closer) Close() error {
	defer c.after()
	return c.ReadCloser.Close()
}

func (b *box) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		for object, err := range b.Memory.List(ctx, prefix) {
			object.Hidden = b.hide != "" && strings.Contains(object.Name, b.hide)
			object.Versions = 1
			if b.twice != "" && strings.Contains(object.Name, b.twice) {
				object.Versions = 2
			}
			if !yield(object, err) {
				return
			}
		}
	}
}

// reads returns the names of the objects that were read since the last time, those of backups by their manifest alone.
func (b *box) reads() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, name := range b.opened {
		if !strings.HasSuffix(name, ".sig") {
			all = append(all, name)
		}
	}
	b.opened = nil
	return all
}

// copyTo brings to another store what a mirror gets.
func (b *box) copyTo(t testing.TB, other *box) {
	t.Helper()
	for _, name := range b.Names() {
		if strings.HasPrefix(name, "verifications/") || strings.HasPrefix(name, "prunes/") {
			continue
		}
		data, _ := b.Bytes(name)
		if err := other.Put(t.Context(), name, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
}

// named returns the one object whose name contains all parts.
func (b *box) named(t testing.TB, parts ...string) string {
	t.Helper()
	var found []string
	for _, name := range b.Names() {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(name, part) }) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%q are called %q", found, parts)
	}
	return found[0]
}

// host is what a machine signs and seals with.
type host struct {
	signer     *seal.Signer
	recipient  seal.Recipient
	identities []seal.Identity
}

func newHost(t testing.TB) *host {
	t.Helper()
	secret, public, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	identities, err := seal.ParseIdentities(strings.NewReader(secret.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := seal.ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	private, _, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return &host{signer, recipient, identities}
}

// archive opens a store at a time, and trusts those hosts; none: any.
func (h *host) archive(b store.Driver, now time.Time, trusted ...*host) *archive.Archive {
	opt := archive.Options{
		Seal: seal.Options{Recipients: []seal.Recipient{h.recipient}, Workers: 1}, Signer: h.signer, Identities: h.identities, Version: "test",
		Now: func() time.Time { return now },
	}
	for _, other := range trusted {
		opt.Trusted = append(opt.Trusted, other.signer.PublicKey())
	}
	return archive.New(store.New(b, store.Options{Attempts: 1}), opt)
}

// run is a backup that is to be made.
type run struct {
	job   holdfast.JobName // "": app
	kind  string           // "": full
	time  time.Time
	took  time.Duration
	items map[string]int // their bytes; nil: 2000 of db.sql
	half  bool           // it lacks web
	both  bool           // it holds web as well
}

func (h *host) backup(t testing.TB, b *box, r run) archive.Entry {
	t.Helper()
	if r.job == "" {
		r.job = "app"
	}
	if r.kind == "" {
		r.kind = "full"
	}
	if r.items == nil {
		r.items = map[string]int{"db.sql": 2000}
	}
	ctx := t.Context()
	d, err := h.archive(b, r.time.Add(r.took)).Create(archive.Header{Job: r.job, ID: holdfast.NewBackupID(), Time: r.time, Host: "host", Kind: r.kind})
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range r.items {
		item := source.Item{Name: name, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(size))), nil
		}}
		if _, err := d.Put(ctx, "db", item, nil); err != nil {
			t.Fatal(err)
		}
	}
	d.Keep(archive.SourceEntry{Name: "db", Kind: holdfast.KindPostgres}, source.Facts{Kind: holdfast.KindPostgres})
	if r.both {
		item := source.Item{Name: "web.tar", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("web")), nil }}
		if _, err := d.Put(ctx, "web", item, nil); err != nil {
			t.Fatal(err)
		}
		d.Keep(archive.SourceEntry{Name: "web", Kind: holdfast.KindFiles}, source.Facts{Kind: holdfast.KindFiles})
	}
	if r.half {
		if err := d.Miss(ctx, archive.MissingSource{Name: "web", Kind: holdfast.KindFiles, Why: "failed"}, "it is gone"); err != nil {
			t.Fatal(err)
		}
	}
	entry, _, err := d.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// open opens a backup as it is in a store.
func (h *host) open(t testing.TB, b *box, entry archive.Entry) *archive.Backup {
	t.Helper()
	opened, err := h.archive(b, start).Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// drill leaves a verdict in a store.
func (h *host) drill(t testing.TB, b *box, entry archive.Entry, at time.Time, verdict holdfast.Verdict) {
	t.Helper()
	_, err := h.archive(b, at).PutProof(t.Context(), h.open(t, b, entry), archive.Proof{
		Verdict: verdict, Time: at, Host: "drill", Who: "me", Facts: 30, Differences: 2, Seconds: map[string]float64{"open": 1.5, "restore db": 58.5},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// verify leaves a record of a check in a store.
func (h *host) verify(t testing.TB, b *box, entry archive.Entry, at time.Time, good bool) {
	t.Helper()
	if _, err := h.archive(b, at).PutVerification(t.Context(), h.open(t, b, entry), holdfast.L1, good, archive.Verification{Time: at}); err != nil {
		t.Fatal(err)
	}
}

// remove deletes an object.
func (b *box) remove(t testing.TB, name string) {
	t.Helper()
	if err := b.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

// places opens main, and away when it is given, as a watchman who trusts those hosts.
func (h *host) places(main, away *box, trusted ...*host) []survey.Place {
	all := []survey.Place{{Store: "main", Archive: h.archive(main, start, trusted...)}}
	if away != nil {
		all = append(all, survey.Place{Store: "away", Archive: h.archive(away, start, trusted...)})
	}
	return all
}

func look(t testing.TB, s *survey.Surveyor, places []survey.Place, jobs ...survey.Job) survey.Found {
	t.Helper()
	found, err := s.Look(t.Context(), places, jobs)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// app looks once, at the job app alone, which belongs into both places.
func app(t testing.TB, places []survey.Place) health.Job {
	t.Helper()
	job := survey.Job{Name: "app"}
	for _, place := range places {
		job.Stores = append(job.Stores, place.Store)
	}
	return look(t, &survey.Surveyor{}, places, job).Jobs[0]
}

// pruning is a store in which a prune deletes a backup as soon as its manifest was read once.
type pruning struct {
	*box
	t        testing.TB
	name, id string // of the manifest, and of the backup
}

func (p *pruning) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := p.box.Open(ctx, name, offset, length)
	if err == nil && name == p.name {
		p.remove(p.t, name)
		p.remove(p.t, p.named(p.t, "manifest.json.sig", p.id))
	}
	return r, err
}

// cancelling is a store that is asked for an object only once.
type cancelling struct {
	*box
	cancel func()
}

func (c *cancelling) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	c.cancel()
	return c.box.Open(ctx, name, offset, length)
}

var errDown = errors.New("no route to host")
