package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/joblock"
	"holdfast/internal/journal"
	"holdfast/internal/phrase"
	"holdfast/internal/unit"
	"holdfast/internal/volume"
)

func (a *app) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "volume", Short: "Keep a database's disk on an encrypted volume",
		Long: "Make, open, close, check and measure LUKS2 volumes, and move a PostgreSQL data directory onto one and back. A volume has two keys from the\n" +
			"start: the operational one opens it after each start of the machine, the recovery one lies in an envelope.",
	}
	cmd.AddCommand(
		a.volumeCreateCommand(), a.volumeUnlockCommand(), a.volumeLockCommand(), a.volumeStatusCommand(), a.volumeListCommand(), a.volumeVerifyCommand(), a.volumeGuardCommand(),
		a.volumeKeyCommand(), a.volumeHeaderCommand(), a.volumeHoldersCommand(), a.volumeReencryptCommand(), a.volumeMigrateCommand(), a.volumeUnitsCommand(), a.volumeBenchmarkCommand(),
	)
	return cmd
}

// disk is a configured volume, and what the machine takes for it.
type disk struct {
	config config.Volume
	volume volume.Volume
}

// disk finds the volume called name; "" is the only one.
func (a *app) disk(cfg *config.Config, name string) (disk, error) {
	if name == "" && len(cfg.Volumes) == 1 {
		name = cfg.Volumes[0].Name
	}
	c, err := cfg.Volume(name)
	if err != nil {
		return disk{}, err
	}
	uid, gid, err := ownerOf(c.Owner)
	if err != nil {
		return disk{}, fmt.Errorf("volume %s: %w", name, err)
	}
	return disk{c, volume.Volume{
		Name: volume.Name(c.Name), Device: c.Device, Mount: c.Mount, Filesystem: c.Filesystem, UID: uid, GID: gid, Mode: c.Mode, Data: c.Data,
	}}, nil
}

// diskOf loads the configuration and finds the volume that a command names.
func (a *app) diskOf(args []string) (*config.Config, disk, error) {
	cfg, err := a.load(config.Flags{}, false)
	if err != nil {
		return nil, disk{}, err
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	d, err := a.disk(cfg, name)
	return cfg, d, err
}

// ownerOf resolves USER or USER:GROUP, by names or numbers. A number need not be known here: 999 is the user of container images.
func ownerOf(text string) (uid, gid int, err error) {
	name, group, both := strings.Cut(text, ":")
	primary := ""
	if uid, err = strconv.Atoi(name); err != nil {
		u, lookupErr := user.Lookup(name)
		if lookupErr != nil {
			return 0, 0, holdfast.WithHint(fmt.Errorf("%w: there is no user %q", holdfast.ErrUsage, name), "give its number; that of PostgreSQL's container images is 999")
		}
		primary = u.Gid
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return 0, 0, err
		}
	}
	switch {
	case both:
		if gid, err = strconv.Atoi(group); err == nil {
			return uid, gid, nil
		}
		g, lookupErr := user.LookupGroup(group)
		if lookupErr != nil {
			return 0, 0, holdfast.WithHint(fmt.Errorf("%w: there is no group %q", holdfast.ErrUsage, group), "give its number")
		}
		gid, err = strconv.Atoi(g.Gid)
	case primary != "":
		gid, err = strconv.Atoi(primary)
	default:
		gid = uid
	}
	return uid, gid, err
}

// volumeHost is this machine.
func (a *app) volumeHost() volume.Host {
	return volume.Host{Now: a.Now, Step: func(s volume.Step) {
		a.printer.observe(holdfast.Event{Kind: holdfast.EventPhase, Message: string(s)})
	}}
}

// holdVolume keeps two commands from working on one volume.
func (a *app) holdVolume(cfg *config.Config, d disk) (*joblock.Lock, error) {
	lock, err := joblock.Acquire(cfg.State, "volume", headerJob(d.config.Name))
	if errors.Is(err, holdfast.ErrBusy) {
		return nil, holdfast.WithHint(fmt.Errorf("%w: another command works on volume %s", holdfast.ErrBusy, d.config.Name), "wait for it to end")
	}
	return lock, err
}

// noteVolume records what was done with a volume.
func (a *app) noteVolume(cfg *config.Config, name string, event journal.Event, cause error, detail string, fill func(*journal.Record)) {
	a.note(cfg, event, cause, func(r *journal.Record) {
		r.Volume, r.Detail = name, detail
		if fill != nil {
			fill(r)
		}
	})
}

// carryVolume brings the records to the stores of the volume's job.
func (a *app) carryVolume(ctx context.Context, cfg *config.Config, d disk) {
	if job, err := cfg.Job(d.config.Job); err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), carryReadTime)
		defer cancel()
		a.carryJournal(ctx, cfg, storesOf(job))
	}
}

// keyFlags say where one passphrase of a volume comes from.
type keyFlags struct {
	file string
	fd   int
	ask  bool
}

func (f *keyFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file, "passphrase-file", "", "`FILE` with the passphrase (mode 0600)")
	flags.IntVar(&f.fd, "passphrase-fd", -1, "`NUMBER` of an open descriptor that the passphrase is read from")
	flags.BoolVar(&f.ask, "ask-password", false, "ask through systemd-ask-password, as units do")
}

