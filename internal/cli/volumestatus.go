package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/report"
	"holdfast/internal/volume"
)

func (a *app) volumeStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME]", Short: "Show whether a volume is open, with which keys, and how full it is", Args: cobra.MaximumNArgs(1),
		Long: "Show what is there. The exit code is 4 when something is not as it is to be: another device or files in its place, no LUKS2 volume, fewer than two keys.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			return a.volumeStatus(cmd.Context(), cfg, d)
		},
	}
}

func (a *app) volumeStatus(ctx context.Context, cfg *config.Config, d disk) error {
	s, err := a.volumeHost().Status(ctx, d.volume)
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printEvent("volume", statusJSON(s))
		return wrongState(s)
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, quoted(fmt.Sprintf(format, args...)))
	}
	row("volume", "%s", d.config.Name)
	row("state", "%s", stateText(s))
	row("device", "%s", d.volume.Device)
	row("mount", "%s", d.volume.Mount)
	row("data", "%s", d.volume.DataPath())
	if s.Header.UUID != "" {
		row("UUID", "%s", s.Header.UUID)
		row("sealed", "LUKS2, %s, %d bits", s.Header.Cipher, s.Header.KeyBits)
		for _, slot := range s.Header.Slots {
			row(fmt.Sprintf("slot %d", slot.Number), "%s", slotText(slot, a.Now()))
		}
	}
	if s.Size > 0 {
		row("space", "%s of %s used, %s free", report.Size(s.Used), report.Size(s.Size), report.Size(s.Free))
	}
	row("guard", "%s", guardText(s))
	entries, headerErr := a.headerBackups(ctx, cfg, d)
	switch newest := newestHeader(entries); {
	case headerErr != nil:
		row("header backup", "not known: %s", holdfast.Sentence(headerErr))
	case newest.IsZero():
		row("header backup", "none: holdfast volume header backup %s", d.config.Name)
	default:
		row("header backup", "%s old, %d in all", health.Span(a.Now().Sub(newest)), len(entries))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return wrongState(s)
}

// wrongState is the error of a state that a volume is not to have. A locked one is as it should be after a start.
func wrongState(s volume.Status) error {
	if s.State == volume.Locked || s.State == volume.Open || s.State == volume.Mounted {
		if len(s.Header.Slots) >= 2 || s.HeaderUnseen {
			return nil
		}
		return holdfast.WithHint(fmt.Errorf("%w: volume %s has %d key(s)", holdfast.ErrDifference, s.Volume.Name, len(s.Header.Slots)), "add one: `holdfast volume key add "+string(s.Volume.Name)+"`")
	}
	return holdfast.WithHint(fmt.Errorf("%w: volume %s: %s", holdfast.ErrDifference, s.Volume.Name, stateText(s)), "docs/volumes.md tells what to do about each state")
}

func stateText(s volume.Status) string {
	if s.Detail == "" {
		return string(s.State)
	}
	return string(s.State) + ": " + s.Detail
}

func guardText(s volume.Status) string {
	switch {
	case s.Guarded:
		return "the bare mount point cannot be written"
	case s.GuardUnseen:
		return "not seen, which takes root"
	}
	return "NOT guarded: holdfast volume guard " + string(s.Volume.Name)
}

func statusJSON(s volume.Status) map[string]any {
	var slots []map[string]any
	for _, slot := range s.Header.Slots {
		slots = append(slots, map[string]any{"slot": slot.Number, "role": slot.Role, "created": dayOf(slot.Created), "kdf": slot.KDF, "memory_kib": slot.MemoryKiB})
	}
	return map[string]any{
		"volume": s.Volume.Name, "state": s.State, "detail": s.Detail, "device": s.Volume.Device, "mount": s.Volume.Mount, "data": s.Volume.DataPath(), "uuid": s.Header.UUID, "cipher": s.Header.Cipher,
		"bits": s.Header.KeyBits, "slots": slots, "size": s.Size, "used": s.Used, "free": s.Free, "guarded": s.Guarded, "header_unseen": s.HeaderUnseen, "guard_unseen": s.GuardUnseen,
	}
}

