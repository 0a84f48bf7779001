package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/runbook"
	"holdfast/internal/volume"
)

func (a *app) runbookCommand() *cobra.Command {
	var out, name string
	var list bool
	cmd := &cobra.Command{
		Use: "runbook", Short: "Write what to do on good days and bad ones, with the names of this site", Args: cobra.NoArgs,
		Long: "Write the pages for this host's encrypted volumes into a new folder, as Markdown, with the names, holders and commands of the configuration:\n" +
			"set-up, migration, what to do after a start, keys, emergency access, a lost passphrase, a compromise, the quarterly restore test, custodians\n" +
			"and messages about maintenance. What is not configured is named with the key to set. They hold no secret, but names and ways to reach people:\n" +
			"the files have mode 0600. Print them: on the day they are for, this host may be gone.\n\n" +
			"Nothing is overwritten: make them again into another folder when the configuration changes.",
		Example: "  holdfast runbook\n  holdfast runbook --out /root/runbooks-2026-11\n  holdfast runbook --list\n  holdfast runbook --print 08-compromise",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list && name != "" || out != "" && (list || name != "") {
				return holdfast.WithHint(fmt.Errorf("%w: --out, --print and --list are three things to do", holdfast.ErrUsage), "give one of them")
			}
			cfg, err := a.load(config.Flags{}, false)
			if err != nil {
				return err
			}
			pages := runbook.Write(a.site(cfg))
			switch {
			case list:
				return a.listPages(pages)
			case name != "":
				return a.printPage(pages, name)
			}
			if len(cfg.Volumes) == 0 {
				a.printer.warn("no volume is configured: the pages say which keys to set")
			}
			return a.writePages(pages, pagesFolder(cfg.Host, out))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "write the pages into `FOLDER`, which must not be there yet (default: holdfast-runbooks-HOST here)")
	flags.StringVar(&name, "print", "", "print the page called `NAME` instead, as --list has it")
	flags.BoolVar(&list, "list", false, "list the names of the pages instead")
	return cmd
}

// pagesFolder is where pages go. A host may be called anything.
func pagesFolder(host, out string) string {
	if out != "" {
		return out
	}
	return "holdfast-runbooks-" + strings.Map(func(r rune) rune {
		if r == '/' || r < ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, host)
}

func (a *app) listPages(pages []runbook.File) error {
	for _, page := range pages {
		if a.flags.json {
			a.printEvent("runbook", map[string]any{"name": page.Name})
			continue
		}
		fmt.Fprintln(a.Out, page.Name)
	}
	return nil
}

func (a *app) printPage(pages []runbook.File, name string) error {
	var known []string
	for _, page := range pages {
		if page.Name == name || strings.TrimSuffix(page.Name, ".md") == name {
			_, err := a.Out.Write(page.Text)
			return err
		}
		known = append(known, strings.TrimSuffix(page.Name, ".md"))
	}
	return holdfast.WithHint(fmt.Errorf("%w: there is no page %q", holdfast.ErrUsage, name), "the pages are "+strings.Join(known, ", "))
}

// writePages writes all pages, or leaves nothing.
func (a *app) writePages(pages []runbook.File, folder string) (err error) {
	if err := os.Mkdir(folder, 0o700); errors.Is(err, fs.ErrExist) {
		return holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, folder), "name another folder with --out; pages are never overwritten")
	} else if err != nil {
		return holdfast.WithHint(fmt.Errorf("make the folder of the pages: %w", err), "name a folder with --out, in one that is there and can be written")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	for _, page := range pages {
		if err := durable.CreateFile(filepath.Join(folder, page.Name), page.Text, 0o600); err != nil {
			return fmt.Errorf("write a page: %w", err)
		}
	}
	if err := durable.SyncDir(filepath.Dir(folder)); err != nil {
		return err
	}
	if a.flags.json {
		a.printEvent("runbooks", map[string]any{"folder": folder, "pages": len(pages)})
	}
	a.result("%d pages: %s", len(pages), filepath.Join(folder, pages[0].Name))
	return nil
}

// site is what the pages are about.
func (a *app) site(cfg *config.Config) runbook.Site {
	site := runbook.Site{Host: cfg.Host, Config: cfg.File, Made: a.Now(), Version: a.Version}
	for _, v := range cfg.Volumes {
		site.Volumes = append(site.Volumes, siteVolume(v))
	}
	for _, job := range cfg.Jobs {
		j := runbook.Job{Name: job.Name, Stores: storeNames(job), RPO: job.Objectives.RPO, RTO: job.Objectives.RTO}
		for _, src := range job.Sources {
			j.Sources = append(j.Sources, src.Name)
		}
		for _, key := range job.Recipients {
			j.Keys = append(j.Keys, runbook.Key{Name: key.Name, Holder: key.Holder})
		}
		site.Jobs = append(site.Jobs, j)
	}
	stores, _ := storesAndJobs(cfg)
	for _, s := range stores {
		known := gdprStore(cfg.Host, s)
		site.Stores = append(site.Stores, runbook.Store{Name: known.Name, Kind: known.Kind, Where: known.Where, OffSite: known.OffSite})
	}
	return site
}

func siteVolume(v config.Volume) runbook.Volume {
	info, err := os.Stat(v.Device)
	site := runbook.Volume{
		Name: v.Name, Device: v.Device, File: err == nil && info.Mode().IsRegular() || err != nil && !strings.HasPrefix(v.Device, "/dev/"), Mount: v.Mount, Filesystem: v.Filesystem,
		Owner: v.Owner, Mode: fmt.Sprintf("%04o", v.Mode.Perm()), Data: volume.Volume{Mount: v.Mount, Data: v.Data}.DataPath(), Job: v.Job, Source: v.Source, Tell: slices.Clone(v.Tell),
		Server: runbook.Server{
			Stop: v.Server.Stop, Start: v.Server.Start, Health: v.Server.Health, User: v.Server.User, Unit: v.Server.Unit, Compose: v.Server.Compose, Service: v.Server.Service, Grace: v.Server.Grace,
		},
	}
	for _, h := range v.Holders {
		site.Holders = append(site.Holders, runbook.Holder{Name: h.Name, Contact: h.Contact, Role: h.Role, MFA: h.MFA, Since: h.Since, Until: h.Until})
	}
	return site
}
