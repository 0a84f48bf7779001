package migration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/migration"
	"holdfast/internal/source"
)

// mode is how a call of the world goes wrong.
type mode string

const (
	fails      mode = "fails"           // nothing was done
	failsDone  mode = "fails when done" // it was done, and an error came back
	diesBefore mode = "dies before"
	diesAfter  mode = "dies after"
	losesState mode = "cannot write down" // from this call on
)

var (
	errTrap = errors.New("trapped")
	modes   = []mode{fails, failsDone, diesBefore, diesAfter, losesState}
)

// death is the panic of a process that is killed.
type death struct{}

// data is the content of a directory.
type data struct {
	rows       int
	closed     bool // applications are shut out, as the catalog says
	state      string
	checkpoint int
	system     string
}

// lab is a world in memory. It polices the laws: applications write whenever they can, and nothing that they wrote may be lost.
type lab struct {
	t     testing.TB
	base  string
	now   time.Time
	log   []string
	dirs  map[string]*data // by path
	place migration.Side
	at    string // the directory that the server runs on; "": it does not run
	alive bool   // applications write

	written int // rows that applications were told to be there
	backups map[holdfast.BackupID]data
	proof   migration.Proof
	entries []migration.Entry
	warned  []string

	calls int
	trap  int // the call that goes wrong; -1: none
	how   mode

	slow         time.Duration  // by how much the volume is slower
	slowProbes   int            // for how many measurements; 0: for all
	corrupt      bool           // copies differ
	copied       func(to *data) // what happens to the final copy
	reviveLate   bool           // the same, after all was compared
	reviveOld    bool           // something starts the server on the old directory after it was stopped
	unclean      bool
	obstacles    []string // of shutting applications out
	cannotProve  error
	cannotRecord error
	rehearsal    string // the throwaway server's directory
	standIn      bool
}

const day = 24 * time.Hour

