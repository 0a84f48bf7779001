package volume_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"holdfast/internal/volume"
)

// The forms of proc_pid_mountinfo(5): blanks and other bytes in octal, tags or none, a bind mount, a mount on a mount, one above that.
const someMounts = `27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 253:1 / /srv/pg\040data rw,relatime shared:5 master:3 propagate_from:2 unbindable - ext4 /dev/mapper/pg-data rw
41 40 8:17 /a\134b\011c /srv/pg\040data/pgdata rw - xfs /dev/sdb1 rw
50 27 8:2 / /mnt rw - ext4 /dev/sda2 rw
51 50 8:3 / /mnt/x rw - ext4 /dev/sda3 rw
52 50 8:4 / /mnt rw - ext4 /dev/sda4 rw
60 27 8:5 / /opt rw - ext4 /dev/sda5 rw
61 60 8:6 / /opt rw - ext4 /dev/sda6 rw
62 61 8:7 / /opt/deep rw - ext4 /dev/sda7 rw
`

func TestMountAt(t *testing.T) {
	for path, want := range map[string]string{
		"/":                         "254:0 on /",
		"/etc":                      "254:0 on /",
		"/proc/1":                   "0:21 on /proc",
		"/process":                  "254:0 on /",
		"/srv/pg data":              "253:1 on /srv/pg data",
		"/srv/pg data/pgdata/base":  "8:17 on /srv/pg data/pgdata",
		"/srv/pg data/pgdata2/base": "253:1 on /srv/pg data",
		"/mnt/x":                    "8:4 on /mnt", // hidden by what is mounted over /mnt
		"/opt/deep/er":              "8:7 on /opt/deep",
		"/opt":                      "8:6 on /opt",
	} {
		if got, err := volume.MountAt([]byte(someMounts), path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestMountAtFails(t *testing.T) {
	for _, text := range []string{"x", "1 2 3:4 / / rw", "1 2 3:4 / rw - ext4 x rw", "a 2 3:4 / / rw - ext4 x rw", "1 b 3:4 / / rw - ext4 x rw"} {
		if got, err := volume.MountAt([]byte(text+"\n"), "/"); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got, err := volume.MountAt(nil, "/"); err != nil || got != "" {
		t.Errorf("nothing mounted: %q, %v", got, err)
	}
	// Mounts that are each other's parents do not hang.
	loop := "1 0 1:1 / / rw - a a rw\n2 1 1:2 / /a rw - a a rw\n3 2 1:3 / /a rw - a a rw\n2 3 1:4 / /a rw - a a rw\n"
	if _, err := volume.MountAt([]byte(loop), "/a"); err != nil {
		t.Error(err)
	}
}

func TestUnescape(t *testing.T) {
	for text, want := range map[string]string{`a\040b`: "a b", `\134040`: `\040`, `\0`: `\0`, `a\999b`: `a\999b`, `\043\012`: "#\n", "plain": "plain", "": ""} {
		if got := volume.Unescape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "path")
		var escaped strings.Builder
		for _, b := range []byte(want) { // as the kernel's mangle does
			if strings.IndexByte(" \t\n\\#", b) >= 0 {
				fmt.Fprintf(&escaped, `\%03o`, b)
			} else {
				escaped.WriteByte(b)
			}
		}
		if got := volume.Unescape(escaped.String()); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func FuzzMounts(f *testing.F) {
	f.Add(someMounts, "/mnt/x")
	f.Fuzz(func(t *testing.T, text, path string) {
		if _, err := volume.MountAt([]byte(text), path); err != nil && !strings.Contains(err.Error(), "mountinfo has the line") {
			t.Error(err)
		}
	})
}
