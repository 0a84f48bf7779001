package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/engine"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

var errBroken = errors.New("the disk is on fire")

// kit is an archive in memory with its keys, and what was observed of it.
type kit struct {
	memory  *storetest.Memory
	options archive.Options

	mu     sync.Mutex // guards events
	events []holdfast.Event
}

func newKit(t testing.TB) *kit {
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
	signer := newSigner(t)
	return &kit{memory: storetest.NewMemory(t), options: archive.Options{
		Seal: seal.Options{Recipients: []seal.Recipient{recipient}, Workers: 1}, Signer: signer, Identities: identities,
		Trusted: []seal.PublicKey{signer.PublicKey()}, Version: "test", Now: clock,
	}}
}

func newSigner(t testing.TB) *seal.Signer {
	t.Helper()
	private, _, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func clock() time.Time { return start }

func (k *kit) archive() *archive.Archive { return k.over(k.memory) }

// over is an archive with the keys of the kit on a driver that does not try again.
func (k *kit) over(d store.Driver) *archive.Archive {
	return archive.New(store.New(d, store.Options{Attempts: 1}), k.options)
}

func (k *kit) observe(e holdfast.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, e)
}

// told reports whether an event of the kind had the text.
func (k *kit) told(kind holdfast.EventKind, text string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.events, func(e holdfast.Event) bool { return e.Kind == kind && strings.Contains(e.Message, text) })
}

func (k *kit) backup(t testing.TB, sources ...engine.NamedSource) (engine.Result, error) {
	t.Helper()
	return engine.Backup(t.Context(), k.archive(), plan(sources...), k.observe)
}

func plan(sources ...engine.NamedSource) engine.Plan {
	return engine.Plan{Job: "job", Host: "host", Kind: "full", Sources: sources, Now: start}
}

// mustOpen makes a backup of the sources and opens it.
func (k *kit) mustOpen(t testing.TB, sources ...engine.NamedSource) *archive.Backup {
	t.Helper()
	result, err := k.backup(t, sources...)
	if err != nil && !errors.Is(err, holdfast.ErrIncomplete) {
		t.Fatal(err)
	}
	b, err := k.archive().Open(t.Context(), result.Entry)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (k *kit) list(t testing.TB) []archive.Entry {
	t.Helper()
	entries, err := k.archive().List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// object returns the full name of the one stored object whose name ends in suffix.
func (k *kit) object(t testing.TB, suffix string) string {
	t.Helper()
	for _, name := range k.memory.Names() {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	t.Fatalf("no object ends in %q: %q", suffix, k.memory.Names())
	return ""
}

func flip(data []byte) []byte { data[len(data)-1] ^= 1; return data }

// fake is a source of one item. Each error stands for a moment at which it can fail.
type fake struct {
	name                                   holdfast.SourceName
	content                                string
	capture, open, read, end, facts, close error
	reading                                func() // called at the first read
	warning                                string // told while capturing
	notes                                  []string
	captured, closed                       int
}

func (f *fake) named() engine.NamedSource {
	return engine.NamedSource{Name: f.name, Kind: holdfast.KindFiles, Source: f}
}

func good(name holdfast.SourceName) engine.NamedSource {
	return (&fake{name: name, content: "content of " + string(name)}).named()
}

func (f *fake) Capture(_ context.Context, observe holdfast.Observer) (source.Capture, error) {
	if f.warning != "" {
		observe(holdfast.Event{Kind: holdfast.EventWarning, Message: f.warning})
	}
	if f.capture != nil {
		return nil, f.capture
	}
	f.captured++
	return view{f}, nil
}

func (f *fake) Diagnose(context.Context) ([]source.Finding, error) { return nil, nil }

type view struct{ f *fake }

func (v view) Items() []source.Item {
	return []source.Item{{Name: string(v.f.name) + ".tar", Open: func(context.Context) (io.ReadCloser, error) {
		if v.f.open != nil {
			return nil, v.f.open
		}
		r := io.Reader(strings.NewReader(v.f.content))
		if v.f.read != nil {
			r = io.MultiReader(r, iotest.ErrReader(v.f.read))
		}
		return &stream{Reader: r, begin: v.f.reading, err: v.f.end}, nil
	}}}
}

func (v view) Facts(context.Context) (source.Facts, error) {
	facts := factsOf(v.f.content)
	facts.Notes = v.f.notes
	return facts, v.f.facts
}

func (v view) Close() error { v.f.closed++; return v.f.close }

type stream struct {
	io.Reader
	begin func()
	err   error
}

func (s *stream) Read(p []byte) (int, error) {
	if s.begin != nil {
		s.begin()
		s.begin = nil
	}
	return s.Reader.Read(p)
}

func (s *stream) Close() error { return s.err }

func factsOf(content string) source.Facts {
	var rows source.RowSet
	rows.Add([]byte(content))
	return source.Facts{Kind: holdfast.KindFiles, Facts: []source.Fact{
		{Class: "file", Name: "f", Rule: source.Exact, Bytes: rows.Bytes, Digest: rows.Digest()},
		{Class: "definition", Name: "d", Rule: source.Text, Text: "as written"},
		{Class: "view", Name: "v", Rule: source.Listed, Text: "refreshed"},
	}}
}

// place is where fakes come back. Its log is shared, so that the order among places can be seen.
type place struct {
	name                          string
	restore, check, commit, close error
	alter                         func(*source.Facts)
	swallow                       bool // says nothing of a read that failed
	log                           *[]string
	content                       []byte
}

func (p *place) note(what string) { *p.log = append(*p.log, what+" "+p.name) }

func (p *place) Restore(ctx context.Context, stored source.Stored) error {
	p.note("restore")
	for _, item := range stored.Items {
		r, err := item.Open(ctx)
		if err == nil {
			p.content, err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
		}
		if err != nil && !p.swallow {
			return fmt.Errorf("restore %s: %w", item.Name, err)
		}
	}
	return p.restore
}

func (p *place) Check(context.Context) (source.Facts, error) {
	p.note("check")
	facts := factsOf(string(bytes.Clone(p.content)))
	if p.alter != nil {
		p.alter(&facts)
	}
	return facts, p.check
}

func (p *place) Commit(context.Context) (string, error) {
	p.note("commit")
	return "at " + p.name, p.commit
}

func (p *place) Close() error {
	p.note("close")
	return p.close
}

// asserting is a place that takes assertions: "yes", "no", and errors.
type asserting struct{ *place }

func (a asserting) Assert(_ context.Context, query string) (bool, error) {
	switch query {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	case "cannot":
		return false, fmt.Errorf("%w: no such program", holdfast.ErrCannotTest)
	}
	return false, errors.New("syntax error")
}

var (
	_ source.Source   = (*fake)(nil)
	_ source.Place    = (*place)(nil)
	_ source.Asserter = asserting{}
)
