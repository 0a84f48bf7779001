package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/volume"
)

func (a *app) volumeKeyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "List, check, replace, add and remove the keys of a volume"}
	cmd.AddCommand(a.volumeKeyListCommand(), a.volumeKeyCheckCommand(), a.volumeKeyRotateCommand(), a.volumeKeyAddCommand(), a.volumeKeyRemoveCommand())
	return cmd
}

func dayOf(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.Format(time.DateOnly)
}

// slotText tells of one slot on one line.
func slotText(s volume.Slot, now time.Time) string {
	role := string(s.Role)
	if role == "" {
		role = "made elsewhere, no role"
	}
	text := role
	if !s.Created.IsZero() {
		text += fmt.Sprintf(", since %s (%s)", dayOf(s.Created), age(now.Sub(s.Created)))
	}
	return text + fmt.Sprintf(", %s with %d MiB", s.KDF, s.MemoryKiB>>10)
}

func (a *app) volumeKeyListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "List the keys of a volume: roles, ages, who holds them, when they were last tried", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			return a.volumeKeyList(cmd.Context(), cfg, d)
		},
	}
}

func (a *app) volumeKeyList(ctx context.Context, cfg *config.Config, d disk) error {
	header, err := a.volumeHost().Header(ctx, d.volume.Device)
	if err != nil {
		return err
	}
	checked, err := a.keyChecks(cfg, d.config.Name)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	if !a.flags.json {
		fmt.Fprintln(w, "SLOT\tROLE\tSINCE\tDUE\tLAST TRIED\tDERIVATION\tHOLDERS")
	}
	for _, s := range header.Slots {
		var holders []string
		for _, h := range holding(d.config, a.Now()) {
			if h.Role == string(s.Role) {
				holders = append(holders, h.Name)
			}
		}
		due, last := "-", agoAt(a.Now())(checked[s.Role])
		if !s.Created.IsZero() {
			due = dayOf(s.Created.Add(health.KeyAge))
			if a.Now().After(s.Created.Add(health.KeyAge)) {
				due = "OVERDUE since " + due
			}
		}
		if a.flags.json {
			a.printEvent("key", map[string]any{"volume": d.config.Name, "slot": s.Number, "role": s.Role, "created": dayOf(s.Created), "checked": checked[s.Role], "kdf": s.KDF, "memory_kib": s.MemoryKiB, "holders": holders})
			continue
		}
		role := string(s.Role)
		if role == "" {
			role = "none"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s, %d MiB\t%s\n", s.Number, role, dayOf(s.Created), due, last, s.KDF, s.MemoryKiB>>10, quoted(strings.Join(holders, ", ")))
	}
	return w.Flush()
}

// holding are those who hold keys now.
func holding(c config.Volume, now time.Time) []config.Holder {
	return slices.DeleteFunc(slices.Clone(c.Holders), func(h config.Holder) bool { return h.Left(now) })
}

// keyChecks says when each key was last seen to open the volume, by the journal.
func (a *app) keyChecks(cfg *config.Config, name string) (map[volume.Role]time.Time, error) {
	checked := map[volume.Role]time.Time{}
	err := a.eachRecord(cfg, func(r journal.Record) {
		if r.Volume != name || r.Result != "good" {
			return
		}
		for _, role := range volume.Roles() {
			if (r.Event == journal.VolumeKeyChecked || r.Event == journal.VolumeUnlocked) && strings.Contains(r.Detail, string(role)) ||
				r.Event == journal.VolumeVerified && strings.HasPrefix(r.Detail, "with both keys") {
				checked[role] = r.Time
			}
		}
	})
	return checked, err
}

func (a *app) volumeKeyCheckCommand() *cobra.Command {
	var operational, recovery, only string
	cmd := &cobra.Command{
		Use: "check [NAME]", Short: "Prove that the keys open the volume, and record it", Args: cobra.MaximumNArgs(1),
		Long:    "Try both passphrases, or with --role one of them, on their slots. Nothing is opened or changed, and the volume may be in use.",
		Example: "  holdfast volume key check pg-data\n  holdfast volume key check pg-data --role recovery --recovery-file /media/stick/recovery",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			roles := volume.Roles()
			if only != "" {
				role, err := volume.ParseRole(only)
				if err != nil {
					return err
				}
				roles = []volume.Role{role}
			}
			defer a.carryVolume(cmd.Context(), cfg, d)
			var problems []error
			for _, role := range roles {
				file := operational
				if role == volume.Recovery {
					file = recovery
				}
				problems = append(problems, a.checkKey(cmd.Context(), cfg, d, role, file))
			}
			return errors.Join(problems...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&operational, "operational-file", "", "`FILE` with the operational passphrase (mode 0600)")
	flags.StringVar(&recovery, "recovery-file", "", "`FILE` with the recovery passphrase (mode 0600)")
	flags.StringVar(&only, "role", "", "only the key of this `ROLE`: operational or recovery")
	return cmd
}

func (a *app) checkKey(ctx context.Context, cfg *config.Config, d disk, role volume.Role, file string) error {
	secret, err := a.givenKey(ctx, d, file, "--"+string(role)+"-file", string(role)+" passphrase of volume ")
	if err != nil {
		return err
	}
	err = a.opensSlot(ctx, d, role, secret)
	a.noteVolume(cfg, d.config.Name, journal.VolumeKeyChecked, err, string(role), nil)
	if err != nil {
		return fmt.Errorf("the %s key of volume %s: %w", role, d.config.Name, err)
	}
	if a.flags.json {
		a.printEvent("key", map[string]any{"volume": d.config.Name, "role": role, "opens": true})
	}
	a.result("the %s key opens volume %s", role, d.config.Name)
	return nil
}

// opensSlot proves that a passphrase opens the slot of its role.
func (a *app) opensSlot(ctx context.Context, d disk, role volume.Role, secret holdfast.Secret) error {
	host := a.volumeHost()
	slot, err := host.Open(ctx, d.volume.Device, secret)
	if err != nil {
		return err
	}
	header, err := host.Header(ctx, d.volume.Device)
	if err != nil {
		return err
	}
	if of, some := header.Slot(role); !some || of.Number != slot {
		return holdfast.WithHint(fmt.Errorf("%w: the passphrase opens slot %d, which is not that of the %s key", volume.ErrPassphrase, slot, role), "`holdfast volume key list "+d.config.Name+"` shows the slots")
	}
	return nil
}

// rotationKeys are new passphrases, and which of them were made here.
type rotationKeys struct {
	keys map[volume.Role]holdfast.Secret
	made map[volume.Role]holdfast.Secret
}

func (a *app) freshKeys(ctx context.Context, cfg *config.Config, operational, recovery string) (rotationKeys, error) {
	k := rotationKeys{map[volume.Role]holdfast.Secret{}, map[volume.Role]holdfast.Secret{}}
	for role, file := range map[volume.Role]string{volume.Operational: operational, volume.Recovery: recovery} {
		secret, fresh, err := a.newKey(ctx, cfg, file, "--new-"+string(role)+"-file", role)
		if err != nil {
			return k, err
		}
		if k.keys[role] = secret; fresh {
			k.made[role] = secret
		}
	}
	return k, nil
}

func (a *app) volumeKeyRotateCommand() *cobra.Command {
	var roleText, old, fresh, other, reason string
	var lost bool
	cmd := &cobra.Command{
		Use: "rotate [NAME]", Short: "Replace the key of a role: add, prove, then remove", Args: cobra.MaximumNArgs(1),
		Long: "Add the new key, prove that it opens the volume, prove that the key of the other role still does, and only then remove the old one; then\n" +
			"a new copy of the header goes into the store. What is interrupted leaves the old key in force or both, and the next rotation ends it.\n\n" +
			"Old copies of the header open the volume with the old passphrase as long as the volume key is the same. They are listed; when a\n" +
			"passphrase is known to somebody, `holdfast volume reencrypt` is what helps. --lost replaces a key whose passphrase is gone.",
		Example: "  holdfast volume key rotate pg-data --role operational",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			role, err := volume.ParseRole(roleText)
			if err != nil {
				return err
			}
			return a.volumeKeyRotate(cmd.Context(), cfg, d, role, rotateKeyFlags{old, fresh, other, reason, lost})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&roleText, "role", string(volume.Operational), "the `ROLE` whose key is replaced: operational or recovery")
	flags.StringVar(&old, "old-file", "", "`FILE` with the passphrase that is replaced (mode 0600)")
	flags.StringVar(&fresh, "new-file", "", "`FILE` with the new passphrase (default: eight words, shown on the terminal)")
	flags.StringVar(&other, "other-file", "", "`FILE` with the passphrase of the other role, which must still open the volume")
	flags.StringVar(&reason, "reason", "", "why: a year is over, a holder left")
	flags.BoolVar(&lost, "lost", false, "the passphrase that is replaced is gone")
	return cmd
}

type rotateKeyFlags struct {
	old, fresh, other, reason string
	lost                      bool
}

func (a *app) volumeKeyRotate(ctx context.Context, cfg *config.Config, d disk, role volume.Role, f rotateKeyFlags) (err error) {
	if err := a.maySealHeader(cfg, d); err != nil {
		return err
	}
	r := volume.Rotation{Role: role}
	made := map[volume.Role]holdfast.Secret{}
	fresh, isMade, err := a.newKey(ctx, cfg, f.fresh, "--new-file", role)
	if err != nil {
		return err
	}
	if r.New = fresh; isMade {
		made[role] = fresh
	}
	if !f.lost {
		if r.Old, err = a.givenKey(ctx, d, f.old, "--old-file", string(role)+" passphrase that is replaced, of volume "); err != nil {
			return err
		}
	}
	if r.Other, err = a.givenKey(ctx, d, f.other, "--other-file", "passphrase of the other role, of volume "); err != nil {
		return err
	}
	lock, err := a.holdVolume(cfg, d)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, lock.Release()) }()
	// Before it is in force: a passphrase that nobody has seen would be the end of a key.
	a.showPassphrases(d.config.Name, made)
	a.printer.say("rotate the " + string(role) + " key")
	if err := a.rotate(ctx, cfg, d, r, f.reason); err != nil {
		return err
	}
	return a.afterRotation(ctx, cfg, d)
}

