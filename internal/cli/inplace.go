package cli

import (
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/source"
)

// inPlace is the destination of files that go back where they were. Where that is stands in the backup.
func (a *app) inPlace(f *restoreFlags, stored source.Stored) (destination, error) {
	for _, to := range f.to {
		if to, found := strings.CutPrefix(to, string(stored.Source)+"="); found {
			return destination{}, holdfast.WithHint(fmt.Errorf("%w: it goes back where it was, and to %s", holdfast.ErrUsage, to), "leave out --in-place, or that --to")
		}
	}
	d := destination{stored: stored, name: string(stored.Source), only: f.paths}
	var err error
	if d.units, err = unitsOf(stored, f.paths); err != nil {
		return destination{}, err
	}
	for _, unit := range d.units {
		d.exists = d.exists || unit.Exists
	}
	return d, nil
}

// sayInPlace tells what goes where, and what of the folders there is not in the backup.
func (a *app) sayInPlace(d destination) {
	for _, unit := range d.units {
		what := "new"
		if unit.Exists {
			what = "REPLACES what is there, which is kept beside it as " + unit.Path + ".before_TIME"
		}
		a.printer.say(fmt.Sprintf("  %s (%s) -> %s, %s", d.stored.Source, d.stored.Kind, unit.Path, what))
	}
	// Other file systems below what is replaced refuse the restore.
	left := slices.DeleteFunc(slices.Clone(d.stored.Facts.Exclusions), func(what string) bool { return what == "other file systems" })
	if d.exists && len(left) > 0 {
		a.printer.warn(fmt.Sprintf("%s: the backup is without %s: what there is of that stays with what is kept, and has to be fetched from there",
			d.stored.Source, strings.Join(left, ", ")))
	}
}
