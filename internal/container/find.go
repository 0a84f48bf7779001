package container

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Ref says which container is meant: by Name, which may be an ID too, by Service and perhaps Project of a compose file,
// or by Label.
type Ref struct {
	// Engine is where the engine listens, as [ParseEngine] takes it; "" is [DefaultEngine].
	Engine string
	Name   string
	// Service is the name of a service of Docker Compose, and Project that of its project.
	Service, Project string
	// Label is "KEY" or "KEY=VALUE".
	Label string
}

// IsZero reports whether no container is meant.
func (r Ref) IsZero() bool { return r.Name == "" && r.Service == "" && r.Label == "" }

func (r Ref) String() string {
	switch {
	case r.Name != "":
		return fmt.Sprintf("container %q", r.Name)
	case r.Service != "" && r.Project != "":
		return fmt.Sprintf("a container of service %q in project %q", r.Service, r.Project)
	case r.Service != "":
		return fmt.Sprintf("a container of service %q", r.Service)
	}
	return fmt.Sprintf("a container with label %q", r.Label)
}

// Container is one running container. What runs in it may end at any time.
type Container struct {
	engine *Engine
	// ID stays the same when the container is renamed.
	ID   string
	Name string
	// Image is what the container was made from, and its ID.
	Image, ImageID string
	// Env are the variables that its programs see. Some are secret: never print them.
	Env     map[string]string
	started string // the time of its start, by which a restart is seen
}

// state is the part of a container's state that matters here.
type state struct {
	ID    string `json:"Id"`
	Name  string
	Image string // the ID
	State struct {
		Status    string
		Running   bool
		Paused    bool
		ExitCode  int
		OOMKilled bool
		StartedAt string
	}
	Config struct {
		Image  string
		Env    []string
		Labels map[string]string
	}
}

func (e *Engine) inspect(ctx context.Context, id string) (state, error) {
	var s state
	err := e.call(ctx, "inspect the container", http.MethodGet, "/containers/"+url.PathEscape(id)+"/json", nil, nil, &s)
	s.Name = strings.TrimPrefix(s.Name, "/")
	return s, err
}

// listed is a container as the API lists it.
type listed struct {
	ID     string `json:"Id"`
	Names  []string
	State  string
	Labels map[string]string
}

func (l listed) name() string {
	if len(l.Names) == 0 {
		return l.ID[:min(12, len(l.ID))]
	}
	return strings.TrimPrefix(slices.MinFunc(l.Names, func(a, b string) int { return cmp.Compare(len(a), len(b)) }), "/")
}

// list returns the containers that carry every one of some labels.
func (e *Engine) list(ctx context.Context, all bool, labels ...string) ([]listed, error) {
	filters, err := json.Marshal(map[string][]string{"label": labels})
	if err != nil {
		return nil, fmt.Errorf("list the containers: %w", err)
	}
	query := url.Values{"filters": {string(filters)}}
	if all {
		query.Set("all", "1")
	}
	var list []listed
	err = e.call(ctx, "list the containers", http.MethodGet, "/containers/json", query, nil, &list)
	return list, err
}

