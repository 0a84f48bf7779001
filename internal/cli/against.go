package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/engine"
	"holdfast/internal/report"
	"holdfast/internal/source"
)

// againstFlags say which live sources a backup is compared with.
type againstFlags struct {
	texts        []string
	passwordFile string
}

func (f *againstFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.texts, "against", nil, "also show how the live source changed since: `LIVE` is a connection string, a SQLite file, SOURCE=LIVE, or SOURCE alone for the one that is configured or for files where they were; may be given several times")
	flags.StringVar(&f.passwordFile, "password-file", "", "`FILE` with the password of the live server (mode 0600; default: PGPASSWORD, the password file)")
}

// against is one live source, as it was asked for.
type against struct {
	text string // "": as configured, or where the files were
}

// living resolves what was asked for against the sources of a backup.
func (a *app) living(ctx context.Context, cfg *config.Config, f *againstFlags, m archive.Manifest) (engine.Living, error) {
	if len(f.texts) == 0 {
		return nil, nil
	}
	var password holdfast.Secret
	if f.passwordFile != "" {
		var err error
		if password, err = config.SecretFile(f.passwordFile).Resolve(ctx); err != nil {
			return nil, err
		}
	}
	chosen, err := f.resolve(m)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, stored source.Stored) (source.Source, string, error) {
		one, asked := chosen[stored.Source]
		if !asked {
			return nil, "", nil
		}
		if f.passwordFile == "" {
			password = hostPassword(cfg, one.text)
		}
		return a.liveSource(ctx, cfg, stored, one.text, password)
	}, nil
}

// resolve finds the source of the backup that each text is about.
func (f *againstFlags) resolve(m archive.Manifest) (map[holdfast.SourceName]against, error) {
	chosen := map[holdfast.SourceName]against{}
	for _, text := range f.texts {
		name, live, err := matchSource(text, m)
		if err != nil {
			return nil, err
		}
		if _, twice := chosen[name]; twice {
			return nil, fmt.Errorf("%w: --against names source %s twice", holdfast.ErrUsage, name)
		}
		chosen[name] = against{live}
	}
	return chosen, nil
}

func matchSource(text string, m archive.Manifest) (name holdfast.SourceName, live string, err error) {
	var known []string
	for _, src := range m.Sources {
		known = append(known, string(src.Name))
		if text == string(src.Name) {
			return src.Name, "", nil
		}
		if live, found := strings.CutPrefix(text, string(src.Name)+"="); found {
			return src.Name, live, nil
		}
	}
	kind := holdfast.KindSQLite
	if isConnection(text) {
		kind = holdfast.KindPostgres
	}
	fits := slices.DeleteFunc(slices.Clone(m.Sources), func(src archive.SourceEntry) bool { return src.Kind != kind })
	if len(fits) != 1 {
		return "", "", holdfast.WithHint(fmt.Errorf("%w: which source --against is about is not clear: the backup holds %d of kind %s", holdfast.ErrUsage, len(fits), kind),
			"write --against SOURCE=LIVE; it holds: "+strings.Join(known, ", "))
	}
	return fits[0].Name, text, nil
}

// configured is the source of that name in the configuration.
func configured(cfg *config.Config, stored source.Stored) (config.Source, error) {
	for _, src := range cfg.Sources {
		if src.Name == stored.Source && src.Kind == stored.Kind {
			return src, nil
		}
	}
	return config.Source{}, holdfast.WithHint(fmt.Errorf("%w: source %s is not configured here", holdfast.ErrUsage, stored.Source), "write --against "+string(stored.Source)+"=LIVE")
}

// mostDrift bounds the lines of drift on a terminal; the report has all of them.
const mostDrift = 20

// showDrift tells of the live sources behind a drill or a verification.
func (a *app) showDrift(name holdfast.SourceName, live *report.Live) {
	if live == nil {
		return
	}
	a.result("drift of %s, which fails nothing: %s", name, quoted(live.String()))
	if live.Error != "" {
		return
	}
	for _, line := range live.Lines(mostDrift) {
		a.result("  %s", quoted(line))
	}
}

// driftJSON is what a machine reads of it.
func driftJSON(name holdfast.SourceName, live *report.Live) map[string]any {
	if live == nil {
		return nil
	}
	fields := map[string]any{"source": name, "where": live.Where}
	if live.Error != "" {
		fields["error"] = live.Error
		return fields
	}
	var rows []report.LiveRow
	for _, row := range live.Rows {
		if row.State != report.LiveSame {
			rows = append(rows, row)
		}
	}
	fields["taken"], fields["compared"], fields["same"] = live.Taken, live.Compared, live.Same
	fields["rows"], fields["changes"] = rows, live.Changes
	return fields
}

// drift compares the sources of a backup with live ones and tells how those changed. One that cannot be read fails the command.
func (a *app) drift(ctx context.Context, b *archive.Backup, living engine.Living) error {
	if living == nil {
		return nil
	}
	all, err := b.Stored(ctx)
	if err != nil {
		return err
	}
	for _, stored := range all {
		live, driftErr := engine.Drift(ctx, stored, living, a.printer.observe)
		if driftErr != nil {
			return driftErr
		}
		if live == nil {
			continue
		}
		if a.flags.json {
			a.printEvent("drift", driftJSON(stored.Source, live))
		}
		a.showDrift(stored.Source, live)
		if live.Error != "" {
			err = errors.Join(err, holdfast.WithHint(fmt.Errorf("source %s: %s", stored.Source, live), live.Hint))
		}
	}
	return err
}
