package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/seal"
)

// keyView is what is known of one key of the configuration.
type keyView struct {
	key     config.Key
	infos   []seal.KeyInfo
	jobs    []string
	created time.Time // zero: not known
	expires time.Time // zero: never
	checks  []keyCheck
	unknown bool // a store that may hold checks could not be read
}

// keyCheck is one recorded check whose signature holds.
type keyCheck struct {
	archive.Check
	trusted bool
}

// last is the newest check; the zero value when there is none.
func (v keyView) last() keyCheck {
	if len(v.checks) == 0 {
		return keyCheck{}
	}
	return v.checks[len(v.checks)-1]
}

func (v keyView) ids() []string {
	var ids []string
	for _, info := range v.infos {
		ids = append(ids, info.ID)
	}
	return ids
}

func (v keyView) kinds() string {
	var kinds []string
	for _, info := range v.infos {
		if !slices.Contains(kinds, info.Kind) {
			kinds = append(kinds, info.Kind)
		}
	}
	return strings.Join(kinds, ", ")
}

// due says what is to be done about a key, and why.
func (v keyView) due(now time.Time) []string {
	due := []string{}
	for _, info := range v.infos {
		if info.Unfit != "" {
			due = append(due, "replace: "+info.Unfit)
		}
	}
	switch {
	case !v.expires.IsZero() && !now.Before(v.expires.AddDate(0, 0, 1)):
		due = append(due, "replace: it expired")
	case !v.created.IsZero() && now.Sub(v.created) >= health.KeyAge:
		due = append(due, "replace: it is "+since(v.created, now)+" old")
	}
	last := v.last().Time
	switch {
	case v.unknown || len(v.jobs) == 0:
	case last.IsZero():
		due = append(due, "check: it never was")
	case now.Sub(last) >= health.KeyCheck:
		due = append(due, "check: the last was "+since(last, now)+" ago")
	}
	return due
}

// since tells an age that is counted in whole months.
func since(from, now time.Time) string {
	if days := int(now.Sub(from).Hours() / 24); days < 60 {
		return fmt.Sprintf("%d days", days)
	}
	months := (now.Year()-from.Year())*12 + int(now.Month()-from.Month())
	if from.AddDate(0, months, 0).After(now) {
		months--
	}
	return fmt.Sprintf("%d months", months)
}

func (v keyView) checkedText() string {
	switch {
	case v.unknown && len(v.checks) == 0:
		return "unknown"
	case len(v.checks) == 0:
		return "never"
	}
	return v.last().Time.Format(time.DateOnly)
}

func (v keyView) expiryText(now time.Time) string {
	switch {
	case v.expires.IsZero():
		return "never"
	case !now.Before(v.expires.AddDate(0, 0, 1)):
		return v.expires.Format(time.DateOnly) + " (expired)"
	}
	return v.expires.Format(time.DateOnly)
}

func (v keyView) ageText(now time.Time) string {
	if v.created.IsZero() {
		return "-"
	}
	return v.created.Format(time.DateOnly) + " (" + since(v.created, now) + ")"
}

// keyViews gathers what is known of every key: from the configuration, from the keys themselves, and from the records in
// the stores. Records that are not what they say they are come as an error beside the rest; what a store that is down knows is warned of.
func (a *app) keyViews(ctx context.Context, cfg *config.Config, f *storeFlags) ([]keyView, error) {
	keys, err := trusted(cfg, f)
	if err != nil {
		return nil, err
	}
	open := func(where config.Store) (*archive.Archive, error) {
		return a.repository(ctx, where, access{trusted: keys})
	}
	return a.keysSeen(ctx, cfg, open, func(store string, err error) {
		a.printer.warn(fmt.Sprintf("what was checked is not known: store %s: %v", store, err))
	})
}

