package foreign_test

import (
	"testing"
	"time"

	"holdfast/internal/foreign"
)

func TestBareName(t *testing.T) {
	for name, want := range map[string]string{
		"app.sql.gz.gpg": "app.sql", "backup-2026-11-22-01-00-00.sql.enc": "backup-2026-11-22-01-00-00.sql", "x.tgz": "x.tar",
		"x.TGZ.age": "x.tar", "app.dump": "app.dump.plain", "secrets.tar.gz.asc": "secrets.tar", "/a/.gpg": "/a/.gpg.plain", ".gz": ".gz.plain",
	} {
		if got := foreign.BareName(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
}

func TestTimeOf(t *testing.T) {
	modified := time.Date(2026, 11, 22, 4, 5, 6, 789, time.FixedZone("", 3600))
	for name, want := range map[string]string{
		"backup-2026-10-21-01-02-03.sql.enc":         "2026-10-21T01:02:03Z",
		"app_20261021_020304.sql.gz.gpg":             "2026-10-21T02:03:04Z",
		"app-20261021-020304.sql.gz.gpg":             "2026-10-21T02:03:04Z",
		"app.20261021T020304Z.sql":                   "2026-10-21T02:03:04Z",
		"app 2026-10-21 02:03:04.sql":                "2026-10-21T02:03:04Z",
		"daily/20261021/config.tar.gz":               "2026-10-21T00:00:00Z",
		"daily/20261122/config.tar.gz":               "2026-11-22T03:05:06Z", // changed on that day
		"20261122/app_20261021_020304.sql":           "2026-10-21T02:03:04Z",
		"app-2026-10-21.sql":                         "2026-10-21T00:00:00Z",
		"app.sql":                                    "2026-11-22T03:05:06Z",
		"app_20261399_020304.sql":                    "2026-11-22T03:05:06Z", // no such day
		"order-9920261021.sql":                       "2026-11-22T03:05:06Z", // a longer number
		"app_20261021_996699.sql":                    "2026-10-21T00:00:00Z", // no such time of day
		"v20269999_app_20261021_020304.sql":          "2026-10-21T02:03:04Z",
		"2026-1021/app.sql":                          "2026-11-22T03:05:06Z",
		"archive/2026-10-21_02-03-04/auth.db.backup": "2026-10-21T02:03:04Z",
	} {
		if got := foreign.TimeOf(name, modified).Format(time.RFC3339); got != want {
			t.Errorf("%s is of %s, want %s", name, got, want)
		}
	}
}
