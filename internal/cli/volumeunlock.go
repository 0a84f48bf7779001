package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
	"holdfast/internal/volume"
)

func (a *app) volumeUnlockCommand() *cobra.Command {
	var key keyFlags
	var e emergencyFlags
	cmd := &cobra.Command{
		Use: "unlock [NAME]", Short: "Open a volume, check its file system and mount it", Args: cobra.MaximumNArgs(1),
		Long: "Open the volume with a passphrase, check the file system, mount it and see that it can be written. A mount point that holds files is\n" +
			"refused. What is open and mounted stays as it is. Each try is a record and a line of the log, good or bad: who, when, from where.\n\n" +
			"With --emergency the recovery key is used: the reason, two witnesses, the identity card that was seen and the envelope that was opened are\n" +
			"recorded, and then both keys are replaced, because the envelope is open and the other key is gone.",
		Example: "  holdfast volume unlock pg-data\n  holdfast volume unlock pg-data --passphrase-fd 3 3</run/keys/pg-data\n" +
			"  holdfast volume unlock pg-data --emergency --reason \"Anna cannot be reached\" --witness Ben --witness Cleo --id-seen \"Ben, card 4711\" --envelope 2026-07",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			if err := e.check(); err != nil {
				return err
			}
			return a.volumeUnlock(cmd.Context(), cfg, d, key, e)
		},
	}
	key.add(cmd)
	e.add(cmd)
	return cmd
}

// emergencyFlags are what is recorded of an emergency, and where the new keys come from.
type emergencyFlags struct {
	reason         string
	is             bool
	witnesses      []string
	seen, envelope string
	operational    string
	recovery       string
}

func (f *emergencyFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.is, "emergency", false, "use the recovery key, record the circumstances, and replace both keys")
	flags.StringVar(&f.reason, "reason", "", "why")
	flags.StringArrayVar(&f.witnesses, "witness", nil, "`NAME` of somebody who looks on; twice")
	flags.StringVar(&f.seen, "id-seen", "", "whose identity card was seen, in a few `WORDS`")
	flags.StringVar(&f.envelope, "envelope", "", "which `ENVELOPE` was opened")
	flags.StringVar(&f.operational, "new-operational-file", "", "`FILE` with the new operational passphrase (default: eight words, shown on the terminal)")
	flags.StringVar(&f.recovery, "new-recovery-file", "", "`FILE` with the new recovery passphrase (default: eight words, shown on the terminal)")
}

func (f *emergencyFlags) check() error {
	if !f.is {
		return nil
	}
	var lacks []string
	if f.reason == "" {
		lacks = append(lacks, "--reason")
	}
	if len(f.witnesses) < 2 || strings.EqualFold(strings.TrimSpace(f.witnesses[0]), strings.TrimSpace(f.witnesses[1])) {
		lacks = append(lacks, "--witness twice, two people")
	}
	if f.seen == "" {
		lacks = append(lacks, "--id-seen")
	}
	if f.envelope == "" {
		lacks = append(lacks, "--envelope")
	}
	if len(lacks) > 0 {
		return holdfast.WithHint(fmt.Errorf("%w: an emergency is recorded with its circumstances, and these are missing: %s", holdfast.ErrUsage, strings.Join(lacks, ", ")), "docs/volume-keys.md tells what each is for")
	}
	return nil
}

// detail is what the record says of the circumstances.
func (f *emergencyFlags) detail() string {
	return fmt.Sprintf("witnesses: %s; identity seen: %s; envelope: %s", strings.Join(f.witnesses, ", "), f.seen, f.envelope)
}

func (a *app) volumeUnlock(ctx context.Context, cfg *config.Config, d disk, key keyFlags, e emergencyFlags) (err error) {
	host := a.volumeHost()
	asking := ctx
	if key.ask && !e.is {
		// Somebody may have been quicker than the unit that asks, or becomes so while it does.
		var stop func()
		asking, stop = untilMounted(ctx, host, d)
		defer stop()
	}
	// New keys are there before the old ones are used: a rotation that has none would leave an open envelope.
	var fresh rotationKeys
	if e.is {
		if fresh, err = a.freshKeys(ctx, cfg, e.operational, e.recovery); err != nil {
			return err
		}
	}
	what := "passphrase of volume " + d.config.Name
	if e.is {
		what = "recovery " + what
	}
	pass, err := a.readKey(asking, key, what)
	if errors.Is(context.Cause(asking), errMounted) {
		a.result("volume %s is open and mounted on %s already", d.config.Name, d.volume.Mount)
		return nil
	}
	if err != nil {
		return err
	}
	// Not before there is an answer: a question that nobody answers must not keep others from unlocking.
	lock, err := a.holdVolume(cfg, d)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, lock.Release()) }()
	role, err := a.unlock(ctx, host, d, pass, e.is)
	if e.is && err == nil && role != volume.Recovery {
		err = holdfast.WithHint(fmt.Errorf("%w: this is not the recovery passphrase", holdfast.ErrUsage), "the volume is open; without --emergency it is an unlock as any other")
	}
	defer a.carryVolume(ctx, cfg, d)
	a.noteVolume(cfg, d.config.Name, journal.VolumeUnlocked, err, unlockDetail(role, err), func(r *journal.Record) { r.Reason = e.reason })
	if e.is {
		a.noteVolume(cfg, d.config.Name, journal.VolumeEmergency, err, e.detail(), func(r *journal.Record) { r.Reason = e.reason })
	}
	if err != nil {
		return err
	}
	if err := host.Guard(d.volume); err != nil {
		a.printer.warn("the bare mount point is not guarded: " + holdfast.Sentence(err) + "; `holdfast volume guard " + d.config.Name + "`")
	}
	if a.flags.json {
		a.printEvent("unlock", map[string]any{"volume": d.config.Name, "mount": d.volume.Mount, "role": role})
	}
	a.result("volume %s is open and mounted on %s", d.config.Name, d.volume.Mount)
	if !e.is {
		return nil
	}
	return a.rotateBoth(ctx, cfg, d, pass, fresh)
}

