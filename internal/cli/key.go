package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Make, list and check keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.keyNewCommand(), a.keyListCommand(), a.keyCheckCommand())
	return cmd
}

func (a *app) keyNewCommand() *cobra.Command {
	var out string
	var hybrid bool
	cmd := &cobra.Command{
		Use: "new", Short: "Make a key pair", Args: cobra.NoArgs,
		Long: "Make a key pair in a new file of age's own format. The identity in it opens backups: keep it away from the hosts that\n" +
			"are backed up. The recipient, which is printed, is what they need.",
		RunE: func(*cobra.Command, []string) error {
			recipient, err := a.newKey(out, hybrid)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.Err, "identity written to %s: keep it away from the hosts that are backed up\n", out)
			_, err = fmt.Fprintln(a.Out, recipient)
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "holdfast-identity.txt", "the new `FILE`")
	cmd.Flags().BoolVar(&hybrid, "hybrid", false, "make a post-quantum key (age1pq…); stock age needs 1.3 to open what it seals")
	return cmd
}

// newKey writes a new identity file and returns the recipient.
func (a *app) newKey(path string, hybrid bool) (string, error) {
	kind := seal.X25519
	if hybrid {
		kind = seal.Hybrid
	}
	secret, recipient, err := seal.NewIdentity(kind)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", a.Now().UTC().Format(time.RFC3339), recipient, secret.Reveal())
	if err := durable.CreateFile(path, []byte(text), 0o600); errors.Is(err, fs.ErrExist) {
		return "", holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, path), "choose another file; a key is never overwritten")
	} else if err != nil {
		return "", holdfast.WithHint(fmt.Errorf("write the identity: %w", err), "give a file in a folder that exists")
	}
	return recipient, nil
}

func (a *app) keyListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys of the configuration, who holds them and which jobs use them", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load(config.Flags{}, false)
			if err != nil {
				return err
			}
			if a.flags.json {
				for _, key := range cfg.Keys {
					a.printJSON(map[string]any{"key": key.Name, "ids": keyIDs(key), "holder": key.Holder, "expires": expiry(key, a.Now()), "jobs": jobsOf(cfg, key.Name)})
				}
				return nil
			}
			w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tID\tHOLDER\tEXPIRES\tJOBS")
			for _, key := range cfg.Keys {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", key.Name, strings.Join(keyIDs(key), " "), orDash(key.Holder), expiry(key, a.Now()), orDash(strings.Join(jobsOf(cfg, key.Name), ", ")))
			}
			return w.Flush()
		},
	}
}

func keyIDs(key config.Key) []string {
	var ids []string
	for _, recipient := range key.SealRecipients() {
		ids = append(ids, recipient.KeyID())
	}
	return ids
}

func expiry(key config.Key, now time.Time) string {
	switch {
	case key.Expires.IsZero():
		return "never"
	case key.Expires.Before(now):
		return key.Expires.Format(time.DateOnly) + " (expired)"
	}
	return key.Expires.Format(time.DateOnly)
}

func jobsOf(cfg *config.Config, key string) []string {
	var jobs []string
	for _, job := range cfg.Jobs {
		for _, used := range job.Recipients {
			if used.Name == key {
				jobs = append(jobs, string(job.Name))
			}
		}
	}
	return jobs
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (a *app) keyCheckCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "check", Short: "Prove that an identity opens the newest backup of each job", Args: cobra.NoArgs,
		Long: "Open the facts of the newest backup of each job with the identity given. Nothing secret is printed, nothing is restored.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			if cfg.Identity == "" && f.passphrase == "" {
				return holdfast.WithHint(fmt.Errorf("%w: no identity was given to check", holdfast.ErrUsage), "give --identity FILE or --passphrase-file FILE")
			}
			repo, err := a.reader(cmd.Context(), cfg, &f)
			if err != nil {
				return err
			}
			return a.keyCheck(cmd.Context(), repo, &f)
		},
	}
	f.add(cmd)
	f.addIdentity(cmd)
	return cmd
}

func (a *app) keyCheck(ctx context.Context, repo *archive.Archive, f *storeFlags) error {
	job, err := f.job()
	if err != nil {
		return err
	}
	entries, err := repo.List(ctx, job)
	if err != nil {
		return err
	}
	newest := map[holdfast.JobName]archive.Entry{}
	var jobs []holdfast.JobName
	for _, entry := range regular(entries) {
		if _, seen := newest[entry.Job]; !seen {
			jobs = append(jobs, entry.Job)
		}
		newest[entry.Job] = entry
	}
	if len(jobs) == 0 {
		return holdfast.WithHint(errors.New("the store holds no backup to check the identity against"), "make one with `holdfast backup`")
	}
	var problems []error
	for _, name := range jobs {
		entry := newest[name]
		b, err := repo.Open(ctx, entry)
		if err == nil {
			_, err = b.Stored(ctx)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("job %s: %w", name, err))
			continue
		}
		if a.flags.json {
			a.printEvent("key", map[string]any{"job": name, "id": entry.ID, "opens": true})
		}
		a.result("job %s: opens backup %s of %s", name, entry.ID, entry.Time.Format(time.RFC3339))
	}
	return errors.Join(problems...)
}
