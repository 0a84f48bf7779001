package container_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"holdfast/internal/container"
	"holdfast/internal/testbed"
)

func TestThrowaway(t *testing.T) {
	e := testbed.Docker(t)
	// What a drill that was killed left, of a process that is long gone, and one that nobody here can judge.
	e.Run(t, "create", "--name", "left", "--label", "holdfast.drill=left", "--label", "holdfast.owner="+owner(t)+" 1 1", testbed.Image)
	e.Run(t, "create", "--name", "other", "--label", "holdfast.drill=other", "--label", "holdfast.owner=pid:[1] 1 1", testbed.Image)
	held, err := container.NewThrowaway(t.Context(), container.ThrowawayOptions{Engine: e.Socket, Image: testbed.Image, User: "postgres",
		Scratch: map[string]int64{"/scratch": 8 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	if names := e.Run(t, "ps", "--all", "--format", "{{.Names}}"); strings.Contains(names, "left") || !strings.Contains(names, "other") {
		t.Errorf("containers are %q", names)
	}
	for _, test := range []struct{ script, want string }{
		{"id -un", "postgres\n"},
		{"cat /proc/net/dev", "lo"},
		{"echo x >/scratch/x && cat /scratch/x", "x\n"},
		{"echo x >/etc/x", "Read-only file system"},
		{"cat /proc/mounts", "tmpfs /var/lib/postgresql/data tmpfs"},
		{"cat /proc/self/status", "CapEff:\t0000000000000000\n"},
		{"cat /proc/self/status", "NoNewPrivs:\t1\n"},
	} {
		var out bytes.Buffer
		x, err := held.Start(t.Context(), container.Command{Argv: []string{"sh", "-c", test.script}, User: held.User, Stdout: &out, Stderr: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), test.want) || strings.Contains(out.String(), "eth0") {
			t.Errorf("%s: %q, want %q", test.script, out.String(), test.want)
		}
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if names := e.Run(t, "ps", "--all", "--format", "{{.Names}}"); names != "other" {
		t.Errorf("containers are %q", names)
	}
	if volumes := e.Run(t, "volume", "ls", "--quiet", "--filter", "dangling=true"); volumes != "" {
		t.Errorf("volumes are left: %q", volumes)
	}
	_, err = container.NewThrowaway(t.Context(), container.ThrowawayOptions{Engine: e.Socket, Image: "nowhere/at:all", User: "postgres"})
	mustSay(t, err, `has no image "nowhere/at:all"`, "docker pull nowhere/at:all")
	other, err := container.NewThrowaway(t.Context(), container.ThrowawayOptions{Engine: e.Socket, Image: testbed.Image, User: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	if other.User != "postgres" {
		t.Errorf("the image's own user is %q", other.User)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

// owner is the name of the space that process numbers of this test are in.
func owner(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("readlink", "/proc/self/ns/pid").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
