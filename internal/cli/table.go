package cli

import (
	"context"
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
	"holdfast/internal/source"
)

// oneDatabase narrows what is restored to the database that tables are taken from.
func oneDatabase(f *restoreFlags, chosen []source.Stored) ([]source.Stored, error) {
	if len(f.tables) == 0 {
		return chosen, nil
	}
	for flag, given := range map[string]bool{
		"--overwrite": f.overwrite, "--in-place": f.inPlace, "--path": len(f.paths) > 0, "--item": f.item != "", "--with-roles": f.withRoles, "--keep-raw": f.keepRaw != "",
	} {
		if given {
			return nil, holdfast.WithHint(fmt.Errorf("%w: --table replaces nothing, and does not go with %s", holdfast.ErrUsage, flag), "leave out one of the two")
		}
	}
	var databases []source.Stored
	var names []string
	for _, stored := range chosen {
		if stored.Kind != holdfast.KindFiles {
			databases, names = append(databases, stored), append(names, string(stored.Source))
		}
	}
	if len(databases) != 1 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: --table takes tables out of one database, and %d are chosen", holdfast.ErrUsage, len(databases)), "name it with --source: "+strings.Join(names, ", "))
	}
	return databases, nil
}

// tableDestination is where single tables go: a database that exists, or a new SQLite file.
func (a *app) tableDestination(ctx context.Context, cfg *config.Config, f *restoreFlags, b *archive.Backup, stored source.Stored, password holdfast.Secret) (destination, error) {
	if stored.Kind == holdfast.KindPostgres && len(f.to) == 0 {
		return destination{}, holdfast.WithHint(fmt.Errorf("%w: the database that the tables go into is not given", holdfast.ErrUsage), "give --to postgres://USER@HOST/DATABASE: they come into a schema of their own there")
	}
	to, folder, err := placeFor(stored, []source.Stored{stored}, f.to, b.Entry.ID)
	if err != nil {
		return destination{}, err
	}
	d := destination{stored: stored, to: to, folder: folder, name: to, tables: f.tables, password: password}
	if stored.Kind != holdfast.KindPostgres {
		taken, err := occupied(to)
		if err == nil && taken {
			err = holdfast.WithHint(fmt.Errorf("%w: source %s: %s exists, and tables come into a new file", holdfast.ErrUsage, stored.Source, to), "choose another with --to")
		}
		return d, err
	}
	var exists bool
	if d.name, exists, err = a.databaseOf(ctx, cfg, to, password); err != nil {
		return d, fmt.Errorf("source %s: %w", stored.Source, err)
	}
	if !exists {
		return d, holdfast.WithHint(fmt.Errorf("%w: source %s: database %q does not exist, and tables go into one that does", holdfast.ErrUsage, stored.Source, d.name), "create it first, or restore the whole database under that name")
	}
	return d, nil
}

// sayTables tells what of the tables goes where.
func (a *app) sayTables(d destination) {
	where := "the new file " + d.name
	if d.stored.Kind == holdfast.KindPostgres {
		where = fmt.Sprintf("a new schema restored_TIME of database %q", d.name)
	}
	a.printer.say(fmt.Sprintf("  %s (%s): %s -> %s; nothing that is there changes", d.stored.Source, d.stored.Kind, strings.Join(d.tables, ", "), where))
}
