package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/seal"
)

func (a *app) decryptCommand() *cobra.Command {
	var f storeFlags
	var out string
	cmd := &cobra.Command{
		Use: "decrypt FILE", Short: "Open one sealed file, without a store", Args: cobra.ExactArgs(1),
		Long: "Open one stored object (age, OpenPGP or openssl enc) and undo its compression, which are recognised by content. The\n" +
			"result is written beside the file without its suffixes, or to --output. An item in parts is first joined with cat.\n\n" +
			"The file alone does not tell whether it is the one that was stored: `holdfast verify` does.",
		Example: "  holdfast decrypt app.sql.zst.age --identity key.txt --output - | psql -X app",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			identities, err := a.identities(cmd.Context(), cfg, &f)
			if err != nil {
				return err
			}
			return a.decrypt(args[0], out, identities)
		},
	}
	f.addIdentity(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to `FILE`; - is standard output")
	return cmd
}

func (a *app) decrypt(path, out string, identities []seal.Identity) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", holdfast.ErrUsage, err)
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 1<<20)
	// What goes wrong with the first bytes is told by reading them again.
	head, _ := in.Peek(seal.DetectLength)
	_, sealed := seal.Detect(head)
	var r io.Reader = in
	if sealed {
		opened, err := seal.OpenForeign(func() (io.ReadCloser, error) { return os.Open(path) }, seal.ForeignOptions{Identities: identities})
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		defer opened.Close()
		if !opened.Authenticated {
			a.printer.warn("unauthenticated: a file of openssl enc does not tell whether it was changed")
		}
		r = opened
	}
	inner := bufio.NewReaderSize(r, 1<<20)
	compression := seal.None
	switch {
	case startsWith(inner, "\x28\xb5\x2f\xfd"):
		compression = seal.Zstd
	case startsWith(inner, "\x1f\x8b"):
		compression = seal.Gzip
	}
	if !sealed && compression == seal.None {
		return holdfast.WithHint(fmt.Errorf("%w: %s is neither sealed nor compressed", holdfast.ErrUsage, path), "it can be read as it is")
	}
	plain, err := seal.NewReader(inner, seal.ReadOptions{Compression: compression, Plain: true})
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer plain.Close()
	if out == "" {
		out = bareName(path)
	}
	if out == "-" {
		_, err = io.Copy(a.Out, plain)
	} else {
		err = writeNew(out, plain)
	}
	if errors.Is(err, holdfast.ErrDifference) {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if err != nil || out == "-" {
		return err
	}
	_, err = fmt.Fprintln(a.Out, out)
	return err
}

func startsWith(r *bufio.Reader, magic string) bool {
	head, err := r.Peek(len(magic))
	return (err == nil || errors.Is(err, io.EOF)) && bytes.Equal(head, []byte(magic))
}

// bareName is the name of a file without the suffixes of sealing and compression.
func bareName(path string) string {
	name := path
	for _, suffix := range []string{".age", ".gpg", ".enc", ".zst", ".gz"} {
		name = strings.TrimSuffix(name, suffix)
	}
	if name == path {
		return path + ".plain"
	}
	return filepath.Clean(name)
}