// errMounted ends a question that nobody needs to answer any more.
var errMounted = errors.New("it is mounted already")

// mountedEvery is how often it is looked whether a volume was mounted while its passphrase is asked for.
const mountedEvery = time.Second

// untilMounted is ctx until the volume is mounted. stop ends the looking, and waits for its end.
func untilMounted(ctx context.Context, host volume.Host, d disk) (asking context.Context, stop func()) {
	asking, cancel := context.WithCancelCause(ctx)
	mounted := func() bool {
		is, err := host.Mounted(d.volume)
		return err == nil && is
	}
	ended := make(chan struct{})
	if mounted() {
		cancel(errMounted)
	}
	go func() {
		defer close(ended)
		every := time.NewTicker(mountedEvery)
		defer every.Stop()
		for {
			select {
			case <-asking.Done():
				return
			case <-every.C:
				if mounted() {
					cancel(errMounted)
				}
			}
		}
	}()
	return asking, func() {
		cancel(context.Canceled)
		<-ended
	}
}

// unlock says which key it was; "" when none fits, and when the volume was open already. prove has the passphrase looked at even then.
func (a *app) unlock(ctx context.Context, host volume.Host, d disk, pass holdfast.Secret, prove bool) (role volume.Role, err error) {
	slot, err := host.Unlock(ctx, d.volume, pass)
	if err == nil && slot < 0 && prove {
		if slot, err = host.Open(ctx, d.volume.Device, pass); err != nil {
			return "", err
		}
	}
	if slot < 0 {
		return "", err
	}
	header, headerErr := host.Header(ctx, d.volume.Device)
	for _, s := range header.Slots {
		if s.Number == slot {
			role = s.Role
		}
	}
	if err == nil {
		err = headerErr
	}
	return role, err
}

func unlockDetail(role volume.Role, err error) string {
	switch {
	case errors.Is(err, volume.ErrPassphrase):
		return "wrong passphrase"
	case role != "":
		return "by the " + string(role) + " key"
	}
	return ""
}

func (a *app) volumeLockCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lock [NAME]", Short: "Unmount a volume and close it", Args: cobra.MaximumNArgs(1),
		Long: "Unmount the volume and close it. While somebody works on it this is refused, with who that is: nobody's programs are ended.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			lock, err := a.holdVolume(cfg, d)
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, lock.Release()) }()
			err = a.volumeHost().Lock(cmd.Context(), d.volume)
			a.noteVolume(cfg, d.config.Name, journal.VolumeLocked, err, "", nil)
			a.carryVolume(cmd.Context(), cfg, d)
			if err != nil {
				return err
			}
			if a.flags.json {
				a.printEvent("lock", map[string]any{"volume": d.config.Name})
			}
			a.result("volume %s is locked", d.config.Name)
			return nil
		},
	}
}

func (a *app) volumeGuardCommand() *cobra.Command {
	var off bool
	cmd := &cobra.Command{
		Use: "guard [NAME]", Short: "Keep everybody from writing where the volume is not mounted", Args: cobra.MaximumNArgs(1),
		Long: "Give the bare mount point to root, with mode 0000 and immutable: a server that starts while the volume is locked finds nothing that it\n" +
			"could initialise. `create` and `unlock` see to it; --off takes it back, to remove the folder.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			lock, err := a.holdVolume(cfg, d)
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, lock.Release()) }()
			do, detail, said := volume.Host.Guard, "on", "the mount point %s is guarded"
			if off {
				do, detail, said = volume.Host.Unguard, "off", "the mount point %s is not guarded any more"
			}
			err = do(a.volumeHost(), d.volume)
			a.noteVolume(cfg, d.config.Name, journal.VolumeGuarded, err, detail, nil)
			a.carryVolume(cmd.Context(), cfg, d)
			if err == nil {
				a.result(said, d.volume.Mount)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&off, "off", false, "take the guard back")
	return cmd
}
