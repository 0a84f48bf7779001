package container

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"

	"holdfast"
)

// volumeName is what an engine takes as the name of a volume.
var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// VolumePath is the folder of this host that the volume called name is. Only volumes of the local driver, without a device of their own, are one.
func VolumePath(ctx context.Context, engine, name string) (string, error) {
	if !volumeName.MatchString(name) {
		return "", fmt.Errorf("%w: %q is no name of a volume of containers", holdfast.ErrUsage, name)
	}
	e, err := Open(ctx, engine)
	if err != nil {
		return "", err
	}
	var found struct {
		Driver, Mountpoint string
		Options            map[string]string
	}
	err = e.call(ctx, "look at volume "+name, http.MethodGet, "/volumes/"+url.PathEscape(name), nil, nil, &found)
	switch {
	case isStatus(err, http.StatusNotFound):
		return "", holdfast.WithHint(fmt.Errorf("%w: the engine has no volume %q", holdfast.ErrUsage, name), "`docker volume ls` lists them; compose puts the project's name before it")
	case err != nil:
		return "", err
	case found.Driver != "local" || found.Options["device"] != "":
		return "", holdfast.WithHint(fmt.Errorf("%w: volume %q is not a plain folder of this host", holdfast.ErrUsage, name), "name the folder that its data lies in")
	case !filepath.IsAbs(found.Mountpoint):
		return "", errors.New("the engine says no folder for volume " + name)
	}
	return found.Mountpoint, nil
}