// givenKey is a passphrase that is there already.
func (a *app) givenKey(ctx context.Context, d disk, file, flag, what string) (holdfast.Secret, error) {
	if file == "" && !a.interactive() {
		return holdfast.Secret{}, holdfast.WithHint(fmt.Errorf("%w: the %s%s is not given", holdfast.ErrUsage, what, d.config.Name), "give "+flag+" FILE, or run it at a terminal")
	}
	return a.readKey(ctx, keyFlags{file: file, fd: -1}, what+d.config.Name)
}

// rotate replaces one key, and records it.
func (a *app) rotate(ctx context.Context, cfg *config.Config, d disk, r volume.Rotation, reason string) error {
	removed, added, err := a.volumeHost().RotateKey(ctx, d.volume.Device, r)
	detail := string(r.Role)
	if err == nil {
		detail += ": slot " + strconv.Itoa(removed.Number) + " went, slot " + strconv.Itoa(added.Number) + " came"
	}
	a.noteVolume(cfg, d.config.Name, journal.VolumeKeyRotated, err, detail, func(rec *journal.Record) { rec.Reason = reason })
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printEvent("rotate", map[string]any{"volume": d.config.Name, "role": r.Role, "removed": removed.Number, "added": added.Number})
	}
	a.result("volume %s: the %s key is a new one, in slot %d; the old one, in slot %d, is gone", d.config.Name, r.Role, added.Number, removed.Number)
	return nil
}

