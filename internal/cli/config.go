package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check and show the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "check", Short: "Check the configuration; every mistake with its line", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				cfg, err := a.load(config.Flags{}, true)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.Out, "%s: good; %d jobs, %d sources, %d stores, %d keys\n", orDash(cfg.File), len(cfg.Jobs), len(cfg.Sources), len(cfg.Stores), len(cfg.Keys))
				return err
			},
		},
		&cobra.Command{
			Use: "show", Short: "Show every setting in force and where it came from; secrets masked", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				cfg, err := a.load(config.Flags{}, false)
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
				for _, setting := range cfg.Show() {
					if a.flags.json {
						a.printJSON(setting)
						continue
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", setting.Path, setting.Value, setting.Origin)
				}
				return w.Flush()
			},
		},
		&cobra.Command{
			Use: "schema", Short: "Print the JSON Schema of the configuration, for editors", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := a.Out.Write(config.Schema())
				return err
			},
		},
	)
	return cmd
}