func (a *app) volumeListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the volumes of the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(config.Flags{}, false)
			if err != nil {
				return err
			}
			if len(cfg.Volumes) == 0 {
				a.printer.say("no volume is configured: `holdfast volume create` makes one")
				return nil
			}
			w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
			if !a.flags.json {
				fmt.Fprintln(w, "VOLUME\tSTATE\tKEYS\tUSED\tSIZE\tDEVICE\tMOUNT")
			}
			for _, c := range cfg.Volumes {
				d, err := a.disk(cfg, c.Name)
				if err != nil {
					return err
				}
				s, err := a.volumeHost().Status(cmd.Context(), d.volume)
				if err != nil {
					return err
				}
				if a.flags.json {
					a.printEvent("volume", statusJSON(s))
					continue
				}
				used, size, keys := "-", "-", strconv.Itoa(len(s.Header.Slots))
				if s.HeaderUnseen {
					keys = "-"
				}
				if s.Size > 0 {
					used, size = report.Size(s.Used), report.Size(s.Size)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, s.State, keys, used, size, quoted(c.Device), quoted(c.Mount))
			}
			return w.Flush()
		},
	}
}

func (a *app) volumeVerifyCommand() *cobra.Command {
	var operational, recovery string
	var full, withoutKeys bool
	cmd := &cobra.Command{
		Use: "verify [NAME]", Short: "Prove that a volume seals what is on it, and that both keys open it", Args: cobra.MaximumNArgs(1),
		Long: "Prove that the device is LUKS2 with the cipher, the key and the derivation that it is to have, and two keys with their roles; that the\n" +
			"folder of the database lies on the mapping of this very device; that each passphrase opens its slot; and that a marker, written to the\n" +
			"volume, is where the file system says on the mapping, and not there on the device (--full: nowhere on it). The volume must be mounted for\n" +
			"the last ones. Without the passphrases, which are asked for at a terminal, --without-keys leaves their part out, and says so.",
		Example: "  holdfast volume verify pg-data\n  holdfast volume verify pg-data --without-keys --full",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			// Questions come before the lock: one that nobody answers must not keep others from unlocking.
			keys := map[volume.Role]holdfast.Secret{}
			if !withoutKeys {
				if keys, err = a.bothKeys(cmd.Context(), d, operational, recovery); err != nil {
					return err
				}
			}
			lock, err := a.holdVolume(cfg, d)
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, lock.Release()) }()
			return a.volumeVerify(cmd.Context(), cfg, d, keys, full)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&operational, "operational-file", "", "`FILE` with the operational passphrase (mode 0600)")
	flags.StringVar(&recovery, "recovery-file", "", "`FILE` with the recovery passphrase (mode 0600)")
	flags.BoolVar(&full, "full", false, "look for the marker on the whole device, which reads all of it")
	flags.BoolVar(&withoutKeys, "without-keys", false, "do not prove that the keys open it")
	return cmd
}

// bothKeys are the passphrases of both roles, from files or asked for.
func (a *app) bothKeys(ctx context.Context, d disk, operational, recovery string) (map[volume.Role]holdfast.Secret, error) {
	keys := map[volume.Role]holdfast.Secret{}
	for _, one := range []struct {
		role volume.Role
		file string
	}{{volume.Operational, operational}, {volume.Recovery, recovery}} {
		secret, err := a.givenKey(ctx, d, one.file, "--"+string(one.role)+"-file", string(one.role)+" passphrase of volume ")
		if err != nil {
			return nil, err
		}
		keys[one.role] = secret
	}
	return keys, nil
}

func (a *app) volumeVerify(ctx context.Context, cfg *config.Config, d disk, keys map[volume.Role]holdfast.Secret, full bool) error {
	checks, err := a.volumeHost().Verify(ctx, d.volume, keys, full)
	defer a.carryVolume(ctx, cfg, d)
	if err == nil {
		if showErr := a.showChecks(checks); showErr != nil {
			err = fmt.Errorf("%w: volume %s: %w", holdfast.ErrDifference, d.config.Name, showErr)
		}
	}
	if err == nil && len(keys) == 0 {
		a.printer.warn("whether the keys open it was not looked at")
	}
	good := 0
	var failed []string
	for _, c := range checks {
		if c.Good {
			good++
		} else {
			failed = append(failed, c.Name)
		}
	}
	detail := "with both keys"
	if len(keys) == 0 {
		detail = "without keys"
	}
	if len(failed) > 0 {
		detail += "; not good: " + strings.Join(failed, ", ")
	}
	a.noteVolume(cfg, d.config.Name, journal.VolumeVerified, err, detail, func(r *journal.Record) {
		r.Figures = map[string]float64{"checks": float64(len(checks)), "good": float64(good)}
	})
	return err
}
