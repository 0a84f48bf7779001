package unit_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	yaml "go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"holdfast/internal/unit"
)

const server = "postgresql@17-main.service"

// volumes are volumes by name of their case.
func volumes() map[string]unit.Volume {
	return map[string]unit.Volume{
		"file":   {Name: "pg-data", Device: "/srv/pg-data.luks", Mount: "/srv/pg-data", Server: server},
		"device": {Name: "pg-data", Device: "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", Mount: "/srv/pg-data", Server: server},
		"odd":    {Name: "a_b-", Device: "/srv/my disks/50% 'full'.luks", Mount: "/srv/pg's 5% data", Server: `my\x2dpg.service`},
		"alone":  {Name: "0", Device: "/dev/vdb", Mount: "/srv/x"},
	}
}

func volumeUnits(t testing.TB, v unit.Volume) []unit.File {
	t.Helper()
	files, err := unit.VolumeUnits(unit.Options{}, v)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestVolumeGolden(t *testing.T) {
	for name, v := range volumes() {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, file := range volumeUnits(t, v) {
				fmt.Fprintf(&got, "==> %s %04o\n%s\n", file.Path, file.Mode, file.Text)
			}
			overlay, err := unit.Overlay{Volume: v.Name, Service: "db", Data: v.Mount + "/pgdata", Target: "/var/lib/postgresql/data"}.Text()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&got, "==> overlay\n%s", overlay)
			path := filepath.Join("testdata", "volume-"+name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("it differs from %s: run go test -update, and look at what git says is different", path)
			}
		})
	}
}

func TestSystemdTakesVolumes(t *testing.T) {
	for name, v := range volumes() {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			program := filepath.Join(root, "hold fast")
			if err := os.WriteFile(program, []byte("#!/bin/true\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			files, err := unit.VolumeUnits(unit.Options{Program: program}, v)
			if err != nil {
				t.Fatal(err)
			}
			if v.Server != "" {
				files = append(files, unit.File{Path: "/etc/systemd/system/" + v.Server, Mode: 0o644, Text: "[Service]\nExecStart=/bin/true\n"})
			}
			for _, path := range put(t, root, files) {
				// Of the server's it reads the drop-in.
				output, err := analyze(t, "verify", "--man=no", "--recursive-errors=yes", path)
				if err != nil || output != "" {
					t.Errorf("verify %s: %v\n%s", filepath.Base(path), err, output)
				}
			}
		})
	}
}

// TestVolumeExposure holds what the package's documentation states.
func TestVolumeExposure(t *testing.T) {
	path := put(t, t.TempDir(), volumeUnits(t, volumes()["file"]))[0]
	output, err := analyze(t, "security", "--offline=yes", "--no-pager", "--threshold=100", path)
	found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(output)
	if err != nil || found == nil || found[1] != "4.9" {
		t.Errorf("exposure %q, %v\n%s", found, err, output)
	}
}

