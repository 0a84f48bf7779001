package container_test

import (
	"os"
	"strings"
	"testing"

	"holdfast/internal/container"
	"holdfast/internal/testbed"
)

func TestVolumePath(t *testing.T) {
	e := testbed.Docker(t)
	e.Run(t, "volume", "create", "shop_pgdata")
	e.Run(t, "volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/srv", "elsewhere")
	path, err := container.VolumePath(t.Context(), e.Socket, "shop_pgdata")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() || !strings.HasSuffix(path, "/shop_pgdata/_data") {
		t.Errorf("the folder is %q, %v", path, err)
	}
	_, err = container.VolumePath(t.Context(), e.Socket, "other")
	mustSay(t, err, `the engine has no volume "other"`, "docker volume ls")
	_, err = container.VolumePath(t.Context(), e.Socket, "elsewhere")
	mustSay(t, err, `volume "elsewhere" is not a plain folder`, "name the folder")
	_, err = container.VolumePath(t.Context(), e.Socket, "../x")
	mustSay(t, err, `"../x" is no name of a volume`, "")
	_, err = container.VolumePath(t.Context(), "/nowhere/docker.sock", "x")
	mustSay(t, err, "/nowhere/docker.sock", "")
}
