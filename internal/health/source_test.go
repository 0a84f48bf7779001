package health_test

import (
	"slices"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/health"
)

// TestSourcesOfAJob: each is told by the newest backup and the newest drill that count for it, and nothing by what lies in the future.
func TestSourcesOfAJob(t *testing.T) {
	both, db := []holdfast.SourceName{"db", "web"}, []holdfast.SourceName{"db"}
	items := []health.Item{{Source: "db", Name: "roles.sql", Stored: 1}, {Source: "db", Name: "db.sql", Stored: 6}, {Source: "web", Name: "web.tar", Stored: 5}}
	old := health.Backup{Time: at.Add(-3 * day), Complete: true, Mirrored: true, Holds: both, Items: items}
	half := health.Backup{Time: at.Add(-day), Holds: db, Lacks: []holdfast.SourceName{"web"}, Items: items[1:2]}
	ahead := health.Backup{Time: at.Add(hour), Complete: true, Mirrored: true, Holds: both, Items: items}
	unread := health.Backup{Time: at.Add(-hour), Complete: true}
	proof := func(ago time.Duration, holds []holdfast.SourceName, verdict holdfast.Verdict, trusted bool) health.Proof {
		return health.Proof{Time: at.Add(-ago), Holds: holds, Verdict: verdict, Trusted: trusted, Phases: map[string]float64{"open": 9, "start db": 1, "restore db": 2, "restore web": 4}}
	}
	web := health.Source{Name: "web", Good: old.Time, Stored: 5, OffSite: old.Time}
	for _, c := range []struct {
		name    string
		backups []health.Backup
		proofs  []health.Proof
		want    []health.Source
	}{
		{"no backup", nil, nil, nil},
		{"none that was read", []health.Backup{unread}, nil, nil},
		{"the newest lacks one", []health.Backup{old, half}, nil, []health.Source{{Name: "db", Good: half.Time, Stored: 6, OffSite: old.Time}, web}},
		{"a newer one was not read", []health.Backup{old, unread}, nil, []health.Source{{Name: "db", Good: old.Time, Stored: 7, OffSite: old.Time}, web}},
		{"one from the future", []health.Backup{old, half, ahead}, nil, []health.Source{{Name: "db", Good: half.Time, Stored: 6, OffSite: old.Time}, web}},
		{"no backup holds it", []health.Backup{half}, nil, []health.Source{{Name: "db", Good: half.Time, Stored: 6}, {Name: "web"}}},
		{"drills", []health.Backup{old}, []health.Proof{proof(2*day, both, holdfast.Proven, true), proof(day, db, holdfast.Proven, true), proof(hour, both, holdfast.Failed, true), proof(hour, both, holdfast.Proven, false), proof(-day, both, holdfast.Proven, true)},
			[]health.Source{
				{Name: "db", Good: old.Time, Stored: 7, OffSite: old.Time, Proven: at.Add(-day), RTO: 3 * time.Second},
				{Name: "web", Good: old.Time, Stored: 5, OffSite: old.Time, Proven: at.Add(-2 * day), RTO: 4 * time.Second},
			}},
	} {
		if got := (health.Job{Backups: c.backups, Proofs: c.proofs}).Sources(at); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v\nwant %+v", c.name, got, c.want)
		}
	}
}
