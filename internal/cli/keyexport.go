package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/seal"
)

type exportFlags struct {
	identity   string
	private    bool
	out        string
	passphrase string
	unlock     string
}

func (a *app) keyExportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use: "export [NAME]", Short: "Write out a public half, or a private one under a passphrase", Args: cobra.MaximumNArgs(1),
		Long: "Write out the public half of a key of the configuration, or of an identity.\n\n" +
			"With --private: a copy of the identity that only a passphrase opens, for a second provider or a safe. An age identity\n" +
			"becomes a file that `age -d` opens, an OpenPGP key one that `gpg --import` takes. The copy is opened again, from the\n" +
			"disk, before the command says that it is there. A private half never leaves without a passphrase.",
		Example: "  holdfast key export ops > ops.pub\n  holdfast key export --identity identity.txt --private --out identity-sealed.age",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.about.Detail = "the public half"
			if f.private {
				a.about.Detail = "the private half, under a passphrase"
				return a.exportPrivate(cmd.Context(), args, f)
			}
			return a.exportPublic(cmd.Context(), args, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.identity, "identity", "i", "", "`FILE` with the identity")
	flags.BoolVar(&f.private, "private", false, "the private half, under a passphrase")
	flags.StringVarP(&f.out, "out", "o", "", "write to the new `FILE` (default, of public halves only: standard output)")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the passphrase for the copy (mode 0600); asked for when not given")
	flags.StringVar(&f.unlock, "unlock-file", "", "`FILE` with the passphrase that the identity is locked by now (mode 0600); asked for when not given")
	return cmd
}

func (a *app) exportPublic(ctx context.Context, args []string, f exportFlags) error {
	if (len(args) == 1) == (f.identity != "") {
		return holdfast.WithHint(fmt.Errorf("%w: it is not said which key to export", holdfast.ErrUsage), "give the name of a key, or --identity FILE")
	}
	cfg, err := a.load(config.Flags{}, false)
	if err != nil {
		return err
	}
	var infos []seal.KeyInfo
	if f.identity != "" {
		if infos, err = a.inspectFile(ctx, f.identity, f.unlock); err != nil {
			return err
		}
	} else {
		key, err := configKey(cfg, args[0])
		if err != nil {
			return err
		}
		if !key.Passphrase.IsZero() {
			return holdfast.WithHint(fmt.Errorf("%w: key %s is a passphrase, which has no public half", holdfast.ErrUsage, key.Name), "`holdfast key new` makes a key pair")
		}
		infos = keyInfos(key, a.Now())
	}
	if f.out != "" {
		path, _, err := putPublic(f.out, infos)
		if err != nil {
			return err
		}
		a.result("public half written to %s", path)
		return nil
	}
	for _, info := range infos {
		if _, err := fmt.Fprintln(a.Out, strings.TrimSpace(info.Recipient)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) exportPrivate(ctx context.Context, args []string, f exportFlags) error {
	switch {
	case len(args) > 0:
		return holdfast.WithHint(fmt.Errorf("%w: the configuration has no private halves", holdfast.ErrUsage), "give the file that has it with --identity")
	case f.identity == "":
		return holdfast.WithHint(fmt.Errorf("%w: no identity was given to export", holdfast.ErrUsage), "give --identity FILE")
	case f.out == "":
		return holdfast.WithHint(fmt.Errorf("%w: a private half is written to a file only", holdfast.ErrUsage), "give --out FILE")
	}
	if _, err := a.load(config.Flags{}, false); err != nil {
		return err
	}
	if _, err := os.Lstat(f.out); err == nil {
		return holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, f.out), "choose another file; a key is never overwritten")
	}
	data, err := a.readKeys(f.identity)
	if err != nil {
		return err
	}
	text, unlock, err := a.unlocked(ctx, f.identity, data, f.unlock)
	if err != nil {
		return err
	}
	infos, err := seal.Inspect(text, a.Now())
	if err != nil {
		return fmt.Errorf("%s: %w", f.identity, err)
	}
	if !slices.ContainsFunc(infos, func(info seal.KeyInfo) bool { return info.Private }) {
		return holdfast.WithHint(fmt.Errorf("%w: %s holds no private half", holdfast.ErrUsage, f.identity), "give the file with the identity")
	}
	phrase, err := a.newPassphrase(ctx, f.passphrase, "the copy")
	if err != nil {
		return err
	}
	openPGP := infos[0].Fingerprint != ""
	var locked []byte
	if openPGP {
		locked, err = seal.LockPGP(text, unlock, phrase)
	} else {
		locked, err = seal.LockAge(holdfast.NewSecret(string(text)), phrase)
	}
	if err != nil {
		return err
	}
	if err := writePrivate(f.out, holdfast.NewSecret(string(locked))); err != nil {
		return err
	}
	if err := reopen(f.out, phrase, infos, a); err != nil {
		return errors.Join(fmt.Errorf("the copy does not open again, and was removed: %w", err), os.Remove(f.out))
	}
	how := "age -d " + f.out + " > identity.txt"
	if openPGP {
		how = "gpg --import " + f.out
	}
	if a.flags.json {
		var ids []string
		for _, info := range infos {
			ids = append(ids, info.ID)
		}
		a.printEvent("export", map[string]any{"identity": f.out, "key_ids": ids, "opens": how})
	}
	a.result("%s holds the private half under the passphrase, and was opened again; stock tools open it with: %s", f.out, how)
	return nil
}

// reopen reads a locked copy from the disk and opens it with the passphrase: the same keys must come out.
func reopen(path string, phrase holdfast.Secret, want []seal.KeyInfo, a *app) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the copy: %w", err)
	}
	if seal.IsLockedAge(data) {
		text, err := seal.UnlockAge(data, phrase)
		if err != nil {
			return err
		}
		data = []byte(text.Reveal())
	} else if err := seal.UnlocksPGP(data, phrase); err != nil {
		return err
	}
	got, err := seal.Inspect(data, a.Now())
	if err != nil {
		return err
	}
	var privates []string
	for _, info := range got {
		if info.Private {
			privates = append(privates, info.ID)
		}
	}
	for _, info := range want {
		if info.Private && !slices.Contains(privates, info.ID) {
			return fmt.Errorf("%w: key %s is not in it", holdfast.ErrDifference, info.ID)
		}
	}
	return nil
}