// rotateBoth replaces both keys after an emergency. The recovery passphrase that opened the volume vouches for both.
func (a *app) rotateBoth(ctx context.Context, cfg *config.Config, d disk, recovery holdfast.Secret, fresh rotationKeys) error {
	const reason = "emergency"
	a.showPassphrases(d.config.Name, fresh.made)
	err := a.rotate(ctx, cfg, d, volume.Rotation{Role: volume.Operational, New: fresh.keys[volume.Operational], Other: recovery}, reason)
	if err == nil {
		err = a.rotate(ctx, cfg, d, volume.Rotation{Role: volume.Recovery, Old: recovery, New: fresh.keys[volume.Recovery], Other: fresh.keys[volume.Operational]}, reason)
	}
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("the volume is open, but not both keys were replaced: %w", err), "replace them now: `holdfast volume key rotate "+d.config.Name+" --role operational --lost`, then `--role recovery`")
	}
	return a.afterRotation(ctx, cfg, d)
}

// afterRotation seals the new header into the store, and says what old ones still open.
func (a *app) afterRotation(ctx context.Context, cfg *config.Config, d disk) error {
	defer a.carryVolume(ctx, cfg, d)
	before, listErr := a.headerBackups(ctx, cfg, d)
	if err := a.backupHeader(ctx, cfg, d, d.volume.Device, "a key was replaced"); err != nil {
		return holdfast.WithHint(fmt.Errorf("the keys are replaced, but the store has no copy of the new header: %w", err), "`holdfast volume header backup "+d.config.Name+"`")
	}
	switch {
	case listErr != nil:
		a.printer.warn("which old copies of the header there are is not known: " + holdfast.Sentence(listErr))
	case len(before) > 0:
		a.printer.warn(fmt.Sprintf("%d older copies of the header open volume %s with the old passphrases, for as long as the volume key is the same. If one is known to somebody: holdfast volume reencrypt %s. They are:", len(before), d.config.Name, d.config.Name))
		for _, e := range before {
			a.printer.warn("  backup " + string(e.ID) + " of " + e.Time.Format(time.RFC3339) + " in store " + a.storeOf(cfg, d))
		}
	}
	return nil
}