// keysSeen is keyViews in stores that are had by open; down is told of each that cannot be looked at.
func (a *app) keysSeen(ctx context.Context, cfg *config.Config, open func(config.Store) (*archive.Archive, error), down func(store string, err error)) ([]keyView, error) {
	now := a.Now()
	var views []keyView
	for _, key := range cfg.Keys {
		view := keyView{key: key, infos: keyInfos(key, now), jobs: jobsOf(cfg, key.Name), created: key.Created, expires: key.Expires}
		for _, info := range view.infos {
			if view.created.IsZero() && !info.Created.IsZero() {
				view.created = info.Created
			}
			if !info.Expires.IsZero() && (view.expires.IsZero() || info.Expires.Before(view.expires)) {
				view.expires = info.Expires
			}
		}
		views = append(views, view)
	}
	var problems []error
	for _, where := range keyStores(cfg) {
		repo, err := open(where)
		var checks []archive.CheckEntry
		if err == nil {
			checks, err = repo.Checks(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			down(where.Name, err)
			for i := range views {
				views[i].unknown = true
			}
			continue
		}
		problems = append(problems, addChecks(ctx, repo, checks, views)...)
	}
	for i := range views {
		slices.SortStableFunc(views[i].checks, func(x, y keyCheck) int { return x.Time.Compare(y.Time) })
	}
	return views, errors.Join(problems...)
}

// addChecks gives each view the newest check of each of its jobs: more would be read for nothing.
func addChecks(ctx context.Context, repo *archive.Archive, checks []archive.CheckEntry, views []keyView) []error {
	var problems []error
	for i := range views {
		done := map[holdfast.JobName]bool{}
		for _, entry := range slices.Backward(checks) {
			if done[entry.Job] || !slices.ContainsFunc(views[i].infos, func(info seal.KeyInfo) bool { return entry.Of(info.ID) }) {
				continue
			}
			check, trusted, err := repo.ReadCheck(ctx, entry)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			done[entry.Job] = true
			views[i].checks = append(views[i].checks, keyCheck{check, trusted})
		}
	}
	return problems
}

// keyStores are the stores that may hold records of the configured keys: the one that was named, else all.
func keyStores(cfg *config.Config) []config.Store {
	if cfg.Store.Name != "" {
		return []config.Store{cfg.Store}
	}
	return cfg.Stores
}

func (a *app) keyListCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the keys of the configuration: who holds them, how old they are, when they were checked", Args: cobra.NoArgs,
		Long: "List the keys of the configuration: who holds them, which jobs use them, how old they are, and when `holdfast key check`\n" +
			"last proved that they open a backup. A key is due to be replaced when it is 12 months old or has expired, and to be\n" +
			"checked when the last check is 100 days ago.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			views, err := a.keyViews(cmd.Context(), cfg, &f)
			if len(views) == 0 && err == nil {
				a.printer.say("no key is configured")
			}
			return errors.Join(a.showKeys(views), err)
		},
	}
	cmd.Flags().StringVar(&f.Store, "store", "", "read the records of checks in this store: a `FOLDER`, or a name from the configuration (default: all)")
	f.addSigners(cmd)
	return cmd
}

func (a *app) showKeys(views []keyView) error {
	now := a.Now()
	if a.flags.json {
		for _, v := range views {
			a.printJSON(v.json(now))
		}
		return nil
	}
	if len(views) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tID\tKIND\tHOLDER\tMADE\tEXPIRES\tJOBS\tCHECKED\tDUE")
	for _, v := range views {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.key.Name, strings.Join(v.ids(), " "), v.kinds(), orDash(v.key.Holder), v.ageText(now),
			v.expiryText(now), orDash(strings.Join(v.jobs, ", ")), v.checkedText(), orDash(strings.Join(v.due(now), "; ")))
		for _, old := range v.key.Retired {
			since := ""
			if !old.Since.IsZero() {
				since = old.Since.Format(time.DateOnly) + " "
			}
			fmt.Fprintf(w, "  retired\t%s\t\t%s\t%suntil %s\t\t\t\t\n", strings.Join(old.IDs, " "), orDash(old.Holder), since, old.Until.Format(time.DateOnly))
		}
	}
	return w.Flush()
}

func (v keyView) json(now time.Time) map[string]any {
	fields := map[string]any{
		"key": v.key.Name, "ids": v.ids(), "kind": v.kinds(), "holder": v.key.Holder, "expires": v.expiryText(now), "jobs": append([]string{}, v.jobs...), "due": v.due(now),
	}
	if !v.created.IsZero() {
		fields["created"], fields["age_days"] = v.created.Format(time.DateOnly), int(now.Sub(v.created).Hours()/24)
	}
	if len(v.checks) > 0 {
		last := v.last()
		fields["last_check"] = map[string]any{
			"time": last.Time, "job": last.Job, "backup": last.Backup, "key_id": last.Key, "who": last.Who, "host": last.Host,
			"signer": last.Signer, "signer_trusted": last.trusted,
		}
	}
	var retired []map[string]any
	for _, old := range v.key.Retired {
		one := map[string]any{"ids": old.IDs, "holder": old.Holder, "until": old.Until.Format(time.DateOnly)}
		if !old.Since.IsZero() {
			one["since"] = old.Since.Format(time.DateOnly)
		}
		retired = append(retired, one)
	}
	if retired != nil {
		fields["retired"] = retired
	}
	return fields
}

