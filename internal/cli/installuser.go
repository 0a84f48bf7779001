package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/source"
)

// account is a user as the kernel sees it.
type account struct {
	name   string
	uid    int
	groups []int // its own first
}

// nobodysNumber is that of an account which is not there yet: it owns nothing and is in no group.
const nobodysNumber = 1<<31 - 16

func accountNamed(name string) (account, error) {
	who := account{name: name, uid: nobodysNumber, groups: []int{nobodysNumber}}
	entry, err := user.Lookup(name)
	if errors.As(err, new(user.UnknownUserError)) {
		return who, nil
	}
	if err != nil {
		return who, fmt.Errorf("look up user %s: %w", name, err)
	}
	groups, err := entry.GroupIds()
	if err != nil {
		return who, fmt.Errorf("look up the groups of user %s: %w", name, err)
	}
	who.groups = nil
	for _, text := range append([]string{entry.Uid, entry.Gid}, groups...) {
		id, err := strconv.Atoi(text)
		if err != nil {
			return who, fmt.Errorf("look up user %s: %w", name, err)
		}
		who.groups = append(who.groups, id)
	}
	who.uid, who.groups = who.groups[0], who.groups[1:]
	return who, nil
}

func (who account) owns(info fs.FileInfo) bool {
	of, known := info.Sys().(*syscall.Stat_t)
	return known && int(of.Uid) == who.uid
}

func (who account) ownsPath(path string) bool {
	info, err := os.Stat(path)
	return err == nil && who.owns(info)
}

var errNotRoot = errors.New("only root can look with the eyes of another user")

// do runs fn with the file permissions of the account, and none of root's, on a thread that ends with it. What fn starts in other
// goroutines has those of this process.
func (who account) do(fn func() error) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is of no use to others
		err := who.become()
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

func (who account) become() error {
	if err := unix.Setgroups(who.groups); err != nil {
		return fmt.Errorf("take the groups of user %s: %w", who.name, err)
	}
	// They return what was before, and no error: a second call tells what is now.
	_ = unix.Setfsgid(who.groups[0])
	_ = unix.Setfsuid(who.uid)
	if uid, _ := unix.SetfsuidRetUid(-1); uid != who.uid {
		return fmt.Errorf("take the place of user %s: %w", who.name, unix.EPERM)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("give up root's rights: %w", err)
	}
	return nil
}

// closedTo lists what a backup of a source meets that the account cannot read, and root can. It fails with errNotRoot when it cannot know.
func (a *app) closedTo(ctx context.Context, cfg *config.Config, src config.Source, who account) ([]source.Finding, error) {
	switch src.Kind {
	case holdfast.KindSQLite:
		var closed []source.Finding
		err := who.do(func() error {
			if err := unix.Faccessat(unix.AT_FDCWD, src.SQLite.Path, unix.R_OK, unix.AT_EACCESS); errors.Is(err, fs.ErrPermission) {
				closed = append(closed, source.Finding{Severity: source.Fails, Message: src.SQLite.Path + " cannot be read"})
			}
			return nil
		})
		return closed, err
	case holdfast.KindFiles:
		return a.closedFiles(ctx, cfg, src, who)
	}
	return nil, nil
}

func (a *app) closedFiles(ctx context.Context, cfg *config.Config, src config.Source, who account) ([]source.Finding, error) {
	files, err := a.newSource(ctx, cfg, src)
	if err != nil {
		return nil, err
	}
	open, err := files.Diagnose(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, f := range open {
		known[f.Message] = true
	}
	var seen, closed []source.Finding
	if err := who.do(func() (err error) {
		seen, err = files.Diagnose(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	for _, f := range seen {
		// Less is seen, and so counted, of what is closed: that alone is no finding.
		if f.Severity != source.Fine && !known[f.Message] {
			closed = append(closed, f)
		}
	}
	return closed, nil
}

// installed is what the units of this host say.
type installed struct {
	unit     string // that makes backups; "" when none does
	user     string
	readAll  bool
	identity string // of the unit that drills; ""
}

var (
	userLine       = regexp.MustCompile(`(?m)^User=(\S+)$`)
	capabilityLine = regexp.MustCompile(`(?m)^AmbientCapabilities=.*\bCAP_DAC_READ_SEARCH\b`)
	identityWord   = regexp.MustCompile(`(?m)^ExecStart=.* --identity (?:"([^"]+)"|(\S+))`)
)

// installedIn reads units that `holdfast install systemd` wrote. What cannot be read is taken for not there.
func installedIn(folder string) installed {
	var found installed
	paths, _ := filepath.Glob(filepath.Join(folder, "holdfast*.service")) // the pattern is well formed
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		name := filepath.Base(path)
		if drillUnit(name) {
			if match := identityWord.FindSubmatch(text); match != nil {
				found.identity = strings.ReplaceAll(string(match[1])+string(match[2]), "%%", "%")
			}
			continue
		}
		if match := userLine.FindSubmatch(text); match != nil {
			found.unit, found.user, found.readAll = name, string(match[1]), capabilityLine.Match(text)
		}
	}
	return found
}