func (a *app) storeOf(cfg *config.Config, d disk) string {
	job, err := cfg.Job(d.config.Job)
	if err != nil {
		return "?"
	}
	return job.Store.Name
}

func (a *app) volumeKeyAddCommand() *cobra.Command {
	var roleText, with, fresh, reason string
	cmd := &cobra.Command{
		Use: "add [NAME]", Short: "Add a key for a role that has none", Args: cobra.MaximumNArgs(1),
		Long:    "Add a key, for a volume that was made elsewhere or lost a slot. A role has one key: `holdfast volume key rotate` replaces it.",
		Example: "  holdfast volume key add pg-data --role recovery",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			role, err := volume.ParseRole(roleText)
			if err != nil {
				return err
			}
			if err := a.maySealHeader(cfg, d); err != nil {
				return err
			}
			ctx := cmd.Context()
			secret, made, err := a.newKey(ctx, cfg, fresh, "--new-file", role)
			if err != nil {
				return err
			}
			open, err := a.givenKey(ctx, d, with, "--with-file", "passphrase that opens volume ")
			if err != nil {
				return err
			}
			lock, err := a.holdVolume(cfg, d)
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, lock.Release()) }()
			if made {
				a.showPassphrases(d.config.Name, map[volume.Role]holdfast.Secret{role: secret})
			}
			slot, err := a.volumeHost().AddKey(ctx, d.volume.Device, open, secret, role)
			a.noteVolume(cfg, d.config.Name, journal.VolumeKeyAdded, err, string(role), func(r *journal.Record) { r.Reason = reason })
			if err != nil {
				return err
			}
			a.result("volume %s: the %s key is in slot %d", d.config.Name, role, slot.Number)
			return a.afterRotation(ctx, cfg, d)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&roleText, "role", "", "the `ROLE` of the key: operational or recovery")
	flags.StringVar(&with, "with-file", "", "`FILE` with a passphrase that opens the volume (mode 0600)")
	flags.StringVar(&fresh, "new-file", "", "`FILE` with the new passphrase (default: eight words, shown on the terminal)")
	flags.StringVar(&reason, "reason", "", "why")
	return cmd
}

