package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
)

func (a *app) auditRebuildCommand() *cobra.Command {
	var f storeFlags
	var chain string
	cmd := &cobra.Command{
		Use: "rebuild", Short: "Take the journal of this host from a store", Args: cobra.NoArgs,
		Long: "Make the journal here what a store has of it, every signature checked: after the host was lost or set back. What is here is kept in a folder\n" +
			"beside it. A store is refused while another one has more. Which chain it is must be said where the store has several, or one of another host.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.auditRebuild(cmd.Context(), cfg, &f, chain)
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	cmd.Flags().StringVar(&chain, "chain", "", "the `CHAIN`, as audit verify names it")
	return cmd
}

func (a *app) auditRebuild(ctx context.Context, cfg *config.Config, f *storeFlags, chain string) error {
	s, keys, err := a.auditStore(ctx, cfg, f)
	if err != nil {
		return err
	}
	if chain, err = s.choose(chain, cfg.Host); err != nil {
		return err
	}
	if err := a.hasMost(ctx, cfg, s, chain); err != nil {
		return err
	}
	dir := filepath.Join(cfg.State, "journal")
	n, aside, err := journal.Rebuild(ctx, s.Store, chain, journal.Options{Dir: dir, Host: cfg.Host, Version: a.Version, Now: a.Now}, keys)
	if err != nil {
		return err
	}
	a.note(cfg, journal.Rebuilt, nil, func(r *journal.Record) {
		r.Store, r.Figures = s.name, map[string]float64{"records": float64(n)}
	})
	line := fmt.Sprintf("the journal is that of chain %s in store %s: %d records", chain, s.name, n)
	if aside != "" {
		line += "; what was here before is in " + aside
	}
	a.result("%s", line)
	return nil
}

// hasMost refuses a store when another one that is configured has more of the chain: the journal would never again be what that one has.
func (a *app) hasMost(ctx context.Context, cfg *config.Config, s chainStore, chain string) error {
	most := s
	for _, place := range cfg.Stores {
		if place.Name == s.name {
			continue
		}
		other, err := a.chainsIn(ctx, place)
		if err != nil {
			a.printer.warn(fmt.Sprintf("store %s may have more of the journal, and cannot be looked at: %s", place.Name, holdfast.Sentence(err)))
			continue
		}
		if other.last(chain) > most.last(chain) {
			most = other
		}
	}
	if most.name == s.name {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("%w: store %s has %d records of the chain, and store %s has %d", holdfast.ErrUsage, s.name, s.last(chain), most.name, most.last(chain)),
		"rebuild from that one: --store "+most.name+"; if what it has more of is not to be believed, take it out of the configuration first")
}

// last is the number of the newest record of a chain; 0: the store has none.
func (s chainStore) last(chain string) int64 {
	for _, c := range s.chains {
		if c.Chain == chain {
			return c.Last
		}
	}
	return 0
}

// choose is the chain that is named or, when none is, the only one, if it is that of this host.
func (s chainStore) choose(named, host string) (string, error) {
	known := func(c journal.ChainInfo) bool { return c.Chain == named }
	switch {
	case len(s.chains) == 0:
		return "", holdfast.WithHint(fmt.Errorf("%w: store %s has no journal", holdfast.ErrUsage, s.name), "name with --store one that this host wrote to")
	case named != "" && !slices.ContainsFunc(s.chains, known):
		return "", holdfast.WithHint(fmt.Errorf("%w: store %s has no chain %s", holdfast.ErrUsage, s.name, named), "its chains are: "+s.names())
	case named != "":
		return named, nil
	case len(s.chains) > 1:
		return "", holdfast.WithHint(fmt.Errorf("%w: store %s has %d chains", holdfast.ErrUsage, s.name, len(s.chains)), "name one with --chain: "+s.names())
	case !journal.IsOf(s.chains[0].Chain, host):
		return "", holdfast.WithHint(fmt.Errorf("%w: the chain in store %s is that of another host than %s", holdfast.ErrUsage, s.name, host), "if this host is to go on with it, give --chain "+s.names())
	}
	return s.chains[0].Chain, nil
}
