package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/journal"
	"holdfast/internal/report"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

func (a *app) listCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the backups in a store", Args: cobra.NoArgs,
		Long: "List backups from the names of objects alone: nothing is opened, so that nothing is authenticated either;\n" +
			"`holdfast verify` and `holdfast drill` do that. Of imported files the records are read. Newest last.",
		Example: "  holdfast list\n  holdfast list --store /srv/backups --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			job, err := f.job()
			if err != nil {
				return err
			}
			all, err := a.listEverywhere(cmd.Context(), cfg, &f, job)
			if err != nil {
				return err
			}
			old, listErr := a.importedEverywhere(cmd.Context(), cfg, &f, all, job)
			all.entries = append(all.entries, old.entries...)
			archive.Sort(all.entries)
			return errors.Join(a.showList(all, old), listErr, all.downError())
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) showList(all listed, old imports) error {
	if a.flags.json {
		for _, e := range all.entries {
			fields := map[string]any{
				"id": e.ID, "job": e.Job, "time": e.Time, "kind": e.Kind, "state": e.State(), "complete": e.Complete, "sealed": e.Sealed,
				"format": e.Format, "stored": e.Size, "pinned": e.PinnedAt(a.Now()), "superseded_by": e.SupersededBy, "resealed_from": e.From,
			}
			if file, is := old.files[e.ID]; is {
				fields["file"], fields["what"], fields["sha256"] = file.Path(), file.What(), file.SHA256
			} else {
				fields["copies"] = all.copies[e.ID]
			}
			a.printJSON(fields)
		}
		return nil
	}
	if len(all.entries) == 0 {
		a.printer.say("the store holds no backup")
		return nil
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	several := len(all.stores) > 1
	copies := ""
	if several {
		copies = "COPIES\t"
	}
	fmt.Fprintln(w, "ID\tJOB\tTIME (UTC)\tAGE\tSTORED\tSTATE\t"+copies+"REMARKS")
	for _, e := range all.entries {
		if several {
			copies = copiesText(all.copies[e.ID]) + "\t"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s%s\n", e.ID, e.Job, e.Time.Format("2006-01-02 15:04:05"), age(a.Now().Sub(e.Time)), report.Size(e.Size), e.State(), copies, old.remarks(e, a.Now()))
	}
	return w.Flush()
}

// remarks name the file of an entry that was imported, before all else.
func (i imports) remarks(e archive.Entry, now time.Time) string {
	if file, is := i.files[e.ID]; is {
		return strings.TrimSuffix(quoted(file.Name)+" ("+file.What()+"), "+remarks(e, now), ", ")
	}
	return remarks(e, now)
}

func remarks(e archive.Entry, now time.Time) string {
	var all []string
	if proof, proven := e.Proven(); proven {
		all = append(all, "proven "+proof.Time.Format(time.DateOnly))
	}
	if e.Kind == "safety" {
		all = append(all, "kept before an overwrite")
	}
	if !e.Complete && e.State() != "incomplete" {
		all = append(all, "incomplete")
	}
	if !e.Sealed {
		all = append(all, "NOT SEALED")
	}
	if e.Format == seal.OpenSSL {
		all = append(all, "openssl, unauthenticated")
	}
	if e.From != "" {
		all = append(all, "re-sealed from "+string(e.From))
	}
	if e.Superseded() {
		all = append(all, "superseded by "+string(e.SupersededBy))
	}
	if e.PinnedAt(now) {
		pin := "pinned"
		if until := e.Pins[len(e.Pins)-1].Until; !until.IsZero() {
			pin += " until " + until.Format(time.DateOnly)
		}
		all = append(all, pin)
	}
	if e.Kind == "hourly" || e.Kind == "manual" {
		all = append(all, e.Kind)
	}
	if e.Hidden {
		all = append(all, "hidden by a delete marker")
	}
	if e.Versions > 1 {
		all = append(all, fmt.Sprintf("%d versions, the oldest counts", e.Versions))
	}
	if e.Damaged() {
		all = append(all, "DAMAGED at the last verification")
	}
	return strings.Join(all, ", ")
}

// age prints how old something is, roughly.
func age(d time.Duration) string {
	switch {
	case d < -time.Minute:
		return "in the future"
	case d < time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func (a *app) showCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show what a backup holds", Args: cobra.ExactArgs(1),
		Long: "Show a backup's manifest and its proofs, signatures checked. With an identity also the facts: every table with its\n" +
			"rows, every file.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(f.Flags, false)
			if err != nil {
				return err
			}
			repo, err := a.reader(cmd.Context(), cfg, &f)
			if err != nil {
				return err
			}
			if file, entry, is, err := a.chosenImport(cmd.Context(), cfg, &f, repo, args); err != nil || is {
				if err != nil {
					return err
				}
				return a.showImported(cmd.Context(), repo, file, entry)
			}
			b, err := a.pick(cmd.Context(), repo, &f, args)
			if err != nil {
				return err
			}
			withFacts := cfg.Identity != "" || f.passphrase != "" || !b.Entry.Sealed
			if withFacts {
				a.about.Event = journal.Shown
			}
			return a.show(cmd.Context(), repo, b, withFacts)
		},
	}
	f.add(cmd)
	f.addIdentity(cmd)
	return cmd
}

func (a *app) show(ctx context.Context, repo *archive.Archive, b *archive.Backup, withFacts bool) error {
	var proofs []archive.Proof
	var problems []error
	for _, entry := range b.Entry.Proofs {
		proof, _, err := repo.ReadProof(ctx, b, entry)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		proofs = append(proofs, proof)
	}
	var stored []source.Stored
	var missing map[holdfast.SourceName]string
	if withFacts {
		var err error
		if stored, err = b.Stored(ctx); err != nil {
			return err
		}
		if missing, err = b.Missing(ctx); err != nil {
			return err
		}
	}
	if a.flags.json {
		facts := map[holdfast.SourceName]source.Facts{}
		for _, s := range stored {
			facts[s.Source] = s.Facts
		}
		a.printJSON(map[string]any{"manifest": b.Manifest, "manifest_sha256": b.Digest, "signer_trusted": b.Trusted, "proofs": proofs, "facts": facts, "missing": missing})
		return errors.Join(problems...)
	}
	a.showManifest(b, missing)
	if b.Manifest.Resealed != nil {
		origin, err := b.Origin(ctx)
		if err != nil {
			return errors.Join(append(problems, err)...)
		}
		a.showOrigin(origin)
	}
	for _, p := range proofs {
		fmt.Fprintf(a.Out, "proof       %s  %s  by %s on %s; %d facts compared, %d differences\n", p.Time.Format(time.RFC3339), p.Verdict, p.Who, p.Host, p.Facts, p.Differences)
	}
	for _, s := range stored {
		a.showFacts(s)
	}
	return errors.Join(problems...)
}

func (a *app) showManifest(b *archive.Backup, missing map[holdfast.SourceName]string) {
	m := b.Manifest
	sealed := "with " + m.Seal + " to " + strings.Join(m.Keys, ", ")
	switch {
	case !b.Entry.Sealed:
		sealed = "NOT SEALED"
	case b.Entry.Format == seal.OpenSSL:
		sealed += " (unauthenticated by itself: holdfast compares the digests of the signed manifest)"
	}
	fmt.Fprintf(a.Out, "backup      %s (%s, %s)\njob         %s on host %s\nbegun       %s\nfinished    %s\nsealed      %s\nsigned by   %s\nmanifest    sha256 %s\n",
		m.ID, m.Kind, b.Entry.State(), m.Job, m.Host, m.Time.Format(time.RFC3339), m.Finished.Format(time.RFC3339), sealed, b.Signer, b.Digest)
	if r := m.Resealed; r != nil {
		fmt.Fprintf(a.Out, "re-sealed   from %s on %s by %s on %s\n", r.From, r.Time.Format(time.RFC3339), r.Who, r.Host)
	}
	if m.Reason != "" {
		fmt.Fprintf(a.Out, "reason      %s\n", m.Reason)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		fmt.Fprintf(a.Out, "made by     %s %s\n", name, m.Versions[name])
	}
	if m.Exclusions > 0 {
		fmt.Fprintf(a.Out, "exclusions  %d in force\n", m.Exclusions)
	}
	for _, src := range m.Missing {
		fmt.Fprintf(a.Out, "MISSING     %s (%s, %s) %s\n", src.Name, src.Kind, src.Why, missing[src.Name])
	}
	fmt.Fprintln(a.Out)
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "plain\tstored\tratio\ttime\t  object\t")
	for _, item := range m.Items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t  %s\t\n", report.Size(item.PlainSize), report.Size(item.StoredSize), ratio(item.PlainSize, item.StoredSize),
			report.Span(time.Duration(item.Seconds*float64(time.Second))), item.Object)
	}
	w.Flush()
	fmt.Fprintln(a.Out)
}

