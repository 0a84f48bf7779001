package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/source"
)

// openFolder is a temporary folder that every user can get into.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for above := dir; above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestEyesOfAnotherUser: what an account can read is found out by the kernel, and root's rights are no help.
func TestEyesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look with the eyes of another user")
	}
	dir := openFolder(t)
	write(t, dir+"/open/a", "x", 0o644)
	write(t, dir+"/mixed/private", "x", 0o600)
	write(t, dir+"/mixed/open", "x", 0o644)
	write(t, dir+"/group/shared", "x", 0o640)
	write(t, dir+"/closed/in/a", "x", 0o644)
	write(t, dir+"/app.db", "x", 0o600)
	for path, group := range map[string]int{dir + "/group/shared": 71235, dir + "/mixed/private": 0} {
		if err := os.Chown(path, 71299, group); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir+"/closed", 0o700); err != nil {
		t.Fatal(err)
	}
	files := func(path string, exclude ...string) config.Source {
		return config.Source{Name: "x", Kind: holdfast.KindFiles, Files: config.Files{Paths: []config.FilePath{{Path: path}}, Exclude: exclude}}
	}
	who := account{name: "backup", uid: 71234, groups: []int{71234, 71235}}
	for name, test := range map[string]struct {
		src  config.Source
		who  account
		want string // "": it can read everything
	}{
		"all open":            {files(dir + "/open"), who, ""},
		"a private file":      {files(dir + "/mixed"), who, "private cannot be read"},
		"that is left out":    {files(dir+"/mixed", "private"), who, ""},
		"of a group":          {files(dir + "/group"), who, ""},
		"of another group":    {files(dir + "/group"), account{name: "x", uid: 71234, groups: []int{71234}}, "shared cannot be read"},
		"its owner":           {files(dir + "/mixed"), account{name: "x", uid: 71299, groups: []int{1}}, ""},
		"behind a closed one": {files(dir + "/closed/in"), who, "permission denied"},
		"within a closed one": {files(dir), who, "/closed cannot be read"},
		"root without rights": {files(dir + "/mixed"), account{name: "root", uid: 0, groups: []int{0}}, "private cannot be read"},
		"root's own":          {files(dir + "/closed"), account{name: "root", uid: 0, groups: []int{0}}, ""},
		"a database":          {config.Source{Kind: holdfast.KindSQLite, SQLite: config.SQLite{Path: dir + "/app.db"}}, who, "app.db cannot be read"},
		"a missing database":  {config.Source{Kind: holdfast.KindSQLite, SQLite: config.SQLite{Path: dir + "/no.db"}}, who, ""},
		"a server":            {config.Source{Kind: holdfast.KindPostgres}, who, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{}
			closed, err := a.closedTo(t.Context(), &config.Config{}, test.src, test.who)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" && len(closed) > 0 || test.want != "" && !slices.ContainsFunc(closed, func(f source.Finding) bool { return strings.Contains(f.Message, test.want) }) {
				t.Errorf("closed is %+v, want %q", closed, test.want)
			}
		})
	}
	if err := unix.Access(dir+"/closed/in/a", unix.R_OK); err != nil || os.Geteuid() != 0 {
		t.Errorf("this process is not what it was: %v", err)
	}
	unknown, err := accountNamed("no-such-user-of-holdfast")
	if err != nil || unknown.uid != nobodysNumber {
		t.Errorf("an account that is not there is %+v, error %v", unknown, err)
	}
}

// TestDoctorGoesByTheUnits: where units make the backups, it counts what their user can read, and who holds an identity.
func TestDoctorGoesByTheUnits(t *testing.T) {
	dir := openFolder(t)
	units := filepath.Join(dir, "units")
	if found := installedIn(units); found != (installed{}) {
		t.Errorf("without a folder there is %+v", found)
	}
	write(t, units+"/holdfast.service", "[Service]\nExecStart=/bin/hf serve --tasks backups\nUser=no-such-user-of-holdfast\nAmbientCapabilities=\n", 0o644)
	here := installedIn(units)
	if want := (installed{unit: "holdfast.service", user: "no-such-user-of-holdfast"}); here != want {
		t.Errorf("found %+v, want %+v", here, want)
	}
	write(t, dir+"/data/private", "x", 0o600)
	src := config.Source{Name: "x", Kind: holdfast.KindFiles, Files: config.Files{Paths: []config.FilePath{{Path: dir + "/data"}}}}
	a := &app{Process: Process{Now: time.Now}}
	read := func() []source.Finding {
		return a.readerFindings(t.Context(), &config.Config{}, src, installedIn(units), nil)
	}
	if os.Geteuid() == 0 {
		if got := read(); len(got) != 1 || got[0].Severity != source.Fails || !strings.Contains(got[0].Message, "as whom holdfast.service runs, cannot read all of it") || !strings.Contains(got[0].Fix, "CAP_DAC_READ_SEARCH") {
			t.Errorf("found %+v", got)
		}
	}
	write(t, units+"/holdfast.service", "[Service]\nUser=no-such-user-of-holdfast\nAmbientCapabilities=CAP_DAC_READ_SEARCH\n", 0o644)
	if got := read(); len(got) != 0 {
		t.Errorf("with the right to read, found %+v", got)
	}
	host := func() string { return fmt.Sprint(hostFindings(t.Context(), &config.Config{}, nil, installedIn(units))) }
	if got := host(); strings.Contains(got, "holds an identity") || !strings.Contains(got, "no channel is configured") {
		t.Errorf("found %s", got)
	}
	write(t, units+"/holdfast-app-drill.service", "[Service]\nExecStart=/bin/hf drill --identity \"/etc/hold fast/100%%.txt\" --config x\nUser=root\n", 0o644)
	if got := host(); !strings.Contains(got, "holds an identity too") || !strings.Contains(got, "/etc/hold fast/100%.txt") {
		t.Errorf("found %s", got)
	}
	if err := os.Remove(units + "/holdfast.service"); err != nil {
		t.Fatal(err)
	}
	if got := host(); strings.Contains(got, "holds an identity") {
		t.Errorf("on a machine that only drills, found %s", got)
	}
}

func TestUnreadableFixIsThatOfTheSource(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look with the eyes of another user")
	}
	dir := openFolder(t)
	write(t, dir+"/private", "x", 0o600)
	closed, err := (&app{}).closedTo(t.Context(), &config.Config{}, config.Source{Name: "x", Kind: holdfast.KindFiles, Files: config.Files{Paths: []config.FilePath{{Path: dir}}}},
		account{name: "x", uid: 71234, groups: []int{71234}})
	if err != nil || len(closed) != 1 || !strings.HasPrefix(closed[0].Fix, unreadableFix) {
		t.Errorf("closed is %+v, error %v: doctor would not know it for what it is", closed, err)
	}
}
