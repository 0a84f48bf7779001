package pgclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/container"
)

// Container is a site inside a container: its own programs, run by exec, and sessions through its own psql.
type Container struct {
	container *container.Container
	user      string // runs the programs; "": the container's own

	mu    sync.Mutex // guards what follows
	found map[string][]Program
}

var _ Site = (*Container)(nil)

// Digests are the names that the container's image was pulled by, with what they stood for then.
func (c *Container) Digests(ctx context.Context) []string { return c.container.Digests(ctx) }

// SuperUser is the system's user that PostgreSQL's images run the server as, and whom peer authentication lets in.
const SuperUser = "postgres"

// OpenContainer finds the container that ref means, and returns it as a site with the parameters that lead to its server:
// role and database as given, else those that the container's own variables name.
func OpenContainer(ctx context.Context, ref container.Ref, given Params) (*Container, Params, error) {
	found, err := container.Find(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	c := NewContainer(found, SuperUser)
	_, said, err := c.output(ctx, "cat", "/dev/null")
	if err != nil {
		return nil, nil, err
	}
	if strings.Contains(said, "unable to find user") {
		c.user = ""
	}
	return c, containerParams(found, given), nil
}

// NewContainer returns a container whose programs user runs, as a site.
func NewContainer(found *container.Container, user string) *Container {
	return &Container{container: found, user: user, found: map[string][]Program{}}
}

// containerParams fills in what a PostgreSQL image's variables say.
func containerParams(c *container.Container, given Params) Params {
	p := maps.Clone(given)
	if p == nil {
		p = Params{}
	}
	fill := func(key string, values ...string) {
		for _, value := range values {
			if p[key] == "" {
				p[key] = value
			}
		}
	}
	fill("user", c.Env["POSTGRES_USER"], SuperUser)
	if p["user"] == c.Env["POSTGRES_USER"] || p["user"] == SuperUser && c.Env["POSTGRES_USER"] == "" {
		fill("password", c.Env["POSTGRES_PASSWORD"])
	}
	fill("dbname", c.Env["POSTGRES_DB"], p["user"])
	fill("connect_timeout", "15")
	p["container"] = c.Name
	return p
}

// Image is the ID of what the container was made from, and its name.
func (c *Container) Image() (id, name string) { return c.container.ImageID, c.container.Image }

func (c *Container) String() string { return fmt.Sprintf("container %q", c.container.Name) }

// Dial runs a psql.
func (c *Container) Dial(ctx context.Context, p Params) (Session, Params, error) {
	list, err := c.Find(ctx, "psql")
	if err != nil {
		return nil, nil, err
	}
	if len(list) == 0 {
		return nil, nil, c.lacks("psql")
	}
	s, err := OpenPsql(ctx, c, list[len(list)-1], p.named(""))
	if err != nil {
		return nil, nil, err
	}
	return s, p, nil
}

func (c *Container) lacks(name string) error {
	return holdfast.WithHint(fmt.Errorf("%s has no %s", c, name),
		"use an image that holds PostgreSQL's client programs, or back the server up from outside by its address")
}

// named returns the parameters for sessions with an application name that nobody else has, by which they can be ended.
func (p Params) named(name string) Params {
	other := maps.Clone(p)
	if name == "" {
		name = "holdfast " + strings.ToLower(rand.Text()[:10])
	}
	other["application_name"] = name
	return other
}

// Find asks the program that the image's PATH leads to, else those of Debian's folders.
func (c *Container) Find(ctx context.Context, name string) ([]Program, error) {
	c.mu.Lock()
	known, asked := c.found[name]
	c.mu.Unlock()
	if asked {
		return slices.Clone(known), nil
	}
	var list []Program
	paths := []string{name}
	for major := 13; major <= 18; major++ {
		paths = append(paths, fmt.Sprintf("/usr/lib/postgresql/%d/bin/%s", major, name))
	}
	for i, path := range paths {
		code, said, err := c.output(ctx, path, "--version")
		if err != nil {
			return nil, err
		}
		if found, ok := parseVersion(path, said); ok && code == 0 {
			list = append(list, found)
		}
		if i == 0 && len(list) > 0 {
			break
		}
	}
	sortPrograms(list)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found[name] = list
	return slices.Clone(list), nil
}

// output runs a program that says little.
func (c *Container) output(ctx context.Context, argv ...string) (code int, said string, err error) {
	var out bytes.Buffer
	x, err := c.container.Start(ctx, container.Command{Argv: argv, User: c.user, Env: []string{"LC_ALL=C"}, Stdout: &out, Stderr: &out})
	if err != nil {
		return -1, "", err
	}
	code, err = x.Wait(ctx)
	return code, out.String(), err
}

// grace is how long a program may take to end once its session at the server was ended.
const grace = 10 * time.Second

// Start runs a program in the container. The API cannot end one: when ctx ends, its session at the server is ended, and
// the program ends by itself.
func (c *Container) Start(ctx context.Context, command Command) (*Process, error) {
	said := &Tail{}
	inside := container.Command{Argv: append([]string{command.Path}, command.Args...), User: c.user, Stdin: command.Stdin, Stdout: command.Stdout,
		Stderr: said, Env: slices.Clone(command.Env)}
	if command.Stderr != nil {
		inside.Stderr = io.MultiWriter(said, command.Stderr)
	}
	p := command.Params
	if p != nil {
		p = p.named(p["application_name"])
		env, rest := p.inside()
		inside.Env = append(env, inside.Env...)
		inside.Argv = append(inside.Argv, rest...)
	}
	x, err := c.container.Start(ctx, inside)
	if err != nil {
		return nil, err
	}
	process := &Process{}
	if command.Stdin {
		process.Stdin = x.Stdin()
	}
	if command.Stdout == nil {
		process.Stdout = io.NopCloser(x)
	}
	// The end of ctx must not be the end of the stream: its rest is read until the program has ended.
	life, abandon := context.WithCancel(context.WithoutCancel(ctx))
	over, ending := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ending)
		limit, cancel := context.WithTimeout(life, grace)
		defer cancel()
		if p != nil {
			c.terminate(limit, p)
			select {
			case <-over:
				return
			case <-limit.Done():
			}
		}
		abandon()
	})
	process.wait = func() error {
		code, err := x.Wait(life)
		close(over)
		if !stop() {
			<-ending
		}
		defer abandon()
		switch {
		case life.Err() != nil:
			return fmt.Errorf("%s in %s did not end within %s of its session's end and was left there", command.Path, c, grace)
		case ctx.Err() != nil:
			return context.Cause(ctx) // as on a host, even if the program was quicker
		case err != nil:
			return err
		case code == 0:
			return nil
		}
		// A server that goes away takes its clients with it a moment before the container ends.
		patience := time.Duration(0)
		if code == killed || lostServer(said.String()) {
			patience = 3 * time.Second
		}
		if ended := c.container.Ended(context.WithoutCancel(ctx), patience); ended != nil {
			return ended
		}
		return &ExitError{Code: code, Status: fmt.Sprintf("exit status %d", code)}
	}
	return process, nil
}

