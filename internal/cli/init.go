package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

type initFlags struct {
	store       string
	mirrors     []string
	sources     []string
	job         string
	recipients  []string
	hybrid      bool
	identityOut string
	holder      string
	host        string
	yes         bool
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use: "init", Short: "Set up: keys, store, configuration and recovery sheet", Args: cobra.NoArgs,
		Long: "Make a key pair, this host's signing key, the store, a commented configuration and a recovery sheet. What flags do not\n" +
			"give is asked for at a terminal. Nothing that exists is overwritten.\n\n" +
			"A source is postgres://USER@HOST/DATABASE, sqlite:FILE, files:FOLDER or secrets:FILE; NAME= before it names it.\n\n" +
			"The identity opens every backup. It is written into a folder of its own, with the host's public signing key and the\n" +
			"recovery sheet; that folder must leave this host.",
		Example: "  holdfast init --store /srv/backups --job app --source db=postgres://backup@/app?host=/var/run/postgresql \\\n" +
			"    --source files:/etc/nginx --source secrets:/srv/app/.env",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.init(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.store, "store", "", "`STORE` that keeps the backups, which is made: a folder, s3://BUCKET/FOLDER?endpoint=https://… or sftp://USER@HOST:PORT/PATH")
	flags.StringArrayVar(&f.mirrors, "mirror", nil, "a further `STORE` that gets a copy of every backup, which is made; may be given several times")
	flags.StringArrayVar(&f.sources, "source", nil, "what to back up: `[NAME=]SOURCE`; may be given several times")
	flags.StringVar(&f.job, "job", "app", "the `NAME` of the job")
	flags.StringArrayVarP(&f.recipients, "recipient", "r", nil, "seal to this `RECIPIENT` instead of making a key: age1…, or a file with an OpenPGP public key; may be given several times")
	flags.BoolVar(&f.hybrid, "hybrid", false, "make a post-quantum key; stock age needs 1.3 to open what it seals")
	flags.StringVar(&f.identityOut, "identity-out", "", "`FILE` for the new identity (default: holdfast-recovery-HOST/identity.txt)")
	flags.StringVar(&f.holder, "holder", "", "who keeps the identity and how to reach them, for the recovery sheet")
	flags.StringVar(&f.host, "host", "", "this host's name in manifests (default: the hostname)")
	flags.BoolVarP(&f.yes, "yes", "y", false, "ask nothing")
	return cmd
}

func (a *app) init(ctx context.Context, f *initFlags) error {
	// The file that is about to be written is not read: only the environment and the defaults count.
	cfg, err := config.Resolve(config.Inputs{NoFile: true, Environ: a.Environ, Now: a.Now(), Flags: config.Flags{Engine: a.flags.engine, State: a.flags.state, LogFile: a.flags.logFile, Host: f.host}})
	if err != nil {
		return err
	}
	if err := a.start(cfg); err != nil {
		return err
	}
	path, err := a.newConfigPath()
	if err != nil {
		return err
	}
	if err := a.askInit(ctx, f); err != nil {
		return err
	}
	job, err := initJob(f, a.Environ)
	if err != nil {
		return err
	}
	kit, err := a.initKeys(ctx, f, cfg, &job)
	if err != nil {
		return err
	}
	signer, err := a.signer(cfg)
	if err != nil {
		return err
	}
	if kit.identity == "" {
		a.about.Detail = "init; signing key " + signer.PublicKey().Fingerprint()
	}
	for _, place := range storesOf(job) {
		if err := makeParent(place); err != nil {
			return err
		}
		if _, err := a.openStore(ctx, place, true); err != nil {
			return err
		}
	}
	state, err := a.chosenState(cfg)
	if err != nil {
		return err
	}
	text := config.Template(config.TemplateOptions{Host: f.host, State: state, Job: job})
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the folder of the configuration: %w", err)
	}
	if err := durable.CreateFile(path, text, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if err := a.writeKit(kit, cfg, job, signer.PublicKey(), path); err != nil {
		return err
	}
	a.tellInit(kit, job, signer.PublicKey(), path)
	return nil
}

// chosenState is the state folder to write down: the next run must find the same signing key, wherever it is started
// and whatever its environment. The default is not written.
func (a *app) chosenState(cfg *config.Config) (string, error) {
	if a.flags.state == "" && a.env("HOLDFAST_STATE") == "" {
		return "", nil
	}
	state, err := filepath.Abs(cfg.State)
	if err != nil {
		return "", fmt.Errorf("find the state folder: %w", err)
	}
	return state, nil
}

func (a *app) newConfigPath() (string, error) {
	path := a.flags.config
	if path == "" {
		path = config.DefaultPath(a.Environ)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the configuration: %w", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return "", holdfast.WithHint(fmt.Errorf("%w: %s exists", holdfast.ErrUsage, path), "edit it, or give another with --config; init overwrites nothing")
	}
	return path, nil
}

