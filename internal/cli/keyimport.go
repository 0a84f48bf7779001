package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/keyring"
	"holdfast/internal/seal"
)

type importFlags struct {
	add        string
	holder     string
	expires    string
	out        string
	passphrase string
	dryRun     bool
}

func (a *app) keyImportCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Show a key of age or OpenPGP, and put its public half where jobs can use it", Args: cobra.ExactArgs(1),
		Long: "Read a file of keys (age recipients or identities, OpenPGP public or private keys, armored or not), show what they are,\n" +
			"and print the lines that name them in the configuration, or write these with --add. A key that is too long for one line\n" +
			"is put into a file beside the configuration. Of a private key only the public half is taken.",
		Example: "  gpg --armor --export ops@example.com > ops.asc; holdfast key import ops.asc --add ops\n  holdfast key import identity.txt",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.keyImport(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.add, "add", "", "add it to the configuration as the key `NAME`")
	flags.StringVar(&f.holder, "holder", "", "who keeps the private half and how to reach them")
	flags.StringVar(&f.expires, "expires", "", "the last `DAY` on which backups may be sealed to it, as 2027-11-22")
	flags.StringVarP(&f.out, "out", "o", "", "new `FILE` for the public half (default: keys/NAME beside the configuration, when it needs one)")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the passphrase of a locked age identity (mode 0600)")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "show the key and write nothing")
	return cmd
}

func (a *app) keyImport(ctx context.Context, path string, f importFlags) error {
	cfg, err := a.load(config.Flags{}, false)
	if err != nil {
		return err
	}
	infos, err := a.inspectFile(ctx, path, f.passphrase)
	if err != nil {
		return err
	}
	a.showInfos(infos)
	if f.dryRun {
		return nil
	}
	private := false
	for _, info := range infos {
		private = private || info.Private
		if info.Unfit != "" {
			return holdfast.WithHint(fmt.Errorf("%w: nothing can be sealed to key %s: it %s", holdfast.ErrUsage, info.ID, info.Unfit), "take another key, or mend this one with gpg and export it again")
		}
	}
	if private {
		a.printer.warn(path + " holds a private half: only the public one is taken; keep the file away from the hosts that are backed up")
	}
	key := keyring.Key{Holder: f.holder, Created: oldest(infos)}
	if key.Expires, err = parseDay(f.expires); err != nil {
		return err
	}
	where := cfg.File
	if where == "" {
		where = config.DefaultPath(a.Environ)
	}
	return a.addKey(cfg, where, key, infos, f)
}

// addKey puts the public half where it is needed, and prints or writes the lines that name it.
func (a *app) addKey(cfg *config.Config, where string, key keyring.Key, infos []seal.KeyInfo, f importFlags) error {
	name := f.add
	if name == "" {
		name = infos[0].ID
	} else if cfg.File == "" {
		return holdfast.WithHint(fmt.Errorf("%w: there is no configuration file to add the key to", holdfast.ErrUsage), "write one with `holdfast init`, or name it with --config")
	}
	undo := func(err error) error { return err }
	if inline := recipientLine(infos); inline != "" && f.out == "" {
		key.Recipient = inline
	} else {
		path, made, err := putPublic(publicPath(where, f.out, name, infos), infos)
		if err != nil {
			return err
		}
		key.RecipientFile = path
		if made {
			undo = func(err error) error { return errors.Join(err, os.Remove(path)) }
		}
	}
	if f.add != "" {
		return a.writeKey(where, name, key, undo)
	}
	if key.RecipientFile != "" {
		a.printer.say("public half in " + key.RecipientFile)
	}
	a.result("keys:\n  %s: %s", name, key.Line())
	return nil
}

// writeKey adds the key to the configuration. undo takes back what was made for it, as long as the file cannot name it.
func (a *app) writeKey(where, name string, key keyring.Key, undo func(error) error) error {
	file, err := keyring.Open(where)
	if err != nil {
		return undo(err)
	}
	defer file.Close()
	if err := file.Add(name, key); err != nil {
		return undo(err)
	}
	if _, err := a.checkConfig(file); err != nil {
		return undo(err)
	}
	kept, err := file.Keep(a.Now())
	if err != nil {
		return undo(err)
	}
	if err := file.Commit(); err != nil {
		return err
	}
	a.printer.say("the configuration before is kept as " + kept)
	a.result("key %s added to %s; name it in the recipients of a job", name, file.Path())
	return nil
}