func newLab(t testing.TB) *lab {
	l := &lab{t: t, base: memory(t), now: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), trap: -1, alive: true, place: migration.Old,
		dirs: map[string]*data{}, backups: map[holdfast.BackupID]data{}}
	l.dirs[l.from()] = &data{rows: 1000, state: "in production", system: "7001"}
	l.dirs[l.to()] = &data{}
	l.at, l.written = l.from(), 1000
	l.proof = migration.Proof{Backup: "aaaaaaaaaa", Taken: l.now.Add(-time.Hour)}
	for _, dir := range []string{"state", "volume"} {
		if err := os.Mkdir(filepath.Join(l.base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// memory is a folder that costs no disk's time, where there is one: thousands of state files are written.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "migration")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a leftover in memory fails nothing
	return dir
}

func (l *lab) from() string     { return l.base + "/old" }
func (l *lab) to() string       { return l.base + "/volume/pgdata" }
func (l *lab) restored() string { return l.options().RestoredPath() }

func (l *lab) options() migration.Options {
	return migration.Options{Volume: "pg", From: l.from(), To: l.to(), State: l.base + "/state/pg.migration.json", Facts: l.base + "/volume/pg.facts.json",
		Observe: func(e holdfast.Event) {
			if e.Kind == holdfast.EventWarning {
				l.warned = append(l.warned, e.Message)
			}
		}}
}

func (l *lab) migration() migration.Migration { return migration.New(l.world(), l.options()) }

// call is one call of the world. Applications write before it, if they can.
func (l *lab) call(name string, do func() error) error {
	l.applications()
	n := l.calls
	l.calls++
	l.now = l.now.Add(time.Second)
	l.log = append(l.log, name)
	if n == l.trap {
		l.log = append(l.log, string(l.how))
		switch l.how {
		case fails:
			return errTrap
		case failsDone:
			if err := do(); err != nil {
				return err
			}
			return errTrap
		case diesBefore:
			panic(death{})
		case diesAfter:
			_ = do() // whatever came of it, nobody hears it
			panic(death{})
		case losesState:
			l.hideState()
		}
	}
	return do()
}

func (l *lab) hideState() {
	if err := os.Rename(l.base+"/state", l.base+"/hidden"); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) showState() {
	if err := os.Rename(l.base+"/hidden", l.base+"/state"); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
}

func (l *lab) applications() {
	if l.alive && l.at != "" && !l.dirs[l.at].closed {
		l.dirs[l.at].rows++
		l.written++
	}
}

func (l *lab) broken(format string, args ...any) {
	l.t.Helper()
	l.t.Errorf("law broken: %s\n%v", fmt.Sprintf(format, args...), l.log)
}

// startOn starts a server on a directory.
func (l *lab) startOn(dir string) error {
	d := l.dirs[dir]
	switch {
	case l.at != "":
		l.broken("a server is started on %s while one runs on %s", dir, l.at)
	case d == nil || d.system == "":
		return fmt.Errorf("no data directory %s", dir)
	case d.rows != l.written && !l.corrupt:
		l.broken("a server is started on %s, which has %d rows of %d", dir, d.rows, l.written)
	}
	l.at = dir
	d.state = "in production"
	return nil
}

func (l *lab) path(side migration.Side) string {
	return map[migration.Side]string{migration.Old: l.from(), migration.Sealed: l.to(), migration.Restored: l.restored()}[side]
}

func (l *lab) served() (*data, error) {
	if l.at == "" {
		return nil, errors.New("no server")
	}
	return l.dirs[l.at], nil
}

func (l *lab) world() migration.World {
	serving := func(do func(d *data) error) func() error {
		return func() error {
			d, err := l.served()
			if err == nil {
				err = do(d)
			}
			return err
		}
	}
	facts := func(d *data) []migration.Database {
		return []migration.Database{{Name: "app", Facts: []source.Fact{{Class: "table", Name: "public.orders", Rule: source.Exact, Rows: int64(d.rows)}}}}
	}
	return migration.World{
		Size:    func(context.Context) (n int64, err error) { return 10e9, l.call("size", ok) },
		Free:    func(context.Context) (n int64, err error) { return 20e9, l.call("free", ok) },
		Ready:   func(context.Context) error { return l.call("ready", ok) },
		Outside: func(context.Context) ([]string, error) { return nil, l.call("outside", ok) },
		Empty: func(context.Context) (empty bool, err error) {
			err = l.call("empty", func() error { empty = l.dirs[l.to()].system == ""; return nil })
			return empty, err
		},
		Copy: func(_ context.Context, c migration.Copy) (done migration.Copying, err error) {
			err = l.call("copy", func() error {
				if l.at == c.To || c.From != l.from() {
					l.broken("copy from %s to %s, where %q has a server", c.From, c.To, l.at)
				}
				if c.Still && l.at != "" {
					return errors.New("the directory changed")
				}
				copied := *l.dirs[c.From]
				if l.corrupt {
					copied.rows--
				}
				l.dirs[c.To] = &copied
				done = migration.Copying{Files: 1, Bytes: 1e9, Copied: 1e9}
				l.now = l.now.Add(time.Minute)
				if c.Still && l.copied != nil {
					l.copied(&copied)
				}
				if c.Still && l.reviveOld {
					return l.startOn(l.from())
				}
				return nil
			})
			return done, err
		},
		Remove: func(_ context.Context, dir string) error {
			return l.call("remove", func() error {
				if dir == l.at || dir == l.to() {
					l.broken("remove %s", dir)
				}
				delete(l.dirs, dir)
				return nil
			})
		},
		Switch: labSwitch{l},
		Serving: func(_ context.Context, dirs map[migration.Side]string) (side migration.Side, err error) {
			err = l.call("serving", func() error {
				for s, dir := range dirs {
					if dir == l.at && dir != "" {
						side = s
					}
				}
				return nil
			})
			return side, err
		},
		Start: func(context.Context) error {
			return l.call("start", func() error {
				return l.startOn(l.path(l.place))
			})
		},
		Stop: func(_ context.Context, grace time.Duration) error {
			return l.call("stop", serving(func(d *data) error {
				if grace != migration.DefaultGrace {
					l.t.Errorf("grace %s", grace)
				}
				d.state = "shut down"
				if l.unclean {
					d.state = "in production"
				}
				d.checkpoint++
				l.at = ""
				return nil
			}))
		},
		Health: func(context.Context) error { return l.call("health", serving(func(*data) error { return nil })) },
		ControlData: func(_ context.Context, dir string) (c migration.ControlData, err error) {
			err = l.call("control data", func() error {
				d := l.dirs[dir]
				if d == nil {
					return fmt.Errorf("no %s", dir)
				}
				if dir == l.to() && l.reviveLate {
					defer func() { must(l.t, l.startOn(l.from())) }()
				}
				c = migration.ControlData{System: d.system, State: d.state, Checkpoint: fmt.Sprint(d.checkpoint)}
				return nil
			})
			return c, err
		},
		Checkpoint: func(context.Context) error {
			return l.call("checkpoint", serving(func(d *data) error { d.checkpoint++; return nil }))
		},
		CloseConnections: func(context.Context) error {
			return l.call("close", serving(func(d *data) error { d.closed = true; return nil }))
		},
		OpenConnections: func(context.Context) error {
			return l.call("open", serving(func(d *data) error { d.closed = false; l.applications(); return nil }))
		},
		Obstacles: func(context.Context) (found []string, err error) {
			return l.obstacles, l.call("obstacles", serving(func(*data) error { return nil }))
		},
		Facts: func(context.Context) (all []migration.Database, err error) {
			err = l.call("facts", serving(func(d *data) error { all = facts(d); return nil }))
			return all, err
		},
		Probe: func(context.Context) (took time.Duration, err error) {
			err = l.call("probe", serving(func(*data) error {
				took = time.Second
				if l.at == l.to() {
					took += l.slow
					if l.slowProbes--; l.slowProbes == 0 {
						l.slow = 0
					}
				}
				return nil
			}))
			return took, err
		},
		CanProve: func(context.Context) error {
			return l.call("can prove", func() error { return l.cannotProve })
		},
		Proven: func(context.Context) (p migration.Proof, err error) { return l.proof, l.call("proven", ok) },
		BackupNew: func(context.Context) (id holdfast.BackupID, err error) {
			err = l.call("backup", serving(func(d *data) error {
				id = holdfast.NewBackupID()
				l.backups[id] = *d
				return nil
			}))
			return id, err
		},
		Drill: func(_ context.Context, id holdfast.BackupID) error {
			return l.call("drill", func() error {
				if _, there := l.backups[id]; !there {
					l.broken("drill of %q", id)
				}
				return nil
			})
		},
		RestoreTo: func(_ context.Context, id holdfast.BackupID, dir string) error {
			return l.call("restore", func() error {
				if l.dirs[dir] != nil {
					l.broken("restore over %s", dir)
				}
				d := l.backups[id]
				d.state, d.system = "shut down", "7002"
				l.dirs[dir] = &d
				return nil
			})
		},
		Record: func(_ context.Context, e migration.Entry) error {
			return l.call("record", func() error {
				if l.cannotRecord == nil {
					l.entries = append(l.entries, e)
				}
				return l.cannotRecord
			})
		},
		Now: func() time.Time { return l.now },
		Rehearsal: &migration.Rehearsal{
			Dir:   l.base + "/volume/rehearsal",
			Path:  l.base + "/old.rehearsal-pg",
			Slots: func(context.Context) error { return l.call("slots", ok) },
			Snapshot: func(_ context.Context, dir string) (migration.Copying, error) {
				return migration.Copying{Bytes: 1e9, Copied: 1e9}, l.call("snapshot", serving(func(d *data) error {
					copied := *d
					l.dirs[dir] = &copied
					l.now = l.now.Add(30 * time.Second)
					return nil
				}))
			},
			Make:   func(context.Context) error { return l.call("make", func() error { l.standIn = true; return nil }) },
			Clear:  func(context.Context) error { return l.call("clear", func() error { l.standIn = false; return nil }) },
			Switch: &standIn{l: l, side: migration.Old},
			Start: func(_ context.Context, path string) error {
				return l.call("start throwaway", func() error { l.rehearsal = path; return nil })
			},
			Stop: func(context.Context) error {
				return l.call("stop throwaway", func() error { l.rehearsal = ""; return nil })
			},
			Facts: func(context.Context) (all []migration.Database, err error) {
				err = l.call("throwaway facts", func() error { all = facts(l.dirs[l.base+"/volume/rehearsal"]); return nil })
				return all, err
			},
			Probe: func(context.Context) (time.Duration, error) {
				return time.Second + l.slow, l.call("throwaway probe", ok)
			},
		},
	}
}

func ok() error { return nil }

type labSwitch struct{ l *lab }

func (s labSwitch) Check(context.Context) ([]migration.Check, error) {
	return []migration.Check{{Name: "switch", Good: true}}, s.l.call("check switch", ok)
}

func (s labSwitch) Where(context.Context) (p migration.Place, err error) {
	err = s.l.call("where", func() error {
		p.Side = s.l.place
		if s.l.dirs[s.l.from()] != nil {
			p.Old = s.l.from()
		}
		if s.l.dirs[s.l.restored()] != nil {
			p.Restored = s.l.restored()
		}
		return nil
	})
	return p, err
}

func (s labSwitch) To(_ context.Context, side migration.Side) error {
	return s.l.call("switch to "+string(side), func() error {
		if s.l.at != "" {
			s.l.broken("switch to %s while a server runs on %s", side, s.l.at)
		}
		s.l.place = side
		return nil
	})
}

// standIn is the switch of a rehearsal.
type standIn struct {
	l    *lab
	side migration.Side
}

func (s *standIn) Check(context.Context) ([]migration.Check, error) { return nil, nil }

func (s *standIn) Where(context.Context) (migration.Place, error) {
	return migration.Place{Side: s.side}, s.l.call("stand-in where", ok)
}

func (s *standIn) To(_ context.Context, side migration.Side) error {
	return s.l.call("stand-in to "+string(side), func() error { s.side = side; return nil })
}

// run does f in a process that may be killed; died says whether it was.
func (l *lab) run(f func() error) (died bool, err error) {
	l.t.Helper()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case death:
			died = true
		default:
			panic(p)
		}
	}()
	return false, f()
}

// settled holds what must hold once nothing is under way.
func (l *lab) settled() {
	l.t.Helper()
	switch {
	case l.at == "":
		l.broken("no server runs")
	case l.at != l.path(l.place):
		l.broken("the server runs on %s, and would be started on %s", l.at, l.path(l.place))
	case l.dirs[l.at].closed:
		l.broken("applications are shut out")
	case l.dirs[l.at].rows != l.written:
		l.broken("the server has %d rows of %d", l.dirs[l.at].rows, l.written)
	case l.rehearsal != "" || l.standIn || l.dirs[l.base+"/volume/rehearsal"] != nil:
		l.broken("a rehearsal left something")
	}
	if report, err := l.migration().Report(); err != nil || report.UnderWay {
		l.broken("still under way: %+v, %v", report, err)
	} else if report.Step == "" {
		return
	}
	entries := len(l.entries)
	if _, err := l.migration().Resume(l.t.Context()); err != nil || len(l.entries) != entries {
		l.broken("a resumption of what is over recorded %d entries, and said: %v", len(l.entries)-entries, err)
	}
}