// killed is the exit code of a program that SIGKILL ended.
const killed = 128 + 9

// lostServer reports whether a program says that its server has gone.
func lostServer(said string) bool {
	for _, words := range []string{"server closed the connection", "terminating connection", "connection to server was lost", "shutting down"} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return false
}

// terminate ends the sessions of one application name. It does what it can: who waits for the program sees whether it
// ended.
func (c *Container) terminate(ctx context.Context, p Params) {
	list, err := c.Find(ctx, "psql")
	if err != nil || len(list) == 0 {
		return
	}
	env, rest := p.named("").inside()
	argv := append([]string{list[len(list)-1].Path, "--no-psqlrc", "--quiet", "--no-password", "--command=" +
		`SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE application_name = ` + QuoteLiteral(p["application_name"])}, rest...)
	x, err := c.container.Start(ctx, container.Command{Argv: argv, User: c.user, Env: env, Stdout: io.Discard})
	if err != nil {
		return
	}
	_, _ = x.Wait(ctx) // whether it worked is seen at the program itself
}

// inside is the environment of a program in a container, and the arguments for what has no variable there.
func (p Params) inside() (env, args []string) {
	env, args = p.env()
	return slices.DeleteFunc(env, func(pair string) bool {
		// These are of the host.
		return strings.HasPrefix(pair, "HOME=") || strings.HasPrefix(pair, "PATH=")
	}), args
}
