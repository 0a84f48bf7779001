package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"holdfast"
	"holdfast/internal/container"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// madeIn says which image a backup came from.
type madeIn struct {
	Image   string   `json:"image"` // as the container was told
	ID      string   `json:"id"`
	Digests []string `json:"digests,omitempty"`
}

// names are what the image may be known by to an engine, the surest first.
func (m *madeIn) names() []string {
	if m == nil {
		return nil
	}
	return append(append([]string{m.ID}, m.Digests...), m.Image)
}

// box is the container of a throwaway server.
type box struct {
	held     *container.Throwaway
	programs *pgclient.Container
	postgres pgclient.Program
	note     string // for the report: where it was
}

// slack is what the log of a server may take besides. The size of a folder in memory is a limit: what is not used is not taken.
const slack = 2 << 30

// boxScratch is where everything of a server lies in its container.
const boxScratch = "/holdfast"

// NeedsContainer reports whether this host has no server of the version of stored, and an image to make one of is known:
// by opt, or since the backup came from a container.
func NeedsContainer(ctx context.Context, opt DrillOptions, stored source.Stored) (bool, error) {
	r, err := readRecord(stored)
	if err != nil {
		return false, err
	}
	if opt.Image == "" && r.Container == nil {
		return false, nil
	}
	host := pgclient.NewHost(opt.BinDirs, opt.Path)
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := pgclient.Exactly(ctx, host, name, r.major()); errors.Is(err, holdfast.ErrCannotTest) {
			return true, nil
		} else if err != nil {
			return false, err
		}
	}
	return false, nil
}

// ThrowawayContainer starts a server of the source's major version in a container: of opt's image, else of the one that the
// backup came from. room is how many bytes it is likely to take, in memory. Of opt only Engine and Image count. Errors that say
// nothing about the backup wrap [holdfast.ErrCannotTest].
func ThrowawayContainer(ctx context.Context, opt DrillOptions, room int64, stored source.Stored, observe holdfast.Observer) (*Drill, error) {
	r, err := readRecord(stored)
	if err != nil {
		return nil, err
	}
	if observe == nil {
		observe = func(holdfast.Event) {}
	}
	d := &Drill{log: &pgclient.Tail{}}
	if err := d.startIn(ctx, r, opt, room, observe); err != nil {
		if d.box != nil {
			err = errors.Join(err, d.shutdown())
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start a throwaway server: %w", context.Cause(ctx))
		}
		if !errors.Is(err, holdfast.ErrCannotTest) {
			err = cannotTest(err, holdfast.Hint(err))
		}
		return nil, err
	}
	return d, nil
}

func (d *Drill) startIn(ctx context.Context, r record, opt DrillOptions, room int64, observe holdfast.Observer) error {
	image, words, err := imageFor(ctx, r, opt)
	if err != nil {
		return err
	}
	held, err := container.NewThrowaway(ctx, container.ThrowawayOptions{
		Engine: opt.Engine, Image: image, User: pgclient.SuperUser, Scratch: map[string]int64{boxScratch: 2*room + slack, "/tmp": 64 << 20},
	})
	if err != nil {
		return err
	}
	site := pgclient.NewContainer(held.Container, held.User)
	d.box = &box{held: held, programs: site, note: fmt.Sprintf("restored in a container of image %s, without network and in memory alone", words)}
	g := ground{site: site, programs: site, data: boxScratch + "/data", socket: boxScratch, home: boxScratch, container: held.Name,
		env: []string{"LC_ALL=C", "TZ=UTC", "HOME=" + boxScratch}}
	for name, into := range map[string]*pgclient.Program{"initdb": &g.initdb, "postgres": &g.postgres} {
		if *into, err = pgclient.Exactly(ctx, site, name, r.major()); err != nil {
			return holdfast.WithHint(err, fmt.Sprintf("name an image of PostgreSQL %d with drill.image", r.major()))
		}
	}
	d.box.postgres = g.postgres
	observe(holdfast.Event{Kind: holdfast.EventPhase, Message: "make a container of image " + words})
	return d.boot(ctx, r, g, observe)
}

// imageFor finds an image that the engine has, and what it is called for people.
func imageFor(ctx context.Context, r record, opt DrillOptions) (image, words string, err error) {
	if opt.Image != "" {
		return opt.Image, opt.Image, nil
	}
	if r.Container == nil {
		return "", "", cannotTest(errors.New("no image is known for a throwaway server: the backup did not come from a container"),
			fmt.Sprintf("name one with drill.image, such as postgres:%d", r.major()))
	}
	engine, err := container.Open(ctx, opt.Engine)
	if err != nil {
		return "", "", err
	}
	for _, name := range r.Container.names() {
		if _, err := engine.FindImage(ctx, name); err == nil {
			return name, fmt.Sprintf("%s (%s)", r.Container.Image, name), nil
		} else if !container.NoImage(err) {
			return "", "", err
		}
	}
	return "", "", cannotTest(fmt.Errorf("the engine has not the image %q that the backup came from (%s)", r.Container.Image, r.Container.ID),
		"docker pull "+r.Container.Image+" (holdfast pulls nothing by itself), or name another one with drill.image")
}

// halt ends the server, which no signal from outside reaches.
func (b *box) halt() {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	stop := b.postgres.Beside("pg_ctl")
	process, err := b.programs.Start(ctx, pgclient.Command{Path: stop.Path, Args: []string{"stop", "--mode=immediate", "--pgdata=" + boxScratch + "/data"}, Stdout: io.Discard})
	if err == nil {
		_ = process.Wait() // the container goes in any case
	}
}

// remove ends the container, and with it the server.
func (b *box) remove(d *Drill) error {
	err := b.held.Close()
	if d.server != nil {
		d.stop()
		<-d.ended // its container is gone
		d.server = nil
	}
	return err
}

// origin tells which image a site is made of.
func origin(ctx context.Context, site pgclient.Site) *madeIn {
	inside, is := site.(*pgclient.Container)
	if !is {
		return nil
	}
	m := &madeIn{}
	m.ID, m.Image = inside.Image()
	m.Digests = inside.Digests(ctx)
	slices.Sort(m.Digests)
	return m
}