// Find returns the one running container that r means.
func Find(ctx context.Context, r Ref) (*Container, error) {
	e, err := Open(ctx, r.Engine)
	if err != nil {
		return nil, err
	}
	id := r.Name
	if r.Name == "" {
		if id, err = e.search(ctx, r); err != nil {
			return nil, err
		}
	}
	s, err := e.inspect(ctx, id)
	if isStatus(err, http.StatusNotFound) {
		return nil, e.missing(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case s.State.Paused:
		return nil, holdfast.WithHint(fmt.Errorf("container %q is paused", s.Name), "docker unpause "+s.Name)
	case !s.State.Running:
		return nil, holdfast.WithHint(fmt.Errorf("container %q is not running: it is %s", s.Name, s.State.Status), "docker start "+s.Name)
	}
	return newContainer(e, s), nil
}

func newContainer(e *Engine, s state) *Container {
	c := &Container{engine: e, ID: s.ID, Name: s.Name, Image: s.Config.Image, ImageID: s.Image,
		Env: map[string]string{}, started: s.State.StartedAt}
	for _, pair := range s.Config.Env {
		if key, value, found := strings.Cut(pair, "="); found {
			c.Env[key] = value
		}
	}
	return c
}

// search finds the ID of the one running container with the labels of r.
func (e *Engine) search(ctx context.Context, r Ref) (string, error) {
	labels := []string{r.Label}
	if r.Service != "" {
		labels = []string{"com.docker.compose.service=" + r.Service}
		if r.Project != "" {
			labels = append(labels, "com.docker.compose.project="+r.Project)
		}
	}
	list, err := e.list(ctx, true, labels...)
	if err != nil {
		return "", err
	}
	running := slices.DeleteFunc(slices.Clone(list), func(l listed) bool { return l.State != "running" && l.State != "paused" })
	switch {
	case len(running) == 1:
		return running[0].ID, nil
	case len(running) > 1:
		hint := "name one of them"
		if r.Service != "" && r.Project == "" {
			hint = "name one of them, or add the project"
		}
		return "", holdfast.WithHint(fmt.Errorf("%s is not one: %s are running", r, names(running)), hint)
	case len(list) > 0:
		return "", holdfast.WithHint(fmt.Errorf("%s is not running: there are %s", r, names(list)), "docker start "+list[0].name())
	}
	return "", e.missing(ctx, r)
}

// names tells a few containers by name, and their state if they do not run.
func names(list []listed) string {
	const few = 6
	var words []string
	for _, l := range list[:min(few, len(list))] {
		word := l.name()
		if l.State != "running" {
			word += " (" + l.State + ")"
		}
		words = append(words, word)
	}
	slices.Sort(words)
	if more := len(list) - few; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// missing says which containers there are instead of the one that r means.
func (e *Engine) missing(ctx context.Context, r Ref) error {
	list, err := e.list(ctx, false)
	if err != nil {
		return err
	}
	said := fmt.Errorf("the engine at %s has no %s", e.socket, strings.TrimPrefix(r.String(), "a "))
	if len(list) == 0 {
		return holdfast.WithHint(said, "no container is running there: start it, or name another engine with engine: unix:///PATH")
	}
	return holdfast.WithHint(said, "running are "+names(list)+": was it renamed?")
}

// ErrEnded is the end of a container under the work in it.
var ErrEnded = errors.New("the container ended")

// Ended returns nil while the container runs as it did when it was found. Otherwise it wraps [ErrEnded] and says in one
// sentence what became of it. It watches for patience: what runs in a container dies a moment before the container.
func (c *Container) Ended(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience+answerTime)
	defer cancel()
	deadline := time.Now().Add(patience)
	for {
		what, err := c.fate(ctx)
		if err != nil || what != "" {
			if err != nil {
				what = fmt.Sprintf("is out of reach (%v)", err)
			}
			return holdfast.WithHint(fmt.Errorf("%w: container %q %s", ErrEnded, c.Name, what),
				"see why with docker logs, start it, and run again")
		}
		if !time.Now().Before(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// fate tells what became of the container, "" if it runs.
func (c *Container) fate(ctx context.Context) (string, error) {
	s, err := c.engine.inspect(ctx, c.ID)
	switch {
	case isStatus(err, http.StatusNotFound):
		return "was removed", nil
	case err != nil:
		return "", err
	case s.State.Running && s.State.StartedAt != c.started:
		return "was restarted", nil
	case s.State.Running && s.State.Paused:
		return "was paused", nil
	case s.State.Running:
		return "", nil
	case s.State.OOMKilled:
		return "ran out of memory", nil
	}
	return fmt.Sprintf("stopped (exit code %d)", s.State.ExitCode), nil
}