// showOrigin tells who signed the backup that a re-sealed copy was made from.
func (a *app) showOrigin(origin archive.Origin) {
	checked := ""
	if !origin.Trusted {
		checked = "; signer not checked"
	}
	fmt.Fprintf(a.Out, "original    %s, signed by %s%s\n", origin.Manifest.ID, origin.Signer, checked)
}

func (a *app) showFacts(s source.Stored) {
	fmt.Fprintf(a.Out, "\nsource %s (%s), as of %s\n", s.Source, s.Kind, s.Facts.Taken.Format(time.RFC3339))
	for _, name := range slices.Sorted(maps.Keys(s.Facts.Properties)) {
		fmt.Fprintf(a.Out, "  %-20s %s\n", name, s.Facts.Properties[name])
	}
	for _, exclusion := range s.Facts.Exclusions {
		fmt.Fprintf(a.Out, "  excluded: %s\n", exclusion)
	}
	for _, note := range s.Facts.Notes {
		fmt.Fprintf(a.Out, "  note: %s\n", note)
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	for _, fact := range s.Facts.Facts {
		if fact.Class == "definition" || fact.Class == "schema" {
			continue
		}
		amount := report.Size(fact.Bytes)
		if fact.Class == "table" {
			amount = fmt.Sprintf("%d rows", fact.Rows)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", fact.Class, quoted(fact.Name), amount, quoted(fact.Text))
	}
	w.Flush()
}

// quoted keeps names from the data on one line, and control characters away from the terminal.
func quoted(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Sprintf("%q", text)
	}
	return text
}