// read takes the passphrase from where the flags say, else asks for it at the terminal. A line break at its end does not belong to it.
func (a *app) readKey(ctx context.Context, f keyFlags, what string) (holdfast.Secret, error) {
	given := 0
	for _, is := range []bool{f.file != "", f.fd >= 0, f.ask} {
		if is {
			given++
		}
	}
	var secret holdfast.Secret
	var err error
	switch {
	case given > 1:
		return secret, holdfast.WithHint(fmt.Errorf("%w: several sources of one passphrase are given", holdfast.ErrUsage), "give one of --passphrase-file, --passphrase-fd and --ask-password")
	case f.file != "":
		secret, err = config.SecretFile(f.file).Resolve(ctx)
	case f.fd >= 0:
		secret, err = a.secretFrom(f.fd)
	case f.ask:
		secret, err = askPassword(ctx, what)
	case !a.interactive():
		return secret, holdfast.WithHint(fmt.Errorf("%w: %s is needed", holdfast.ErrUsage, what), "give --passphrase-file FILE, --passphrase-fd N or --ask-password, or run it at a terminal")
	default:
		secret, err = a.askSecret(ctx, what+": ")
	}
	if err == nil && secret.IsZero() {
		err = fmt.Errorf("%w: %s is empty", holdfast.ErrUsage, what)
	}
	return secret, err
}

// mostPassphrase bounds what is read as a passphrase.
const mostPassphrase = 4 << 10

// secretFrom reads a descriptor that whoever started this has opened.
func (a *app) secretFrom(fd int) (holdfast.Secret, error) {
	in := a.In
	if fd != 0 {
		if in = os.NewFile(uintptr(fd), "descriptor"); in == nil {
			return holdfast.Secret{}, fmt.Errorf("%w: %d is no descriptor", holdfast.ErrUsage, fd)
		}
	}
	line, err := bufio.NewReader(io.LimitReader(in, mostPassphrase)).ReadString('\n')
	if err != nil && !(errors.Is(err, io.EOF) && line != "") {
		return holdfast.Secret{}, holdfast.WithHint(fmt.Errorf("%w: read the passphrase from descriptor %d: %w", holdfast.ErrUsage, fd, err), "open it in whatever starts holdfast, as in 3<FILE")
	}
	return holdfast.NewSecret(strings.TrimRight(line, "\r\n")), nil
}

// askPassword lets systemd ask, wherever somebody can answer: at the console, or by systemd-tty-ask-password-agent.
func askPassword(ctx context.Context, what string) (holdfast.Secret, error) {
	cmd := exec.CommandContext(ctx, "/usr/bin/systemd-ask-password", fmt.Sprintf("--timeout=%d", int(unit.VolumeWait.Seconds())), "--id=holdfast", what)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	// With SIGTERM it takes the question back; killed, it would leave it to the agents.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	answer, err := cmd.Output()
	if ctx.Err() != nil {
		return holdfast.Secret{}, holdfast.ErrInterrupted
	}
	if err != nil {
		return holdfast.Secret{}, holdfast.WithHint(fmt.Errorf("systemd-ask-password: %w", err), "answer with `systemd-tty-ask-password-agent`, or give --passphrase-file FILE")
	}
	return holdfast.NewSecret(strings.TrimRight(string(answer), "\r\n")), nil
}

// newKey is a new passphrase of a volume: the one given, or eight words that are made here. A given one is judged, and none may be one that
// opens backups too: whoever takes the disk and the store would need one secret only.
func (a *app) newKey(ctx context.Context, cfg *config.Config, file, flag string, role volume.Role) (secret holdfast.Secret, made bool, err error) {
	if file == "" {
		if !a.interactive() {
			return secret, false, holdfast.WithHint(fmt.Errorf("%w: a new %s passphrase would be shown to nobody", holdfast.ErrUsage, role),
				"give "+flag+" FILE, or run it at a terminal")
		}
		secret, err = phrase.New()
		return secret, true, err
	}
	if secret, err = config.SecretFile(file).Resolve(ctx); err != nil {
		return secret, false, err
	}
	if err := phrase.Judge(secret); err != nil {
		return secret, false, fmt.Errorf("the %s passphrase: %w", role, err)
	}
	for _, key := range cfg.Keys {
		if key.Passphrase.IsZero() {
			continue
		}
		other, err := key.Passphrase.Resolve(ctx)
		if err != nil {
			a.printer.warn(fmt.Sprintf("whether the %s passphrase is that of key %s too is not known: %s", role, key.Name, holdfast.Sentence(err)))
			continue
		}
		if phrase.Same(secret, other) {
			return secret, false, holdfast.WithHint(fmt.Errorf("%w: the %s passphrase is the passphrase of backup key %s", holdfast.ErrUsage, role, key.Name), "take another: whoever has one of them must not have both")
		}
	}
	return secret, false, nil
}

// showPassphrases shows passphrases that were made here, once, on the terminal alone: no log has them. They count once it is said that the key
// is there.
func (a *app) showPassphrases(name string, keys map[volume.Role]holdfast.Secret) {
	if len(keys) == 0 {
		return
	}
	fmt.Fprintf(a.Err, "\nThe new passphrases of volume %s. They are shown this once and stored nowhere:\n\n", name)
	for _, role := range volume.Roles() {
		if secret, some := keys[role]; some {
			fmt.Fprintf(a.Err, "  %-12s %s\n", role, secret.Reveal())
		}
	}
	fmt.Fprint(a.Err, "\nWrite each on paper of its own: the operational one for whoever unlocks after a start, the recovery one into a sealed\n"+
		"envelope at another place. Neither belongs on this machine or beside the backups.\n\n")
}