func (a *app) volumeKeyRemoveCommand() *cobra.Command {
	var slot int
	var with, reason, confirm string
	cmd := &cobra.Command{
		Use: "remove [NAME]", Short: "Remove a key; never one of the last two", Args: cobra.MaximumNArgs(1),
		Long:    "Remove the key in a slot. A passphrase that opens another slot must be given. The last two keys stay: `holdfast volume key rotate` replaces one.",
		Example: "  holdfast volume key remove pg-data --slot 2 --reason \"made by hand\" --confirm pg-data",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			if slot < 0 || confirm != d.config.Name {
				return holdfast.WithHint(fmt.Errorf("%w: a key is removed by its slot, and with the volume's name typed", holdfast.ErrUsage), "give --slot N --confirm "+d.config.Name+"; `holdfast volume key list "+d.config.Name+"` shows the slots")
			}
			if err := a.maySealHeader(cfg, d); err != nil {
				return err
			}
			open, err := a.givenKey(cmd.Context(), d, with, "--with-file", "passphrase of a key that stays, of volume ")
			if err != nil {
				return err
			}
			lock, err := a.holdVolume(cfg, d)
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, lock.Release()) }()
			err = a.volumeHost().RemoveKey(cmd.Context(), d.volume.Device, slot, open)
			a.noteVolume(cfg, d.config.Name, journal.VolumeKeyRemoved, err, "slot "+strconv.Itoa(slot), func(r *journal.Record) { r.Reason = reason })
			if err != nil {
				return err
			}
			a.result("volume %s: slot %d is empty", d.config.Name, slot)
			return a.afterRotation(cmd.Context(), cfg, d)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&slot, "slot", -1, "the `SLOT` of the key")
	flags.StringVar(&with, "with-file", "", "`FILE` with the passphrase of a key that stays (mode 0600)")
	flags.StringVar(&reason, "reason", "", "why")
	flags.StringVar(&confirm, "confirm", "", "the volume's `NAME`, typed")
	return cmd
}

func (a *app) volumeReencryptCommand() *cobra.Command {
	var operational, recovery, reason, confirm string
	cmd := &cobra.Command{
		Use: "reencrypt [NAME]", Short: "Change the volume key itself, so that old copies of the header open nothing", Args: cobra.MaximumNArgs(1),
		Long: "Encrypt all of the volume anew under another volume key, for the day when a passphrase or an old header is in wrong hands. It takes as long as\n" +
			"reading and writing the whole device; the volume may be open and in use meanwhile. What is interrupted is carried on by the next call. Both passphrases\n" +
			"are needed, because each gets a new slot. Then a new copy of the header goes into the store: the old ones open nothing any more. Where a passphrase\n" +
			"is known to somebody, replace it first, by `holdfast volume key rotate`. A drill of a backup before this is wise.",
		Example: "  holdfast volume reencrypt pg-data --reason \"envelope found open\" --confirm pg-data",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			if confirm != d.config.Name || reason == "" {
				return holdfast.WithHint(fmt.Errorf("%w: every byte of the volume is written anew, which needs a reason and the volume's name typed", holdfast.ErrUsage), `give --reason "…" --confirm `+d.config.Name)
			}
			if err := a.maySealHeader(cfg, d); err != nil {
				return err
			}
			ctx := cmd.Context()
			keys, err := a.bothKeys(ctx, d, operational, recovery)
			if err != nil {
				return err
			}
			lock, err := a.holdVolume(cfg, d)
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, lock.Release()) }()
			err = a.volumeHost().Reencrypt(ctx, d.volume, keys, func(done, total int64) {
				a.printer.observe(holdfast.Event{Kind: holdfast.EventProgress, Item: d.config.Name, Bytes: done, Total: total})
			})
			a.noteVolume(cfg, d.config.Name, journal.VolumeReencrypted, err, "", func(r *journal.Record) { r.Reason = reason })
			defer a.carryVolume(ctx, cfg, d)
			if err != nil {
				return err
			}
			a.result("volume %s has another volume key; copies of the header from before open nothing", d.config.Name)
			return a.backupHeader(ctx, cfg, d, d.volume.Device, "the volume key was changed")
		},
	}
	cmd.Flags().StringVar(&operational, "operational-file", "", "`FILE` with the operational passphrase (mode 0600)")
	cmd.Flags().StringVar(&recovery, "recovery-file", "", "`FILE` with the recovery passphrase (mode 0600)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, which is recorded")
	cmd.Flags().StringVar(&confirm, "confirm", "", "the volume's `NAME`, typed")
	return cmd
}