// askInit asks for what flags did not give.
func (a *app) askInit(ctx context.Context, f *initFlags) error {
	missing := f.store == "" || len(f.sources) == 0
	if missing && (f.yes || !a.interactive()) {
		return holdfast.WithHint(fmt.Errorf("%w: init needs to know what to back up and where to", holdfast.ErrUsage), "give --store FOLDER and --source SOURCE, or run it at a terminal")
	}
	if f.store == "" {
		answer, err := a.ask(ctx, "folder that keeps the backups [/srv/backups]: ")
		if err != nil {
			return err
		}
		if f.store = answer; answer == "" {
			f.store = "/srv/backups"
		}
	}
	for len(f.sources) == 0 || missing {
		answer, err := a.ask(ctx, "a source (postgres://USER@HOST/DATABASE, sqlite:FILE, files:FOLDER, secrets:FILE; empty when done): ")
		if err != nil {
			return err
		}
		if answer == "" && len(f.sources) > 0 {
			return nil
		}
		if answer != "" {
			f.sources = append(f.sources, answer)
		}
	}
	return nil
}

// initJob makes the job that the configuration will describe.
func initJob(f *initFlags, environ []string) (config.Job, error) {
	name, err := holdfast.ParseJobName(f.job)
	if err != nil {
		return config.Job{}, err
	}
	where, err := config.StoreFromText(f.store, environ)
	if err != nil {
		return config.Job{}, err
	}
	if where.Kind == config.StoreRsync {
		return config.Job{}, holdfast.WithHint(fmt.Errorf("%w: a store that is reached by rsync can only be a mirror", holdfast.ErrUsage), "give another --store, and this one as --mirror")
	}
	where.Name = "main"
	job := config.Job{Name: name, Store: where}
	for i, text := range f.mirrors {
		mirror, err := config.StoreFromText(text, environ)
		if err != nil {
			return config.Job{}, err
		}
		mirror.Name = fmt.Sprintf("mirror%d", i+1)
		job.Mirrors = append(job.Mirrors, mirror)
	}
	for _, text := range f.sources {
		src, err := config.SourceFromText(text, environ)
		if err != nil {
			return config.Job{}, err
		}
		for _, other := range job.Sources {
			if other.Name == src.Name {
				return config.Job{}, holdfast.WithHint(fmt.Errorf("%w: two sources are called %s", holdfast.ErrUsage, src.Name), "name one with NAME= before it")
			}
		}
		job.Sources = append(job.Sources, src)
	}
	return job, nil
}

// kit is the folder that must leave the host.
type kit struct {
	dir      string
	identity string // "" when recipients were given
}

// initKeys makes the key pair, or takes the recipients that were given.
func (a *app) initKeys(ctx context.Context, f *initFlags, cfg *config.Config, job *config.Job) (kit, error) {
	if err := a.givenRecipients(f, job); err != nil {
		return kit{}, err
	}
	k := kit{identity: f.identityOut}
	if k.identity == "" {
		k.identity = filepath.Join("holdfast-recovery-"+cfg.Host, "identity.txt")
	}
	identity, err := filepath.Abs(k.identity)
	if err != nil {
		return kit{}, fmt.Errorf("find the identity's folder: %w", err)
	}
	k.identity, k.dir = identity, filepath.Dir(identity)
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return kit{}, fmt.Errorf("make the identity's folder: %w", err)
	}
	if len(f.recipients) > 0 {
		k.identity = ""
		return k, nil
	}
	n := newKey{kind: string(seal.X25519)}
	if f.hybrid {
		n.kind = string(seal.Hybrid)
	}
	pair, err := a.makePair(ctx, n, cfg.Host)
	if err != nil {
		return kit{}, err
	}
	if err := writePrivate(k.identity, pair.file); err != nil {
		return kit{}, err
	}
	a.about.Detail = "init; key " + pair.info.ID
	job.Recipients = []config.Key{{Name: "ops", Recipients: []string{pair.recipient}, Holder: f.holder, Created: a.Now().UTC()}}
	return k, nil
}

// givenRecipients makes keys of the recipients that flags give, and sees to it that they can be sealed to.
func (a *app) givenRecipients(f *initFlags, job *config.Job) error {
	if len(f.recipients) == 0 {
		return nil
	}
	var recipients []seal.Recipient
	for i, text := range f.recipients {
		key, err := config.RecipientKey(text)
		if err != nil {
			return err
		}
		key.Name, key.Holder = fmt.Sprintf("key%d", i+1), f.holder
		job.Recipients = append(job.Recipients, key)
		recipients = append(recipients, key.SealRecipients()...)
	}
	return errors.Join(seal.CheckRecipients(recipients), seal.CheckNow(recipients, a.Now()))
}

