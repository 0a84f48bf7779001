package volume_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/volume"
)

func TestBackupHeader(t *testing.T) {
	path := made(t)
	host := volume.Host{Now: today}
	want, err := host.Header(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "header")
	got, err := host.BackupHeader(t.Context(), path, backup)
	if err != nil || got.UUID != want.UUID || got.Label != "pg-data" || !slices.Equal(got.Slots, want.Slots) {
		t.Fatalf("got %+v, %v", got, err)
	}
	info, err := os.Stat(backup)
	if err != nil || info.Mode().Perm()&0o077 != 0 || info.Size() != headerSize {
		t.Errorf("the copy: %v, %v", info, err)
	}
	_, err = host.BackupHeader(t.Context(), path, backup)
	if !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("over another: %v", err)
	}
	sane(t, err)
	if _, err := os.Stat(backup); err != nil {
		t.Errorf("what was there is gone: %v", err)
	}

	// An old copy opens with an old passphrase, whatever was rotated since: and it restores a header that is lost.
	if _, _, err := host.RotateKey(t.Context(), path, volume.Rotation{Role: volume.Operational, Old: operational, New: fresh, Other: recovery}); err != nil {
		t.Fatal(err)
	}
	if got := opened(t, backup, operational, recovery, fresh); !slices.Equal(got, []string{"0 operational", "1 recovery", "none"}) {
		t.Errorf("the old copy opens with %q", got)
	}
	overwrite(t, path, 0, make([]byte, headerSize))
	if _, err := host.Header(t.Context(), path); !errors.Is(err, volume.ErrNotVolume) {
		t.Errorf("a header of zeroes: %v", err)
	}
	cryptsetup(t, nil, "", "luksHeaderRestore --batch-mode --header-backup-file "+backup+" "+path)
	if got := opened(t, path, operational, recovery, fresh); !slices.Equal(got, []string{"0 operational", "1 recovery", "none"}) {
		t.Errorf("the restored header opens with %q", got)
	}
}

func TestBackupHeaderFails(t *testing.T) {
	template := made(t)
	whole := realRunner(t)
	if _, err := hostOf(whole).BackupHeader(t.Context(), template, filepath.Join(t.TempDir(), "header")); err != nil {
		t.Fatal(err)
	}
	for kind, how := range map[string]fault{"killed": killed(), "lost": lost(), "exits": exits(4)} {
		for n := 1; n <= len(whole.actions()); n++ {
			t.Run(fmt.Sprintf("%s at %d", kind, n), func(t *testing.T) {
				backup := filepath.Join(t.TempDir(), "header")
				_, err := hostOf(realRunner(t).fail(n, how)).BackupHeader(t.Context(), template, backup)
				if err == nil {
					t.Fatal("it did not fail")
				}
				sane(t, err)
				if _, err := os.Stat(backup); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a copy was left: %v", err)
				}
			})
		}
	}
	other := made(t)
	another := func(ctx context.Context, c volume.Command) (volume.Output, error) {
		c.Args = slices.Clone(c.Args)
		c.Args[slices.Index(c.Args, template)] = other
		return volume.RunProgram(ctx, c)
	}
	for _, test := range []struct {
		name, device, path string
		answer             volume.Runner
		is                 error
		says               string
	}{
		{"no folder", template, filepath.Join(t.TempDir(), "none", "header"), volume.RunProgram, nil, "luksHeaderBackup"},
		{"no absolute path", template, "header", nil, holdfast.ErrUsage, "not absolute"},
		{"no volume", filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "header"), nil, fs.ErrNotExist, "no such file"},
		{"the copy is another header", template, filepath.Join(t.TempDir(), "header"), another, holdfast.ErrDifference, "other slots or another UUID"},
		{"the copy is none", template, filepath.Join(t.TempDir(), "header"), func(context.Context, volume.Command) (volume.Output, error) {
			return volume.Output{}, os.WriteFile(filepath.Join(filepath.Dir(template), "copy"), nil, 0o600)
		}, fs.ErrNotExist, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := realRunner(t)
			if test.answer != nil {
				f.on("cryptsetup luksHeaderBackup", test.answer)
			}
			_, err := hostOf(f).BackupHeader(t.Context(), test.device, test.path)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
			if _, err := os.Stat(test.path); err == nil {
				t.Error("a copy was left")
			}
		})
	}
}

func TestReadBackup(t *testing.T) {
	needCryptsetup(t)
	path := filepath.Join(t.TempDir(), "header")
	write(t, path, strings.Repeat("not a header", 4000))
	_, err := volume.Host{}.ReadBackup(t.Context(), path)
	if !errors.Is(err, volume.ErrNotVolume) || !strings.Contains(holdfast.Hint(err), "take another one") {
		t.Errorf("got %v, %q", err, holdfast.Hint(err))
	}
	sane(t, err)
}