// checkConfig lets the configuration reader judge the text that is to be written.
func (a *app) checkConfig(file *keyring.File) (*config.Config, error) {
	cfg, err := config.Parse(file.Path(), file.Text(), func(name string) (string, bool) {
		value := a.env(name)
		return value, value != ""
	}, a.Now())
	if err != nil {
		return nil, fmt.Errorf("the configuration would not be good any more, and was not changed: %w", err)
	}
	return cfg, nil
}

// inspectFile tells what keys a file holds, and unlocks it if it must.
func (a *app) inspectFile(ctx context.Context, path, passphrase string) ([]seal.KeyInfo, error) {
	data, err := a.readKeys(path)
	if err != nil {
		return nil, err
	}
	if seal.IsLockedAge(data) {
		if data, _, err = a.unlocked(ctx, path, data, passphrase); err != nil {
			return nil, err
		}
	}
	infos, err := seal.Inspect(data, a.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return infos, nil
}

func (a *app) showInfos(infos []seal.KeyInfo) {
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(a.Out, "%-14s%s\n", name, text)
		}
	}
	for _, info := range infos {
		if a.flags.json {
			a.printEvent("key", map[string]any{
				"key_id": info.ID, "kind": info.Kind, "fingerprint": info.Fingerprint, "users": info.UserIDs, "uses": info.Uses,
				"private": info.Private, "locked": info.Locked, "unfit": info.Unfit, "created": dayText(info.Created), "expires": dayText(info.Expires),
			})
			continue
		}
		line("key", info.ID+" ("+info.Kind+")")
		a.showKeyInfo(line, info)
		line("made", dayText(info.Created))
		line("expires", dayText(info.Expires))
		switch {
		case info.Locked:
			line("private", "yes, locked by a passphrase")
		case info.Private:
			line("private", "yes")
		}
	}
}

func dayText(day time.Time) string {
	if day.IsZero() {
		return ""
	}
	return day.Format(time.DateOnly)
}

// parseDay reads a day; the empty text is none.
func parseDay(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, holdfast.WithHint(fmt.Errorf("%w: %q is not a day", holdfast.ErrUsage, text), "write it as 2027-11-22")
	}
	return day, nil
}

func oldest(infos []seal.KeyInfo) time.Time {
	var at time.Time
	for _, info := range infos {
		if !info.Created.IsZero() && (at.IsZero() || info.Created.Before(at)) {
			at = info.Created
		}
	}
	return at
}

// recipientLine is the public half when it is short enough for a line of the configuration.
func recipientLine(infos []seal.KeyInfo) string {
	if len(infos) == 1 && infos[0].Kind == string(seal.X25519) {
		return infos[0].Recipient
	}
	return ""
}

// publicPath is the file that a public half is put into.
func publicPath(where, out, name string, infos []seal.KeyInfo) string {
	if out != "" {
		return out
	}
	end := ".pub"
	if infos[0].Fingerprint != "" {
		end = ".asc"
	}
	return filepath.Join(filepath.Dir(where), "keys", name+end)
}

// putPublic writes public halves into a new file, and reports its absolute path and whether it made it: one that has the
// very same text is taken as it is.
func putPublic(path string, infos []seal.KeyInfo) (absolute string, made bool, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return "", false, fmt.Errorf("find the folder of the public half: %w", err)
	}
	var text bytes.Buffer
	for _, info := range infos {
		if (info.Fingerprint != "") != (infos[0].Fingerprint != "") {
			return "", false, holdfast.WithHint(fmt.Errorf("%w: the file has keys of age and of OpenPGP", holdfast.ErrUsage), "import them one by one")
		}
		text.WriteString(strings.TrimSpace(info.Recipient) + "\n")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", false, fmt.Errorf("make the folder of the public half: %w", err)
	}
	err = durable.CreateFile(path, text.Bytes(), 0o644)
	if errors.Is(err, fs.ErrExist) {
		if there, readErr := os.ReadFile(path); readErr == nil && slices.Equal(there, text.Bytes()) {
			return path, false, nil
		}
		return "", false, holdfast.WithHint(fmt.Errorf("%w: %s exists and is another key", holdfast.ErrUsage, path), "choose another file with --out")
	}
	if err != nil {
		return "", false, holdfast.WithHint(fmt.Errorf("write the public half: %w", err), "choose another file with --out")
	}
	return path, true, nil
}
