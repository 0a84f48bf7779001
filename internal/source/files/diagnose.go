package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// maxNamed bounds the paths that one diagnosis names.
const maxNamed = 50

// Diagnose looks up the roots and visits every file to see whether it could be read. It reads no content.
func (s *Source) Diagnose(ctx context.Context) ([]source.Finding, error) {
	var findings []source.Finding
	add := func(severity source.Severity, err error) {
		findings = append(findings, source.Finding{Severity: severity, Message: err.Error(), Fix: holdfast.Hint(err)})
	}
	if len(s.opt.Roots) == 0 {
		_, err := s.plan()
		add(source.Fails, err)
	}
	excludes, err := ParseExcludes(s.opt.Excludes)
	if err != nil {
		add(source.Fails, err)
	}
	v := visit{opt: s.opt, excludes: excludes, used: map[string]bool{}}
	for _, root := range s.opt.Roots {
		t, err := lookUp(root.Path)
		switch {
		case err == nil:
			if err := v.root(ctx, t.path); err != nil {
				return nil, err
			}
		case root.Optional && errors.Is(err, fs.ErrNotExist):
			add(source.Warns, fmt.Errorf("optional root %s does not exist", root.Path))
		default:
			add(source.Fails, err)
		}
	}
	findings = append(findings, v.findings...)
	findings = append(findings, s.leftoverFindings(v.staging)...)
	if v.unnamed > 0 {
		add(v.severity(), fmt.Errorf("and %d more files and folders cannot be read", v.unnamed))
	}
	for _, text := range s.opt.Excludes {
		if !v.used[text] && !strings.HasPrefix(text, presetPrefix) {
			add(source.Warns, holdfast.WithHint(fmt.Errorf("exclude pattern %q matches nothing", text),
				"a pattern with a slash is matched from each root on"))
		}
	}
	if len(findings) == 0 {
		add(source.Fine, fmt.Errorf("%d files of %d bytes can be read", v.files, v.bytes))
	}
	return findings, nil
}

// visit is one look at all trees.
type visit struct {
	opt      Options
	excludes Excludes
	findings []source.Finding
	used     map[string]bool // patterns that matched
	staging  []string        // folders in the trees that look like those of restores
	unnamed  int
	files    int64
	bytes    int64
}

func (v *visit) severity() source.Severity {
	if v.opt.TolerateUnreadable {
		return source.Warns
	}
	return source.Fails
}

func (v *visit) unreadable(path string, err error) {
	if len(v.findings) >= maxNamed {
		v.unnamed++
		return
	}
	v.findings = append(v.findings, source.Finding{
		Severity: v.severity(),
		Message:  fmt.Sprintf("%s cannot be read: %v", factName(path), err),
		Fix:      "run as a user who can read it, exclude it, or let the source tolerate unreadable files",
	})
}

func (v *visit) root(ctx context.Context, root string) error {
	var device uint64
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if stop := ctx.Err(); stop != nil {
			return stop
		}
		if errors.Is(err, fs.ErrNotExist) && path != root {
			return nil
		}
		if err != nil {
			v.unreadable(path, errors.Unwrap(err))
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("visit %s: %w", path, err)
		}
		if rel != "." {
			if text := v.excludes.match(rel, d.IsDir()); text != "" {
				v.used[text] = true
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil // vanished
		}
		if rel == "." {
			device = st.Dev
		}
		if d.IsDir() && stagingName.MatchString(d.Name()) {
			v.staging = append(v.staging, path)
		}
		switch {
		case d.IsDir() && v.opt.OneFilesystem && st.Dev != device:
			return fs.SkipDir
		case d.IsDir() && v.excludes.tagged && hasCacheTag(path):
			return fs.SkipDir
		case d.Type().IsRegular():
			v.files++
			v.bytes += st.Size
			if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS); err != nil {
				v.unreadable(path, err)
			}
		}
		return nil
	})
}

// leftoverFindings tells of what killed restores left beside the roots and within.
func (s *Source) leftoverFindings(paths []string) []source.Finding {
	for _, root := range s.opt.Roots {
		entries, err := os.ReadDir(filepath.Dir(root.Path))
		if err != nil {
			continue // the root itself was looked at
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), filepath.Base(root.Path)+stagingMark) && stagingName.MatchString(entry.Name()) {
				paths = append(paths, filepath.Join(filepath.Dir(root.Path), entry.Name()))
			}
		}
	}
	slices.Sort(paths)
	var findings []source.Finding
	for _, path := range slices.Compact(paths) {
		if finding, found := leftoverFinding(path); found {
			findings = append(findings, finding)
		}
	}
	return findings
}

func hasCacheTag(folder string) bool {
	f, err := os.Open(folder)
	if err != nil {
		return false
	}
	defer f.Close()
	return isCache(int(f.Fd()), []string{cacheTag})
}
