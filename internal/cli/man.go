package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"holdfast/internal/durable"
)

func (a *app) manCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "man", Short: "Print the manual page, or write all pages to a folder", Args: cobra.NoArgs,
		Example: "  holdfast man | man -l -\n  holdfast man --dir /usr/local/share/man/man1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if dir == "" {
				page, err := manPage(root)
				if err != nil {
					return err
				}
				_, err = a.Out.Write(page)
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make the folder of manual pages: %w", err)
			}
			return writeManPages(root, dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write holdfast.1, holdfast-backup.1, … into `FOLDER`")
	return cmd
}

// manPage renders one command. The date is left out: the same program makes the same pages.
func manPage(cmd *cobra.Command) ([]byte, error) {
	epoch := time.Unix(0, 0).UTC()
	var out bytes.Buffer
	header := &doc.GenManHeader{Title: "HOLDFAST", Section: "1", Source: "Holdfast", Manual: "Holdfast", Date: &epoch}
	if err := doc.GenMan(cmd, header, &out); err != nil {
		return nil, fmt.Errorf("write manual page: %w", err)
	}
	return out.Bytes(), nil
}

func writeManPages(cmd *cobra.Command, dir string) error {
	page, err := manPage(cmd)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, dashed(cmd.CommandPath())+".1")
	if err := durable.WriteFile(name, page, 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			if err := writeManPages(sub, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func dashed(path string) string {
	return strings.ReplaceAll(path, " ", "-")
}
