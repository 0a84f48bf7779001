package survey_test

import (
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/journal"
	"holdfast/internal/store"
	"holdfast/internal/survey"
)

// TestLost carries the journal of a host to two stores, and loses it here.
func TestLost(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	begin := func(host string) *journal.Journal {
		t.Helper()
		j, err := journal.Open(journal.Options{Dir: filepath.Join(t.TempDir(), "journal"), Host: host, Signer: h.signer, Now: func() time.Time { return start }})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	carry := func(j *journal.Journal, records int, boxes ...*box) {
		t.Helper()
		for range records {
			if _, err := j.Append(t.Context(), journal.Record{Event: journal.Verified, Result: "good"}); err != nil {
				t.Fatal(err)
			}
		}
		for _, b := range boxes {
			if _, err := j.Push(t.Context(), store.New(b, store.Options{Attempts: 1})); err != nil {
				t.Fatal(err)
			}
		}
	}
	own, other := begin("web.1"), begin("db")
	carry(own, 3, main)
	carry(own, 2, away)
	carry(other, 9, main, away)
	stores := map[string][]journal.ChainInfo{}
	for name, b := range map[string]*box{"main": main, "away": away} {
		var err error
		if stores[name], err = journal.Chains(t.Context(), store.New(b, store.Options{Attempts: 1})); err != nil {
			t.Fatal(err)
		}
	}
	const gone = "it is gone, and store away has 5 records of this host"
	for _, c := range []struct {
		name, host, chain string
		last              int64
		want              string
	}{
		{"whole", "web.1", own.Chain(), 5, ""},
		{"longer than what was carried", "web.1", own.Chain(), 6, ""},
		{"cut behind what one store has", "web.1", own.Chain(), 4, "it ends with record 4, and store away has record 5"},
		{"cut behind what both have", "web.1", own.Chain(), 1, "it ends with record 1, and store away has record 5"},
		{"empty", "web.1", own.Chain(), 0, gone},
		{"gone", "web.1", "", 0, gone},
		{"begun anew, and empty", "web.1", begin("web.1").Chain(), 0, gone},
		{"of a host that was installed anew", "web.1", begin("web.1").Chain(), 1, ""},
		{"of a host that never recorded anything", "web", "", 0, ""},
	} {
		if got := survey.Lost(c.host, c.chain, c.last, stores); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := survey.Lost("web.1", own.Chain(), 0, nil); got != "" {
		t.Errorf("where no store can be looked at: %q", got)
	}
}