// writeKit puts the host's public signing key and the recovery sheet beside the identity. A file of allowed signers that
// is there already gets another line: one operator may hold the keys of many hosts.
func (a *app) writeKit(k kit, cfg *config.Config, job config.Job, key seal.PublicKey, path string) error {
	signers := filepath.Join(k.dir, "allowed_signers")
	text, err := os.ReadFile(signers)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the allowed signers: %w", err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	line := strings.TrimSpace(seal.AllowedSignersLine(cfg.Host, key))
	if !slices.Contains(strings.Split(string(text), "\n"), line) {
		if err := durable.WriteFile(signers, append(text, line+"\n"...), 0o644); err != nil {
			return fmt.Errorf("write the allowed signers: %w", err)
		}
	}
	sheet := filepath.Join(k.dir, "RECOVERY-"+string(job.Name)+".txt")
	if err := durable.WriteFile(sheet, []byte(a.recoverySheet(k, cfg, job, key, path)), 0o600); err != nil {
		return fmt.Errorf("write the recovery sheet: %w", err)
	}
	return nil
}

func (a *app) recoverySheet(k kit, cfg *config.Config, job config.Job, key seal.PublicKey, path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "RECOVERY SHEET of job %s on host %s, made %s\n\n", job.Name, cfg.Host, a.Now().UTC().Format("2006-01-02"))
	fmt.Fprintf(&b, "Backups are in      %s\n", job.Store.Address())
	for _, mirror := range job.Mirrors {
		fmt.Fprintf(&b, "and copied to       %s\n", mirror.Address())
	}
	fmt.Fprintf(&b, "Configuration       %s (on the host; not needed to restore)\n", path)
	openPGP := false
	for _, recipient := range job.Recipients {
		fmt.Fprintf(&b, "Sealed to           %s, kept by %s\n", strings.Join(keyIDs(recipient), ", "), orUnknown(recipient.Holder))
		for _, old := range recipient.Retired {
			fmt.Fprintf(&b, "  before %s  %s, kept by %s: needed for backups of that time\n", old.Until.Format("2006-01-02"), strings.Join(old.IDs, ", "), orUnknown(old.Holder))
		}
		for _, info := range keyInfos(recipient, a.Now()) {
			openPGP = openPGP || info.Fingerprint != ""
		}
	}
	identity, program := "identity.txt", "age"
	if openPGP {
		identity, program = "identity.asc", "gpg"
	}
	if k.identity != "" {
		identity = filepath.Base(k.identity)
	}
	form := "age -d -i " + identity + " app.sql.zst.age"
	if openPGP {
		form = "gpg --import " + identity + "; gpg -d app.sql.zst.gpg"
	}
	fmt.Fprintf(&b, "Signed by           %s\n\n", key.Fingerprint())
	b.WriteString("Keep this sheet, " + identity + " and allowed_signers together, away from the host, in two places.\n" +
		"Whoever has " + identity + " can read every backup. Without it nobody can.\n\n" +
		"To restore, on any machine with holdfast and a copy of the store:\n\n" +
		"  holdfast list    --store STORE\n" +
		"  holdfast drill   --store STORE --identity " + identity + "\n" +
		"  holdfast restore --store STORE --identity " + identity + " --latest --to postgres://USER@HOST/NEW_DATABASE --to FOLDER\n\n" +
		"Without holdfast: every backup's folder, STORE/data/" + string(job.Name) + "/TIME.ID/, has a RESTORE.txt with the exact commands of\n" +
		program + ", zstd, tar, psql and sqlite3. The form is:\n\n" +
		"  " + form + " | zstd -d | psql -X -v ON_ERROR_STOP=1 NEW_DATABASE\n\n" +
		"To check who made a backup:\n\n" +
		"  ssh-keygen -Y verify -f allowed_signers -I " + cfg.Host + " -n holdfast-manifest \\\n" +
		"    -s STORE/data/" + string(job.Name) + "/TIME.ID/manifest.json.sig < STORE/commits/" + string(job.Name) + "/TIME.ID.….json\n")
	return b.String()
}

func orUnknown(text string) string {
	if text == "" {
		return "(write here who keeps it: ____________________)"
	}
	return text
}

func (a *app) tellInit(k kit, job config.Job, key seal.PublicKey, path string) {
	fmt.Fprintf(a.Out, "configuration  %s\nstore          %s\nsigning key    %s\n", path, job.Store.Address(), key.Fingerprint())
	for _, mirror := range job.Mirrors {
		fmt.Fprintf(a.Out, "mirror         %s\n", mirror.Address())
	}
	if k.identity != "" {
		fmt.Fprintf(a.Out, "identity       %s\n", k.identity)
	}
	if k.identity != "" {
		fmt.Fprintf(a.Out, "\n%s must leave this host now: copy it to two safe places, such as a password manager and\nan offline medium, then delete it here. "+
			"It holds the identity that opens every backup, the recovery sheet,\nand allowed_signers, which proves who made a backup.\n\n", k.dir)
	} else {
		fmt.Fprintf(a.Out, "\nPut the recovery sheet and allowed_signers from %s beside the identity that belongs to the recipients given.\n\n", k.dir)
	}
	fmt.Fprintf(a.Out, "next: holdfast doctor; holdfast backup %s; holdfast drill --identity FILE\n", job.Name)
}
