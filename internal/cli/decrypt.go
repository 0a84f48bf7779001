package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/foreign"
)

func (a *app) decryptCommand() *cobra.Command {
	var f storeFlags
	var file fileFlags
	var out string
	var why whyFlags
	cmd := &cobra.Command{
		Use: "decrypt FILE", Short: "Open one sealed file, without a store", Args: cobra.ExactArgs(1),
		Long: "Open one stored object, or a file of another tool, with an identity and undo its compression, which are recognised by\n" +
			"content. The result is written beside the file without its suffixes, or to --output. An item in parts is first joined\n" +
			"with cat. A file is read twice, and nothing is written before it was found whole.\n\n" +
			"The file alone does not tell whether it is the one that was stored: `holdfast verify` does.",
		Example: "  holdfast decrypt app.sql.zst.age --identity key.txt --output - | psql -X app\n" +
			"  holdfast decrypt app-20261122-020000.sql.gz.gpg --passphrase-file old.pass --to app.sql",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.why(why); err != nil {
				return err
			}
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			return a.decrypt(cmd.Context(), cfg, &f, &file, args[0], out)
		},
	}
	f.addIdentity(cmd)
	file.add(cmd, false)
	why.add(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to `FILE`; - is standard output")
	cmd.Flags().StringVar(&out, "to", "", "the same as --output `FILE`")
	return cmd
}

func (a *app) decrypt(ctx context.Context, cfg *config.Config, f *storeFlags, ff *fileFlags, path, out string) (err error) {
	a.about.Detail = filepath.Base(path)
	file, err := a.openFile(ctx, cfg, f, ff, path)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, file.Close()) }()
	if file.Folder() {
		return holdfast.WithHint(fmt.Errorf("%w: %s is a folder", holdfast.ErrUsage, path), "it can be read as it is: pg_restore takes it")
	}
	if len(file.Layers) == 0 {
		return holdfast.WithHint(fmt.Errorf("%w: %s is neither sealed nor compressed", holdfast.ErrUsage, path), "it can be read as it is")
	}
	whole, err := file.Reader(ctx)
	if err == nil {
		_, err = io.Copy(io.Discard, whole)
		err = joinClose(err, whole.Close())
	}
	if err != nil {
		return err
	}
	plain, err := file.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = joinClose(err, plain.Close()) }()
	a.warnOfSeal(file.Unauthenticated, file.Weak)
	if out == "" {
		out = foreign.BareName(path)
	}
	if out == "-" {
		_, err = io.Copy(a.Out, plain)
		return err
	}
	if err := writeNew(out, plain); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out, out)
	return err
}
