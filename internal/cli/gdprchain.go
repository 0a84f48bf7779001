package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
	"holdfast/internal/report"
	"holdfast/internal/store"
	"holdfast/internal/survey"
)

// chains reads and verifies the journal here and every chain of the stores. Records of a chain of another host count where a store has it whole;
// those of the one here count whatever is wrong with it, and that is told.
func (g *gdprFill) chains(ctx context.Context, stores []config.Store) {
	// They are listed first: what is recorded meanwhile may be carried away at once.
	var there []chainStore
	for _, place := range stores {
		s, err := g.app.chainsIn(ctx, place)
		if err != nil {
			g.report.Unread = append(g.report.Unread, g.unseen(seenAgain, holdfast.Sentence(err), "journals in store %s", place.Name))
			continue
		}
		there = append(there, s)
	}
	away := slices.Clone(g.report.Unread) // each chain may be there too
	own := g.ownChain(ctx, there, away)
	var names []string
	for _, s := range there {
		for _, c := range s.chains {
			if c.Chain != own && !slices.Contains(names, c.Chain) {
				names = append(names, c.Chain)
			}
		}
	}
	for _, name := range names {
		g.otherChain(ctx, name, there, away)
	}
	slices.SortStableFunc(g.report.Records, func(x, y report.GDPRRecord) int { return x.Time.Compare(y.Time) })
}

// wrong takes down what was found wrong: that something is not what was written. It reports whether err says that.
func (g *gdprFill) wrong(into *string, where string, err error) bool {
	if !errors.Is(err, holdfast.ErrDifference) {
		return false
	}
	g.broken = errors.Join(g.broken, fmt.Errorf("%s: %w", where, err))
	if *into != "" {
		*into += "; "
	}
	*into += holdfast.Sentence(err)
	return true
}

// ownChain adds the chain of this installation, and returns its name; "": there is none.
func (g *gdprFill) ownChain(ctx context.Context, there []chainStore, away []string) string {
	const where = "the journal of this host"
	key, err := g.app.ownKey(g.cfg)
	if err != nil {
		g.unseen("`holdfast audit verify` as root", holdfast.Sentence(err), "the signer of this host")
	}
	j, err := g.app.ownJournal(g.cfg)
	if err != nil {
		g.wrong(new(string), where, err) // it is told as the reason
		g.report.JournalError = holdfast.Sentence(err)
		return ""
	}
	carried, opened := map[string][]journal.ChainInfo{}, map[string]*store.Store{}
	for _, s := range there {
		opened[s.name] = s.Store
		if key != nil { // else nothing is carried
			carried[s.name] = s.chains
		}
	}
	if j == nil {
		if why := survey.Lost(g.cfg.Host, "", 0, carried); why != "" {
			g.wrong(&g.report.Lost, where, fmt.Errorf("%w: %s", holdfast.ErrDifference, why))
		}
		return ""
	}
	trust := slices.Clone(g.trust)
	if len(trust) > 0 && key != nil {
		trust = append(trust, *key)
	}
	audit, err := j.Verify(ctx, trust, opened)
	chain := report.GDPRChain{
		Name: j.Chain(), Own: true, Records: int(audit.Read), Signed: audit.Head, Last: audit.Records, Unread: slices.Clone(away),
	}
	failed := func(err error) {
		if err != nil && !g.wrong(&chain.Problem, where, err) {
			chain.Error = holdfast.Sentence(err)
		}
	}
	if failed(err); chain.Error == "" {
		chain.Checked = g.report.Made
	}
	for _, name := range slices.Sorted(maps.Keys(audit.Stores)) {
		if audit.Stores[name] > 0 {
			chain.Stores = append(chain.Stores, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(audit.Unseen)) {
		chain.Unread = append(chain.Unread, g.unseen(seenAgain, audit.Unseen[name], "what store %s has of %s", name, where))
	}
	if why := survey.Lost(g.cfg.Host, j.Chain(), audit.Records, carried); err == nil && why != "" {
		failed(fmt.Errorf("%w: %s", holdfast.ErrDifference, why))
	}
	if err := eachOf(j, func(r journal.Record) { g.record(chain, r) }); chain.Problem == "" {
		failed(err)
	}
	g.report.Chains = append(g.report.Chains, chain)
	return j.Chain()
}

// otherChain adds the chain of another host, by what the stores have of it.
func (g *gdprFill) otherChain(ctx context.Context, name string, there []chainStore, away []string) {
	chain := report.GDPRChain{Name: name, Unread: slices.Clone(away)}
	var whole []journal.Audit
	var records []journal.Record
	for _, s := range there {
		if !slices.ContainsFunc(s.chains, func(c journal.ChainInfo) bool { return c.Chain == name }) {
			continue
		}
		where := fmt.Sprintf("store %s, records of %s", s.name, name)
		var read []journal.Record
		audit, err := journal.VerifyStore(ctx, s.Store, name, g.trust, func(r journal.Record, _ []byte) error {
			read = append(read, r)
			return nil
		})
		if err != nil {
			if g.wrong(&chain.Problem, where, err) {
				chain.Checked = g.report.Made
			} else {
				chain.Unread = append(chain.Unread, g.unseen(seenAgain, holdfast.Sentence(err), "%s", where))
			}
			continue
		}
		chain.Checked = g.report.Made
		for _, other := range whole {
			g.wrong(&chain.Problem, where, audit.Agrees(other))
		}
		whole, chain.Stores = append(whole, audit), append(chain.Stores, s.name)
		if audit.Records > chain.Last {
			chain.Records, chain.Signed, chain.Last, records = int(audit.Read), audit.Head, audit.Records, read
		}
	}
	if len(whole) == 0 {
		g.report.Unread = append(g.report.Unread, chain.Unread[len(away):]...)
	}
	for _, r := range records {
		g.record(chain, r)
	}
	g.report.Chains = append(g.report.Chains, chain)
}

// record adds a record of a chain, unless it is of after the span.
func (g *gdprFill) record(chain report.GDPRChain, r journal.Record) {
	if !r.Time.Before(g.report.Until) {
		return
	}
	g.report.Records = append(g.report.Records, report.GDPRRecord{
		ID: fmt.Sprintf("%s %d", chain.Name, r.Seq), Own: chain.Own, Time: r.Time, Event: string(r.Event), Who: r.Who.User, Host: r.Who.Host, Address: r.Who.Address, Job: r.Job, Backup: r.Backup,
		Volume: r.Volume, Store: r.Store, Result: r.Result, Reason: r.Reason, Detail: r.Detail, Figures: r.Figures,
	})
}
