package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
	"holdfast/internal/keyring"
	"holdfast/internal/volume"
)

// createFlags say what volume is made.
type createFlags struct {
	name, size, from         string
	mount, filesystem        string
	owner, mode, data, job   string
	operational, recovery    string
	confirm                  string
	check                    bool
	kdfMemory, kdfIterations int
}

func (a *app) volumeCreateCommand() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create [FILE|DEVICE]", Short: "Make an encrypted volume, with two keys from the start", Args: cobra.MaximumNArgs(1),
		Long: "Make a LUKS2 volume in a file or on a block device: aes-xts-plain64 with 512 bits (256 would be AES-128, because XTS halves its key),\n" +
			"argon2id, an operational and a recovery key, a copy of the header sealed into the store of its job, a file system, a folder for the\n" +
			"database, and a guard on the bare mount point. First it is looked whether all of that can be; --check does no more.\n\n" +
			"Without files with passphrases, two of eight random words (103 bits each) are made and shown on the terminal, once. What was interrupted\n" +
			"is undone and made anew by the next call. A device that carries a signature is not formatted unless --confirm has the volume's name.\n\n" +
			"A volume that the configuration does not have yet is entered there; --mount and --job are needed for it then.",
		Example: "  holdfast volume create --name pg-data --size 50G --mount /srv/pg-data --job app /var/lib/holdfast-volumes/pg-data.luks\n" +
			"  holdfast volume create --name pg-data /dev/sdb1 --confirm pg-data",
		RunE: func(cmd *cobra.Command, args []string) error {
			device := ""
			if len(args) > 0 {
				device = args[0]
			}
			return a.volumeCreate(cmd.Context(), device, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "the volume's `NAME`, in the configuration and below /dev/mapper")
	flags.StringVar(&f.size, "size", "", "`SIZE` of a volume in a file: 50G (default: what --from holds, and 20 % more)")
	flags.StringVar(&f.from, "from", "", "the `FOLDER` that will move onto it, for its size")
	flags.StringVar(&f.mount, "mount", "", "`FOLDER` where it is mounted")
	flags.StringVar(&f.filesystem, "filesystem", "", "ext4 (default) or xfs")
	flags.StringVar(&f.owner, "owner", "", "`USER[:GROUP]` that the database's folder belongs to, by name or number (default 999, as container images have it)")
	flags.StringVar(&f.mode, "mode", "", "`MODE` of that folder (default 0700)")
	flags.StringVar(&f.data, "data", "", "`NAME` of that folder on the volume (default pgdata)")
	flags.StringVar(&f.job, "job", "", "the `JOB` whose store, mirrors and recipients copies of the header get")
	flags.StringVar(&f.operational, "operational-file", "", "`FILE` with the operational passphrase (mode 0600)")
	flags.StringVar(&f.recovery, "recovery-file", "", "`FILE` with the recovery passphrase (mode 0600)")
	flags.StringVar(&f.confirm, "confirm", "", "the volume's `NAME`, typed, to destroy what a device or a file holds")
	flags.BoolVar(&f.check, "check", false, "only look whether it can be made")
	flags.IntVar(&f.kdfMemory, "kdf-memory", 0, "`MIB` of memory that a try of a passphrase takes (default: a quarter of this machine's, 64 to 1024)")
	flags.IntVar(&f.kdfIterations, "kdf-iterations", 0, "`N` passes of argon2id (default: as many as take two seconds here)")
	return cmd
}

// leastKDFMemory is what a try of a passphrase should take at the least, in MiB: the second recommendation of RFC 9106, section 4.
const leastKDFMemory = 64