func (a *app) volumeHoldersCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "holders", Short: "Show and check who holds the keys of a volume"}
	cmd.AddCommand(a.volumeHoldersListCommand(), a.volumeHoldersCheckCommand())
	return cmd
}

func (a *app) volumeHoldersListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "Show who holds the keys, since when, and who must be told within an hour", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			last, err := a.lastCheck(cfg, d.config.Name)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
			if !a.flags.json {
				fmt.Fprintln(w, "HOLDER\tROLE\tMFA\tSINCE\tUNTIL\tCONTACT")
			}
			for _, h := range d.config.Holders {
				if a.flags.json {
					a.printEvent("holder", map[string]any{"volume": d.config.Name, "name": h.Name, "role": h.Role, "mfa": h.MFA, "since": dayOf(h.Since), "until": dayOf(h.Until), "contact": h.Contact})
					continue
				}
				mfa := "no"
				if h.MFA {
					mfa = "yes"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", quoted(h.Name), h.Role, mfa, dayOf(h.Since), dayOf(h.Until), quoted(h.Contact))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if last.IsZero() {
				a.result("last checked: never; `holdfast volume holders check %s` each quarter", d.config.Name)
			} else {
				a.result("last checked: %s", agoAt(a.Now())(last))
			}
			a.result("to be told within an hour of a compromise: %s", strings.Join(d.config.Tell, ", "))
			return nil
		},
	}
}

func (a *app) lastCheck(cfg *config.Config, name string) (last time.Time, err error) {
	err = a.eachRecord(cfg, func(r journal.Record) {
		if r.Volume == name && r.Event == journal.CustodiansChecked && r.Result == "good" {
			last = r.Time
		}
	})
	return last, err
}

func (a *app) volumeHoldersCheckCommand() *cobra.Command {
	var present []string
	cmd := &cobra.Command{
		Use: "check [NAME]", Short: "Record that the holders were asked and have what they are to have, each quarter", Args: cobra.MaximumNArgs(1),
		Long: "Record who was asked and showed the passphrase or the unbroken envelope. All who hold a key now must be named; whoever is not makes the check\n" +
			"incomplete, with exit code 3. That the passphrases open the volume is what `holdfast volume key check` proves.",
		Example: "  holdfast volume holders check pg-data --present Anna --present Ben",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			now := holding(d.config, a.Now())
			var missing, names []string
			for _, h := range now {
				names = append(names, h.Name)
				if !slices.Contains(present, h.Name) {
					missing = append(missing, h.Name)
				}
			}
			for _, name := range present {
				if !slices.Contains(names, name) {
					return holdfast.WithHint(fmt.Errorf("%w: %q holds no key of volume %s", holdfast.ErrUsage, name, d.config.Name), "holders are: "+strings.Join(names, ", "))
				}
			}
			switch {
			case len(now) < 2:
				err = holdfast.WithHint(fmt.Errorf("%w: volume %s has %d holder(s), and two are the least", holdfast.ErrIncomplete, d.config.Name, len(now)), "enter them in volumes."+d.config.Name+".holders")
			case len(missing) > 0:
				err = holdfast.WithHint(fmt.Errorf("%w: not shown by %s", holdfast.ErrIncomplete, strings.Join(missing, ", ")), "ask them, and check again; a key that nobody has is replaced by `holdfast volume key rotate`")
			}
			a.noteVolume(cfg, d.config.Name, journal.CustodiansChecked, err, strings.Join(present, ", "), nil)
			a.carryVolume(cmd.Context(), cfg, d)
			if err == nil {
				a.result("volume %s: %s have their keys", d.config.Name, strings.Join(present, ", "))
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&present, "present", nil, "`NAME` of a holder who showed what they hold; once for each")
	return cmd
}
