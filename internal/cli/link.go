package cli

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/store"
)

// The bounds of how long a link holds: what S3 allows, and what makes sense.
const (
	shortestLink = time.Minute
	longestLink  = 7 * 24 * time.Hour
)

func (a *app) linkCommand() *cobra.Command {
	var f storeFlags
	var object string
	var expires time.Duration
	cmd := &cobra.Command{
		Use: "link ID", Short: "Make an address from which one sealed object can be fetched", Args: cobra.ExactArgs(1),
		Long: "Make an address from which anybody who has it can fetch one object of a backup, without credentials, until it expires. Only\n" +
			"sealed objects and RESTORE.txt are handed out, so that the address alone opens nothing; still, pass it on like a password. Only stores\n" +
			"of kind s3 can do this. The manifest's signature is checked first.",
		Example: "  holdfast link 40323samuq --store s3 --object db.sql.zst.age --expires 15m",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.link(cmd.Context(), cfg, &f, args, object, expires)
		},
	}
	f.add(cmd)
	f.addSigners(cmd)
	cmd.Flags().StringVar(&object, "object", "", "the `OBJECT`, as `holdfast show` lists it (default: the only one with data)")
	cmd.Flags().DurationVar(&expires, "expires", 15*time.Minute, "for how long it holds: 1m to 168h")
	return cmd
}

func (a *app) link(ctx context.Context, cfg *config.Config, f *storeFlags, args []string, object string, expires time.Duration) error {
	if expires < shortestLink || expires > longestLink {
		return holdfast.WithHint(fmt.Errorf("%w: a link holds for a minute to seven days, and not for %s", holdfast.ErrUsage, expires), "give --expires 15m")
	}
	where, err := linkStore(cfg, f)
	if err != nil {
		return err
	}
	s, err := a.openStore(ctx, where, false)
	if err != nil {
		return err
	}
	linker, can := s.Driver().(store.Linker)
	if !can {
		return holdfast.WithHint(fmt.Errorf("%w: a store of kind %s makes no links", holdfast.ErrUsage, where.Kind), "name a store of kind s3 with --store")
	}
	keys, err := trusted(cfg, f)
	if err != nil {
		return err
	}
	b, err := a.pick(ctx, a.archiveOn(s, access{trusted: keys}), f, args)
	if err != nil {
		return err
	}
	name, err := b.LinkName(object)
	if err != nil {
		return err
	}
	a.about.Store, a.about.Detail = where.Name, path.Base(name)+" for "+expires.String()
	address, err := linker.Link(ctx, name, expires)
	if err != nil {
		return err
	}
	until := a.Now().Add(expires).UTC()
	if a.flags.json {
		a.printEvent("link", map[string]any{"id": b.Entry.ID, "url": address.Reveal(), "expires": until})
		return nil
	}
	a.printer.say("holds until " + until.Format("2006-01-02 15:04:05 UTC") + "; whoever has it can fetch the sealed object, and opens it only with an identity")
	_, err = fmt.Fprintln(a.Out, address.Reveal())
	return err
}

// linkStore is the store that a link leads to: the one that was named, else the first of the job that is of kind s3.
func linkStore(cfg *config.Config, f *storeFlags) (config.Store, error) {
	job, err := f.job()
	if err != nil {
		return config.Store{}, err
	}
	places, err := cfg.AllStores(job)
	if err != nil {
		return config.Store{}, err
	}
	for _, place := range places {
		if place.Kind == config.StoreS3 {
			return place, nil
		}
	}
	return places[0], nil
}