func (a *app) volumeCreate(ctx context.Context, device string, f createFlags) (err error) {
	cfg, err := a.load(config.Flags{}, true)
	if err != nil {
		return err
	}
	d, enter, err := a.diskToMake(cfg, device, f)
	if err != nil {
		return err
	}
	if err := a.maySealHeader(cfg, d); err != nil {
		return err
	}
	lock, err := a.holdVolume(cfg, d)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, lock.Release()) }()
	size, err := sizeOf(d, f)
	if err != nil {
		return err
	}
	host := a.volumeHost()
	checks, err := host.Preflight(ctx, d.volume, size, volume.Name(f.confirm))
	if err != nil {
		return err
	}
	if err := a.showChecks(checks); err != nil || f.check {
		return err
	}
	creation := volume.Creation{Volume: d.volume, Size: size, Confirm: volume.Name(f.confirm)}
	if creation.KDF, err = host.KDF(); err != nil {
		return err
	}
	if f.kdfMemory > 0 {
		if f.kdfMemory < leastKDFMemory {
			a.printer.warn(fmt.Sprintf("a try of a passphrase takes %d MiB: with less than %d a thief can make many at once", f.kdfMemory, leastKDFMemory))
		}
		creation.KDF.MemoryKiB = f.kdfMemory << 10
	}
	creation.KDF.Iterations = f.kdfIterations
	made := map[volume.Role]holdfast.Secret{}
	for _, one := range []struct {
		role volume.Role
		file string
		into *holdfast.Secret
	}{{volume.Operational, f.operational, &creation.Operational}, {volume.Recovery, f.recovery, &creation.Recovery}} {
		secret, fresh, err := a.newKey(ctx, cfg, one.file, "--"+string(one.role)+"-file", one.role)
		if err != nil {
			return err
		}
		if *one.into = secret; fresh {
			made[one.role] = secret
		}
	}
	if err := enter(); err != nil {
		return err
	}
	creation.Backup = func(ctx context.Context, device string) error {
		return a.backupHeader(ctx, cfg, d, device, "the volume was made")
	}
	defer func() {
		a.noteVolume(cfg, d.config.Name, journal.VolumeCreated, err, d.volume.Device, func(r *journal.Record) { r.Figures = map[string]float64{"bytes": float64(size)} })
		a.carryVolume(ctx, cfg, d)
	}()
	a.printer.say(creation.KDF.String() + ": the machine that opens the volume needs as much")
	// Before it is made: whatever comes then, a volume whose passphrases nobody has seen is lost.
	a.showPassphrases(d.config.Name, made)
	header, err := host.Create(ctx, creation)
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printEvent("volume", map[string]any{"volume": d.config.Name, "device": d.volume.Device, "mount": d.volume.Mount, "data": d.volume.DataPath(), "uuid": header.UUID, "cipher": header.Cipher, "bits": header.KeyBits, "slots": len(header.Slots)})
	}
	a.result("volume %s: %s, mounted on %s; %s", d.config.Name, d.volume.Device, d.volume.Mount, headerText(header))
	a.result("next: holdfast volume verify %s; holdfast volume units %s, so that nothing starts without it; holdfast volume migrate --from FOLDER --to %s", d.config.Name, d.config.Name, d.config.Name)
	return nil
}

// diskToMake is the volume as the configuration has it, or as the flags describe it; then enter adds it there.
func (a *app) diskToMake(cfg *config.Config, device string, f createFlags) (d disk, enter func() error, err error) {
	enter = func() error { return nil }
	if f.name == "" && len(cfg.Volumes) == 1 && device == "" {
		f.name = cfg.Volumes[0].Name
	}
	name, err := volume.ParseName(f.name)
	if err != nil {
		return d, enter, err
	}
	if device != "" {
		if device, err = filepath.Abs(device); err != nil {
			return d, enter, err
		}
	}
	if configured, err := cfg.Volume(string(name)); err != nil {
		section, err := f.section(name, device, cfg)
		if err != nil {
			return d, enter, err
		}
		if cfg, err = a.withVolume(cfg, name, section); err != nil {
			return d, enter, err
		}
		enter = func() error { return a.enterVolume(cfg.File, name, section) }
	} else if described := f.contradicts(configured); len(described) > 0 {
		return d, enter, holdfast.WithHint(fmt.Errorf("%w: the configuration has volume %s, and %s would contradict it", holdfast.ErrUsage, name, strings.Join(described, ", ")), "leave them out, or change the configuration")
	}
	d, err = a.disk(cfg, string(name))
	if err == nil && device != "" && device != d.volume.Device {
		err = holdfast.WithHint(fmt.Errorf("%w: volume %s is %s in the configuration, not %s", holdfast.ErrUsage, name, d.volume.Device, device), "leave it out, or change volumes."+string(name)+".device")
	}
	return d, enter, err
}

// contradicts are the flags that say something else than the configuration. What they say too is no contradiction: the same call makes anew what was
// interrupted, and the first one has entered the volume.
func (f createFlags) contradicts(c config.Volume) []string {
	var given []string
	for _, flag := range []struct{ name, value, configured string }{
		{"--mount", f.mount, c.Mount}, {"--filesystem", f.filesystem, c.Filesystem}, {"--owner", f.owner, c.Owner}, {"--mode", f.mode, fmt.Sprintf("%04o", c.Mode)},
		{"--data", f.data, c.Data}, {"--job", f.job, string(c.Job)},
	} {
		if flag.value != "" && flag.value != flag.configured {
			given = append(given, flag.name)
		}
	}
	return given
}

