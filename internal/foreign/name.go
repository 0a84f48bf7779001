package foreign

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// BareName is the name of a file without the suffixes of seals and compressions, or with ".plain" where it has none.
func BareName(name string) string {
	bare := name
	for {
		suffix := strings.ToLower(filepath.Ext(bare))
		switch {
		case suffix == ".tgz" || suffix == ".txz" || suffix == ".tbz2" || suffix == ".tzst":
			return bare[:len(bare)-len(suffix)] + ".tar"
		case slices.Contains([]string{".age", ".gpg", ".pgp", ".asc", ".enc", ".zst", ".gz", ".xz", ".bz2"}, suffix) && len(bare) > len(suffix) &&
			!strings.HasSuffix(bare, string(filepath.Separator)+suffix):
			bare = bare[:len(bare)-len(suffix)]
		case bare == name:
			return name + ".plain"
		default:
			return bare
		}
	}
}

// moment finds a date, and a time behind it, with or without separators.
var moment = regexp.MustCompile(`(?:^|[^0-9])((?:19|20)\d\d)(-?)(\d\d)(-?)(\d\d)(?:[-_T ](\d\d)([-:]?)(\d\d)(?:[-:]?)(\d\d)Z?)?(?:$|[^0-9])`)

// TimeOf tells when a backup was made: by the date in its name, else in the nearest folder's, else its time of change.
// Times in names are read as UTC. A name with a date alone takes the time of day of a change on that day.
func TimeOf(name string, modified time.Time) time.Time {
	modified = modified.UTC().Truncate(time.Second)
	for name = path.Clean(filepath.ToSlash(name)); name != "." && name != "/"; name = path.Dir(name) {
		at, whole, found := timeIn(path.Base(name))
		switch {
		case !found:
			continue
		case !whole && at.Equal(modified.Truncate(24*time.Hour)):
			return modified
		}
		return at
	}
	return modified
}

// timeIn finds the first time in a name; whole says that the time of day stands there too.
func timeIn(name string) (at time.Time, whole, found bool) {
	for from := 0; from < len(name); {
		m := moment.FindStringSubmatchIndex(name[from:])
		if m == nil {
			return time.Time{}, false, false
		}
		part := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return name[from+m[2*i] : from+m[2*i+1]]
		}
		if part(2) == part(4) {
			date := part(1) + part(3) + part(5)
			if part(6) != "" {
				if at, err := time.Parse("20060102150405", date+part(6)+part(8)+part(9)); err == nil {
					return at, true, true
				}
			}
			if at, err := time.Parse("20060102", date); err == nil {
				return at, false, true
			}
		}
		from += m[3]
	}
	return time.Time{}, false, false
}