func TestVolumeRefused(t *testing.T) {
	for name, change := range map[string]func(*unit.Volume){
		"no name":                   func(v *unit.Volume) { v.Name = "" },
		"name of a path":            func(v *unit.Volume) { v.Name = "../x" },
		"upper-case name":           func(v *unit.Volume) { v.Name = "PG" },
		"long name":                 func(v *unit.Volume) { v.Name = strings.Repeat("a", 42) },
		"relative device":           func(v *unit.Volume) { v.Device = "pg.luks" },
		"device not clean":          func(v *unit.Volume) { v.Device = "/srv/../pg.luks" },
		"device with a new line":    func(v *unit.Volume) { v.Device = "/srv/x\nExecStart=/bin/id" },
		"device with a quotation":   func(v *unit.Volume) { v.Device = `/srv/x" /y` },
		"relative mount":            func(v *unit.Volume) { v.Mount = "srv/x" },
		"mount at the root":         func(v *unit.Volume) { v.Mount = "/" },
		"mount with a new line":     func(v *unit.Volume) { v.Mount = "/srv/x\nRequires=other.service" },
		"mount with a colon":        func(v *unit.Volume) { v.Mount = "/srv/x:/y" },
		"mount that ends blank":     func(v *unit.Volume) { v.Mount = "/srv/x " },
		"mount with a continuation": func(v *unit.Volume) { v.Mount = `/srv/x\` },
		"server in a folder":        func(v *unit.Volume) { v.Server = "x/../y.service" },
		"server's template":         func(v *unit.Volume) { v.Server = "postgresql@.service" },
		"no service":                func(v *unit.Volume) { v.Server = "postgresql.socket" },
		"server with a new line":    func(v *unit.Volume) { v.Server = "a\n.service" },
		"long server":               func(v *unit.Volume) { v.Server = strings.Repeat("a", 248) + ".service" },
	} {
		t.Run(name, func(t *testing.T) {
			v := volumes()["file"]
			change(&v)
			files, err := unit.VolumeUnits(unit.Options{}, v)
			wantRefused(t, err)
			if files != nil {
				t.Errorf("it was written all the same: %v", files)
			}
		})
	}
	t.Run("configuration", func(t *testing.T) {
		_, err := unit.VolumeUnits(unit.Options{Config: "holdfast.yaml"}, volumes()["file"])
		wantRefused(t, err)
	})
}

// TestDeviceUnits: systemd calls devices the same.
func TestDeviceUnits(t *testing.T) {
	escape, err := exec.LookPath("systemd-escape")
	if err != nil {
		t.Fatalf("%v: install the package systemd", err)
	}
	rapid.Check(t, func(r *rapid.T) {
		device := "/dev/" + rapid.StringMatching(`[a-zA-Z0-9:_.@+,= -]{1,8}(/[a-zA-Z0-9é:_.@+,= -]{1,8}){0,3}`).Draw(r, "device")
		if strings.HasPrefix(device, "/dev/shm") {
			return // memory, in which a file may be
		}
		files, err := unit.VolumeUnits(unit.Options{}, unit.Volume{Name: "v", Device: device, Mount: "/m"})
		if err != nil {
			if filepath.Clean(device) == device {
				r.Fatalf("%q: %v", device, err)
			}
			return
		}
		output, err := exec.Command(escape, "--path", "--suffix=device", device).Output()
		if err != nil {
			r.Fatalf("escape %q: %v", device, err)
		}
		for _, name := range []string{"Wants=", "After="} {
			if want := "\n" + name + string(output); !strings.Contains(files[0].Text, want) {
				r.Errorf("%q is not in\n%s", want, files[0].Text)
			}
		}
	})
}

func TestOverlay(t *testing.T) {
	type bind struct {
		Type, Source, Target string
		Bind                 map[string]any
	}
	type service struct {
		Restart any
		Volumes []bind
	}
	type file struct{ Services map[string]service }
	path := rapid.OneOf(rapid.Just("/srv/pg-data/pgdata"), rapid.StringMatching(`/.{1,12}`), rapid.Custom(func(r *rapid.T) string { return "/" + rapid.String().Draw(r, "path") }))
	written := 0
	rapid.Check(t, func(r *rapid.T) {
		o := unit.Overlay{
			Volume:  rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,40}`).Draw(r, "volume"),
			Service: rapid.OneOf(rapid.SampledFrom([]string{"db", "no", "null", "1", "0x1", "1e3"}), rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9_.-]{0,9}`)).Draw(r, "service"),
			Data:    path.Draw(r, "data"), Target: path.Draw(r, "target"),
		}
		text, err := o.Text()
		if err != nil {
			if text != "" {
				r.Error("it was written all the same")
			}
			return
		}
		written++
		var got file
		if err := yaml.Load([]byte(text), &got, yaml.WithKnownFields()); err != nil {
			r.Fatalf("%v in\n%s", err, text)
		}
		want := file{map[string]service{o.Service: {
			Restart: "no",
			Volumes: []bind{{Type: "bind", Source: o.Data, Target: o.Target, Bind: map[string]any{"create_host_path": false}}},
		}}}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Errorf("%s of\n%s", diff, text)
		}
		if strings.Contains(text, "$") { // Compose puts something else there
			r.Errorf("a dollar sign is in\n%s", text)
		}
	})
	if written == 0 {
		t.Error("none was written")
	}
	for name, o := range map[string]unit.Overlay{
		"volume":         {Volume: "PG", Service: "db", Data: "/a", Target: "/b"},
		"service":        {Volume: "pg", Service: "db:\n  x", Data: "/a", Target: "/b"},
		"relative data":  {Volume: "pg", Service: "db", Data: "a", Target: "/b"},
		"variable":       {Volume: "pg", Service: "db", Data: "/${HOME}", Target: "/b"},
		"no target":      {Volume: "pg", Service: "db", Data: "/a"},
		"line of target": {Volume: "pg", Service: "db", Data: "/a", Target: "/b\nprivileged: true"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := o.Text()
			wantRefused(t, err)
			if text != "" {
				t.Errorf("it was written all the same:\n%s", text)
			}
		})
	}
}
