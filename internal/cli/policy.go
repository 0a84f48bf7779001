package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Print the rights that a store's credentials need", Args: cobra.NoArgs,
		Long: "Print policies with the least rights for the credentials of a store.",
	}
	var f storeFlags
	s3 := &cobra.Command{
		Use: "s3 ROLE", Short: "Print the policy of a writer, a janitor or a reader of a bucket",
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"writer", "janitor", "reader"},
		Long: "Print, as JSON that AWS and MinIO take, the least rights for one role at a store of kind s3:\n\n" +
			"  writer   makes backups and looks at the bucket; it can delete nothing. For the host that is backed up\n" +
			"  janitor  and deletes, for `holdfast prune`. For another machine\n" +
			"  reader   lists and reads, for verify, drill and restore elsewhere",
		Example: "  holdfast policy s3 writer --store s3\n  holdfast policy s3 writer --store s3://acme-backups/web1",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			where, err := linkStore(cfg, &f)
			if err != nil {
				return err
			}
			if where.Kind != config.StoreS3 {
				return holdfast.WithHint(fmt.Errorf("%w: store %s is of kind %s", holdfast.ErrUsage, where.Name, where.Kind), "name a store of kind s3 with --store")
			}
			text, err := bucketPolicy(args[0], where)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s\n", text)
			return err
		},
	}
	f.add(s3)
	cmd.AddCommand(s3)
	return cmd
}
