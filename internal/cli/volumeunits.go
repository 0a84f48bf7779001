package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/internal/unit"
)

func (a *app) volumeUnitsCommand() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use: "units [NAME]", Short: "Write what unlocks a volume after a start, and keeps its server waiting: units of systemd, or a compose overlay", Args: cobra.MaximumNArgs(1),
		Long: "Write holdfast-volume-NAME.service, which asks for the passphrase at the start of the machine and holds up nothing else, and for a server of\n" +
			"systemd (volumes.NAME.server.unit) a drop-in by which it is started after the volume and never without it. For a server of compose\n" +
			"(server.compose and service) the overlay is written beside the compose file, which stays as it is: a bind mount that is not made when the\n" +
			"folder is missing, and restart: \"no\".\n\n" +
			"Nothing is started, and no file that is different is overwritten without --replace.",
		Example: "  holdfast volume units pg-data\n  holdfast volume units pg-data --print",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			p, err := a.newPlan(cfg, f)
			if err != nil {
				return err
			}
			o := p.base()
			o.User = "root"
			files, err := unit.VolumeUnits(o, unit.Volume{Name: d.config.Name, Device: d.volume.Device, Mount: d.volume.Mount, Server: d.config.Server.Unit})
			if err != nil {
				return err
			}
			if d.config.Server.Compose != "" {
				text, err := unit.Overlay{Volume: d.config.Name, Service: d.config.Server.Service, Data: d.volume.DataPath(), Target: d.config.Server.ContainerData}.Text()
				if err != nil {
					return err
				}
				files = append(files, unit.File{Path: overlayPath(d), Mode: 0o644, Text: text})
			}
			return a.putVolumeUnits(files, d, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "write below `FOLDER` instead of /, for packages")
	flags.BoolVar(&f.print, "print", false, "print the files, and write nothing")
	flags.BoolVar(&f.replace, "replace", false, "overwrite files that are different")
	flags.StringVar(&f.program, "program", "", "`PATH` of holdfast in what is written (default: this program)")
	return cmd
}

func (a *app) putVolumeUnits(files []unit.File, d disk, f installFlags) error {
	if f.print {
		return a.printFiles(files)
	}
	if err := a.writeFiles(f, files); err != nil {
		return err
	}
	next := []string{"systemctl daemon-reload", "systemctl enable holdfast-volume-" + d.config.Name + ".service"}
	if d.config.Server.Compose != "" {
		next = append(next, fmt.Sprintf("docker compose --file %s --file %s up --detach %s", d.config.Server.Compose, overlayPath(d), d.config.Server.Service))
	}
	return a.tellNext(next, f)
}
