package container

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Labels of a throwaway: that it is one, and the process it belongs to.
const (
	drillLabel = "holdfast.drill"
	ownerLabel = "holdfast.owner"
)

// Image is what an engine knows of an image.
type Image struct {
	ID      string   `json:"Id"` // sha256:…
	Digests []string `json:"RepoDigests"`
	Config  struct {
		User    string
		Volumes map[string]struct{}
	}
}

// FindImage asks the engine for an image that it has, by name or ID. There is none if the error is a [*Refusal] with
// status 404. Nothing is ever pulled.
func (e *Engine) FindImage(ctx context.Context, name string) (Image, error) {
	var image Image
	err := e.call(ctx, fmt.Sprintf("find image %q", name), http.MethodGet, "/images/"+escapeName(name)+"/json", nil, nil, &image)
	return image, err
}

// escapeName keeps the slashes of a name such as registry/team/image:tag.
func escapeName(name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// Digests are the names, with what they stood for when they were pulled, of the container's image. A failure to ask is an
// empty answer: the image's ID is known in any case.
func (c *Container) Digests(ctx context.Context) []string {
	image, err := c.engine.FindImage(ctx, c.ImageID)
	if err != nil {
		return nil
	}
	return image.Digests
}

// NoImage reports whether err says that the engine has no such image.
func NoImage(err error) bool { return isStatus(err, http.StatusNotFound) }

// ThrowawayOptions say what a throwaway is made of.
type ThrowawayOptions struct {
	Engine string // as in Ref
	Image  string // its name or ID
	User   string // runs everything; where the image has no such user, the image's own, which must not be root
	// Scratch are the folders that can be written, all in memory, with their sizes in bytes.
	Scratch map[string]int64
}

// Throwaway is a container of our own. It has no network, no rights and nothing on a disk, and it ends when its input
// does: at Close, or when this process ends, however that comes about.
type Throwaway struct {
	*Container
	// User runs what is started here.
	User   string
	held   *stream // the input of its first process
	engine *Engine
}

// NewThrowaway makes and starts a container, after those that died owners left were removed.
func NewThrowaway(ctx context.Context, opt ThrowawayOptions) (*Throwaway, error) {
	e, err := Open(ctx, opt.Engine)
	if err != nil {
		return nil, err
	}
	image, err := e.FindImage(ctx, opt.Image)
	if NoImage(err) {
		return nil, holdfast.WithHint(fmt.Errorf("the engine at %s has no image %q", e.socket, opt.Image), "docker pull "+opt.Image+" (holdfast pulls nothing by itself), or name another image")
	}
	if err != nil {
		return nil, err
	}
	if err := e.sweep(ctx); err != nil {
		return nil, err
	}
	t, err := e.throwaway(ctx, opt, image, opt.User)
	if err == nil || !strings.Contains(err.Error(), "unable to find user") {
		return t, err
	}
	own := image.Config.User
	if name, _, _ := strings.Cut(own, ":"); slices.Contains([]string{"", "root", "0"}, name) {
		return nil, holdfast.WithHint(fmt.Errorf("image %q has no user %q, and would run as root", opt.Image, opt.User), "name another image")
	}
	return e.throwaway(ctx, opt, image, own)
}

func (e *Engine) throwaway(ctx context.Context, opt ThrowawayOptions, image Image, user string) (*Throwaway, error) {
	tmpfs := map[string]string{}
	for volume := range image.Config.Volumes {
		tmpfs[volume] = "size=1m" // or it would be a folder on a disk
	}
	for dir, size := range opt.Scratch {
		tmpfs[dir] = fmt.Sprintf("size=%d,mode=1777", size)
	}
	name := "holdfast-drill-" + strings.ToLower(rand.Text()[:12])
	var made struct {
		ID string `json:"Id"`
	}
	err := e.call(ctx, "make a container", http.MethodPost, "/containers/create", url.Values{"name": {name}}, map[string]any{
		"Image": image.ID, "User": user, "Entrypoint": []string{"cat"}, "Cmd": []string{}, "WorkingDir": "/",
		"OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "Tty": false, "NetworkDisabled": true,
		"Labels":      map[string]string{drillLabel: name, ownerLabel: self()},
		"Healthcheck": map[string]any{"Test": []string{"NONE"}},
		"HostConfig": map[string]any{
			"NetworkMode": "none", "AutoRemove": true, "ReadonlyRootfs": true, "CapDrop": []string{"ALL"},
			"SecurityOpt": []string{"no-new-privileges"}, "Tmpfs": tmpfs, "RestartPolicy": map[string]any{"Name": "no"},
			"LogConfig": map[string]any{"Type": "none"},
		},
	}, &made)
	if err != nil {
		return nil, err
	}
	t := &Throwaway{User: user, engine: e, Container: &Container{engine: e, ID: made.ID, Name: name}}
	if err := t.start(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Throwaway) start(ctx context.Context) error {
	var err error
	path := "/containers/" + url.PathEscape(t.ID)
	if t.held, err = t.engine.hijack(ctx, "attach to a container", path+"/attach", url.Values{"stream": {"1"}, "stdin": {"1"}}, nil); err != nil {
		return err
	}
	if err := t.engine.call(ctx, "start a container", http.MethodPost, path+"/start", nil, nil, nil); err != nil {
		return err
	}
	s, err := t.engine.inspect(ctx, t.ID)
	if err != nil {
		return err
	}
	t.Container = newContainer(t.engine, s)
	return nil
}

// Close ends the container with all that runs in it, and waits until it is gone.
func (t *Throwaway) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	if t.held != nil {
		t.held.conn.Close() // its end says nothing
	}
	return t.engine.remove(ctx, t.ID)
}

// remove removes a container that may be about to remove itself.
func (e *Engine) remove(ctx context.Context, id string) error {
	for {
		err := e.call(ctx, "remove a container", http.MethodDelete, "/containers/"+url.PathEscape(id), url.Values{"force": {"1"}, "v": {"1"}}, nil, nil)
		switch {
		case isStatus(err, http.StatusNotFound):
			return nil
		case err != nil && !isStatus(err, http.StatusConflict): // another removal is under way
			return holdfast.WithHint(err, "docker rm --force "+id)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove a container: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// self names this process in a way that no other one will ever be named, as long as the machine runs.
func self() string {
	space, spaceErr := os.Readlink("/proc/self/ns/pid")
	started, startedErr := startOf(os.Getpid())
	if spaceErr != nil || startedErr != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %s", space, os.Getpid(), started)
}

// startOf is when a process began, in the kernel's ticks: field 22 of /proc/PID/stat, counted behind the name, which may
// hold anything.
func startOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const behindName = 22 - 3
	if len(fields) <= behindName {
		return "", fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return fields[behindName], nil
}

// orphaned reports whether the process that owner names is gone. One that this process could not see counts as alive.
func orphaned(owner string) bool {
	var pid int
	var space, started string
	if n, err := fmt.Sscanf(owner, "%s %d %s", &space, &pid, &started); n != 3 || err != nil {
		return false
	}
	if ours, err := os.Readlink("/proc/self/ns/pid"); err != nil || ours != space {
		return false
	}
	now, err := startOf(pid)
	return errors.Is(err, os.ErrNotExist) || err == nil && now != started
}

// sweep removes the throwaways of processes that are gone. As a rule there are none: they end with their owner, unless
// the engine ended first.
func (e *Engine) sweep(ctx context.Context) error {
	list, err := e.list(ctx, true, drillLabel)
	if err != nil {
		return err
	}
	for _, l := range list {
		if !orphaned(l.Labels[ownerLabel]) {
			continue
		}
		if err := e.remove(ctx, l.ID); err != nil {
			return fmt.Errorf("remove what a drill that was killed left: %w", err)
		}
	}
	return nil
}