// section is what the configuration gets: one line for each value that was given.
func (f createFlags) section(name volume.Name, device string, cfg *config.Config) (string, error) {
	if f.job == "" && len(cfg.Jobs) == 1 {
		f.job = string(cfg.Jobs[0].Name)
	}
	if device == "" || f.mount == "" || f.job == "" {
		return "", holdfast.WithHint(fmt.Errorf("%w: volume %s is not configured, and not all of FILE or DEVICE, --mount and --job are given", holdfast.ErrUsage, name),
			"give them, or enter the volume in the configuration: docs/volumes.md shows how")
	}
	text := "  " + string(name) + ":\n"
	for _, value := range []struct{ key, text string }{
		{"device", device}, {"mount", f.mount}, {"filesystem", f.filesystem}, {"owner", f.owner}, {"mode", f.mode}, {"data", f.data}, {"job", f.job},
	} {
		if value.text != "" {
			text += "    " + value.key + ": " + strconv.Quote(value.text) + "\n"
		}
	}
	return text, nil
}

func byHand(section string) string {
	return "enter this in the configuration, below volumes:\n" + section
}

// withVolume is the configuration with a section more, behind all that it has. A file that has volumes already is changed by its owner.
func (a *app) withVolume(cfg *config.Config, name volume.Name, section string) (*config.Config, error) {
	if cfg.File == "" {
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no configuration file to enter volume %s in", holdfast.ErrUsage, name), "write one with `holdfast init`, then "+byHand(section))
	}
	if len(cfg.Volumes) > 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: the configuration has other volumes, and not %s", holdfast.ErrUsage, name), byHand(section))
	}
	with, err := config.Parse(cfg.File, append(cfg.Content(), "\n\nvolumes:\n"+section...), a.lookup, a.Now())
	if err != nil {
		return nil, holdfast.WithHint(err, byHand(section))
	}
	return with, nil
}

// enterVolume adds the section to the file, as it is by now.
func (a *app) enterVolume(path string, name volume.Name, section string) (err error) {
	file, err := keyring.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, file.Close()) }()
	err = file.Append("\nvolumes:\n" + section)
	if err == nil {
		_, err = config.Parse(path, file.Text(), a.lookup, a.Now())
	}
	if err == nil {
		err = file.Commit()
	}
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("enter volume %s in %s: %w", name, path, err), byHand(section))
	}
	a.printer.say("entered volume " + string(name) + " in " + path)
	return nil
}

// parseBytes reads a size as people write it: 50G, 512M, 2TB; units are of 1,024.
func parseBytes(text string) (int64, error) {
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text), "B"), "I")
	unit := int64(1)
	if number != "" {
		if at := strings.IndexByte("KMGT", number[len(number)-1]); at >= 0 {
			unit, number = 1<<(10*(at+1)), number[:len(number)-1]
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || unit == 1 || n > math.MaxInt64/unit {
		return 0, holdfast.WithHint(fmt.Errorf("%w: %q is no size", holdfast.ErrUsage, text), "write 50G, 512M or 2T")
	}
	return n * unit, nil
}

// sizeOf is how large a volume in a file is made; 0 for a device, which is as large as it is.
func sizeOf(d disk, f createFlags) (int64, error) {
	info, err := os.Stat(d.volume.Device)
	if err == nil && info.Mode()&fs.ModeDevice != 0 || strings.HasPrefix(d.volume.Device, "/dev/") {
		if f.size != "" {
			return 0, holdfast.WithHint(fmt.Errorf("%w: %s is a device, and is as large as it is", holdfast.ErrUsage, d.volume.Device), "leave --size out")
		}
		return 0, nil
	}
	if f.size != "" {
		return parseBytes(f.size)
	}
	if f.from == "" {
		return 0, holdfast.WithHint(fmt.Errorf("%w: how large volume %s is to be is not said", holdfast.ErrUsage, d.config.Name), "give --size 50G, or --from FOLDER for what lies there and 20 % more")
	}
	var bytes int64
	err = filepath.WalkDir(f.from, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a server works there
		}
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		return 0, holdfast.WithHint(fmt.Errorf("%w: measure %s: %w", holdfast.ErrUsage, f.from, err), "give --size")
	}
	// Headers, a journal and tables of inodes take a part of it.
	const least = 64 << 20
	return max(least, bytes+bytes/5) + headerSize, nil
}

// showChecks tells what was looked at; it fails when something is in the way.
func (a *app) showChecks(checks []volume.Check) error {
	bad := 0
	for _, c := range checks {
		word := "good"
		switch {
		case c.Warns:
			word = "warn"
		case !c.Good:
			word = "FAILS"
			bad++
		}
		if a.flags.json {
			a.printEvent("check", map[string]any{"name": c.Name, "result": strings.ToLower(word), "text": c.Text, "fix": c.Fix})
			continue
		}
		a.result("%-6s %-14s %s", word, c.Name, c.Text)
		if c.Fix != "" && word != "good" {
			a.result("%-6s %-14s   %s", "", "", c.Fix)
		}
	}
	if bad > 0 {
		return holdfast.WithHint(fmt.Errorf("%d of %d checks failed", bad, len(checks)), "each says what to do")
	}
	return nil
}
