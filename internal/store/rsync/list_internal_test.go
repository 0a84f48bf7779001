package rsync

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/store"
)

func TestParseList(t *testing.T) {
	out := `drwx------        4,096 2026/11/28 19:32:48 .
-rw-r--r--           84 2026/11/28 19:32:48 .holdfast-store
-rw-------  123,456,789,012 2026/01/02 03:04:05 a/b.age
-rw-------. 99999999999999999 2026/01/02 03:04:05 z
lrwxrwxrwx           11 2026/11/28 19:32:48 link -> a/b.age
-rw-------            1 2026/11/28 19:32:48 with space
-rw-------            1 2026/11/28 19:32:48 new\#012line
`
	objects, marked, err := parseList([]byte(out))
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := []store.Object{{Name: "a/b.age", Size: 123456789012, Modified: when}, {Name: "z", Size: 99999999999999999, Modified: when}}
	if err != nil || !marked || !slices.Equal(objects, want) {
		t.Errorf("%v, %v, %v; want %v", objects, marked, err, want)
	}
	for _, bad := range []string{"-rw------- x 2026/11/28 19:32:48 a", "-rw-------", "-rw------- 1 2026/13/28 19:32:48 a", "-rw------- 99999999999999999999 2026/11/28 19:32:48 a"} {
		if _, _, err := parseList([]byte(bad + "\n")); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("-rw-r--r--           84 2026/11/28 19:32:48 .holdfast-store\n-rw-------  1,234 2026/01/02 03:04:05 a/b\n"))
	f.Add([]byte("drwx------ 4096 2026/11/28 19:32:48 .\nskipping\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		objects, _, err := parseList(out)
		if err != nil && len(objects) > 0 {
			t.Error("a list and an error")
		}
		for _, object := range objects {
			if store.CheckName(object.Name) != nil || object.Size < 0 {
				t.Errorf("%+v is no object", object)
			}
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("rsync: [sender] link_stat \"/x\" failed: No such file or directory (2)\n\x1b[31mred\x07\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got := printable(text); strings.ContainsAny(got, "\n\r\x1b\x07\x00") {
			t.Errorf("%q", got)
		}
	})
}

func FuzzTransferred(f *testing.F) {
	f.Add([]byte("<f+++++++++ a/b\ncd+++++++++ a/\n<fcsT...... c\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, name := range transferred(out) {
			if strings.Contains(name, "\n") {
				t.Errorf("%q", name)
			}
		}
	})
}