func (a *app) keyShowCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show one key of the configuration, what it opens, and its past", Args: cobra.ExactArgs(1),
		Long: "Show one key of the configuration: what it is, who holds it, the checks on record, and how many backups are sealed to it\n" +
			"and to the keys that it replaced. For the counts the manifest of every backup is read.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			if _, err := configKey(cfg, args[0]); err != nil {
				return err
			}
			views, problems := a.keyViews(cmd.Context(), cfg, &f)
			at := slices.IndexFunc(views, func(v keyView) bool { return v.key.Name == args[0] })
			if at < 0 {
				return problems
			}
			sealed, err := a.countSealed(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			a.showKey(views[at], sealed)
			return problems
		},
	}
	cmd.Flags().StringVar(&f.Store, "store", "", "look into this store: a `FOLDER`, or a name from the configuration (default: all)")
	f.addSigners(cmd)
	return cmd
}

// sealedTo is how many backups are sealed to each key ID, as far as the stores can be read.
type sealedTo struct {
	of     map[string]int
	newest map[string]time.Time
	unread int // backups whose manifest is not what it should be
	stores []string
}

// countSealed reads the manifest of every backup in the stores. A copy that stands for another counts like any backup.
func (a *app) countSealed(ctx context.Context, cfg *config.Config) (sealedTo, error) {
	sum := sealedTo{of: map[string]int{}, newest: map[string]time.Time{}}
	for _, where := range keyStores(cfg) {
		repo, err := a.repository(ctx, where, access{})
		var entries []archive.Entry
		if err == nil {
			entries, err = repo.List(ctx, "")
		}
		if err != nil {
			if ctx.Err() != nil {
				return sealedTo{}, ctx.Err()
			}
			a.printer.warn(fmt.Sprintf("the backups in store %s are not counted: %v", where.Name, err))
			continue
		}
		sum.stores = append(sum.stores, where.Name)
		for _, entry := range entries {
			if !entry.Sealed {
				continue
			}
			b, err := repo.Open(ctx, entry)
			if ctx.Err() != nil {
				return sealedTo{}, ctx.Err()
			}
			if err != nil {
				sum.unread++
				continue
			}
			for _, id := range b.Manifest.Keys {
				sum.of[id]++
				if entry.Time.After(sum.newest[id]) {
					sum.newest[id] = entry.Time
				}
			}
		}
	}
	return sum, nil
}

// text tells how many backups are sealed to any of ids.
func (s sealedTo) text(ids []string) string {
	if len(s.stores) == 0 {
		return "it is not known how many backups are sealed to it"
	}
	most, newest := 0, time.Time{}
	for _, id := range ids {
		most = max(most, s.of[id])
		if s.newest[id].After(newest) {
			newest = s.newest[id]
		}
	}
	text := "no backup is sealed to it"
	if most > 0 {
		text = fmt.Sprintf("%s sealed to it, the newest of %s", backups(most), newest.Format(time.DateOnly))
	}
	if s.unread > 0 {
		text += fmt.Sprintf("; the manifests of %d more could not be read", s.unread)
	}
	return text
}

func backups(n int) string {
	if n == 1 {
		return "1 backup"
	}
	return fmt.Sprintf("%d backups", n)
}

func (a *app) showKey(v keyView, sealed sealedTo) {
	now := a.Now()
	if a.flags.json {
		fields := v.json(now)
		fields["backups"] = sealed.of
		fields["unread"] = sealed.unread
		a.printJSON(fields)
		return
	}
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(a.Out, "%-14s%s\n", name, text)
		}
	}
	line("key", v.key.Name)
	for _, info := range v.infos {
		line("id", info.ID+" ("+info.Kind+")")
		a.showKeyInfo(line, info)
	}
	line("file", v.key.File)
	line("holder", orDash(v.key.Holder))
	line("made", v.ageText(now))
	line("expires", v.expiryText(now))
	line("jobs", orDash(strings.Join(v.jobs, ", ")))
	line("opens", sealed.text(v.ids()))
	for _, check := range v.checks {
		text := fmt.Sprintf("%s  job %s, backup %s, by %s on %s", check.Time.Format(time.RFC3339), check.Job, check.Backup, check.Who, check.Host)
		if !check.trusted {
			text += "; signer not checked: " + check.Signer
		}
		line("checked", text)
	}
	if len(v.checks) == 0 {
		line("checked", v.checkedText())
	}
	for _, old := range v.key.Retired {
		text := strings.Join(old.IDs, " ") + ", held by " + orDash(old.Holder) + ", until " + old.Until.Format(time.DateOnly)
		line("before", text+": "+sealed.text(old.IDs))
	}
	for _, due := range v.due(now) {
		line("DUE", due)
	}
}

// showKeyInfo tells what only OpenPGP keys have.
func (a *app) showKeyInfo(line func(name, text string), info seal.KeyInfo) {
	line("fingerprint", info.Fingerprint)
	for _, user := range info.UserIDs {
		line("user", quoted(user))
	}
	if info.Fingerprint != "" {
		line("may", strings.Join(info.Uses, ", "))
	}
	if info.Unfit != "" {
		line("UNFIT", info.Unfit)
	}
}
