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
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/volume"
)

// machine is a host without device mapper. Headers are cryptsetup's own, on files; mappings are played in a folder that stands for /sys, and what
// a volume holds is a folder that is bound to its mount point. It outlives whoever works on it, as a kernel does.
type machine struct {
	*fake
	root           string
	mapped         map[string]string // mapping → content, which is named after the device's inode
	mounts         []played
	next           int
	readOnly, lies bool // what the next mounts do
}

type played struct{ point, mapping, dev string }

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("bind mounts and immutable folders need root")
	}
	m := &machine{fake: realRunner(t), root: t.TempDir(), mapped: map[string]string{}}
	for _, dir := range []string{"/sys/class/block", "/proc/self/ns", "/run", "/content"} {
		m.check(os.MkdirAll(m.root+dir, 0o755))
	}
	m.check(os.Symlink("mnt:[1]", m.root+"/proc/self/ns/mnt"))
	m.tell()
	t.Cleanup(m.drop)
	m.on("cryptsetup open", m.openMapping).on("cryptsetup close", m.closeMapping).on("mount", m.mount).on("umount", m.umount)
	m.on("mkfs.ext4", m.mkfs).on("mkfs.xfs", m.mkfs).on("fsck.ext4", says("", 0))
	return m
}

func (m *machine) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) host() volume.Host { return volume.Host{Run: m.run, Root: m.root, Now: today} }

// volume is one in a file, with an empty place to be mounted.
func (m *machine) volume() volume.Volume {
	dir := m.t.TempDir()
	v := volume.Volume{Name: "pg-data", Device: dir + "/pg-data.luks", Mount: dir + "/mnt point", UID: 999, GID: 998, Mode: 0o750, Data: "pgdata"}
	m.t.Cleanup(func() {
		m.drop()
		m.check(m.host().Unguard(v))
	})
	return v
}

func (m *machine) creation(v volume.Volume) volume.Creation {
	return volume.Creation{
		Volume: v, Size: 48 << 20, Operational: operational, Recovery: recovery, KDF: volume.KDF{MemoryKiB: 1024, Iterations: 4, Lanes: 1},
		Backup: func(context.Context, string) error { return nil },
	}
}

// drop takes all mounts down, those that are only said to be there too.
func (m *machine) drop() {
	for _, p := range m.mounts {
		_ = unix.Unmount(p.point, unix.MNT_DETACH)
	}
	m.mounts = nil
	m.tell()
}

// made is a volume as create leaves it. The first in this process is made by create, and has its header copied for all others.
func (m *machine) made() volume.Volume {
	m.t.Helper()
	firstHeader.Lock()
	defer firstHeader.Unlock()
	v := m.volume()
	if firstHeader.bytes == nil {
		_, err := m.host().Create(m.t.Context(), m.creation(v))
		m.check(err)
		all, err := os.ReadFile(v.Device)
		m.check(err)
		firstHeader.bytes = all[:16<<20]
		return v
	}
	m.check(errors.Join(os.WriteFile(v.Device, firstHeader.bytes, 0o600), os.Truncate(v.Device, 48<<20)))
	info, err := os.Stat(v.Device)
	m.check(err)
	data := fmt.Sprintf("%s/content/%d/pgdata", m.root, info.Sys().(*syscall.Stat_t).Ino)
	m.check(errors.Join(os.MkdirAll(data, 0o755), os.Mkdir(filepath.Dir(data)+"/lost+found", 0o755), os.Chmod(data, 0o750), os.Chown(data, v.UID, v.GID)))
	m.check(m.host().Guard(v))
	m.unlock(v)
	return v
}

func (m *machine) unlock(v volume.Volume) {
	m.t.Helper()
	_, err := m.host().Unlock(m.t.Context(), v, operational)
	m.check(err)
}

// firstHeader is the header of the first volume.
var firstHeader struct {
	sync.Mutex
	bytes []byte
}

// tell writes what /proc says of mounts.
func (m *machine) tell() {
	lines := []string{"1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"}
	for i, p := range m.mounts {
		lines = append(lines, fmt.Sprintf("%d 1 %s / %s rw,relatime shared:%d - ext4 /dev/mapper/%s rw", 10+i, p.dev, strings.ReplaceAll(p.point, " ", `\040`), 10+i, p.mapping))
	}
	m.check(os.WriteFile(m.root+"/proc/self/mountinfo", []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

func (m *machine) device(kernel string, attributes map[string]string) {
	for name, value := range attributes {
		path := filepath.Join(m.root, "/sys/class/block", kernel, name)
		m.check(os.MkdirAll(filepath.Dir(path), 0o755))
		m.check(os.WriteFile(path, []byte(value+"\n"), 0o644))
	}
}

func (m *machine) openMapping(ctx context.Context, c volume.Command) (volume.Output, error) {
	device, name := c.Args[len(c.Args)-2], c.Args[len(c.Args)-1]
	if _, taken := m.mapped[name]; taken {
		return volume.Output{Code: 5, Stderr: []byte("Device " + name + " already exists.")}, nil
	}
	test := volume.Command{Args: append(slices.Clone(c.Args[:len(c.Args)-1]), "--test-passphrase"), Secrets: c.Secrets}
	out, err := volume.RunProgram(ctx, test)
	if err != nil || out.Code != 0 {
		return out, err
	}
	info, err := os.Stat(device)
	m.check(err)
	stat := info.Sys().(*syscall.Stat_t)
	m.mapped[name] = fmt.Sprintf("%s/content/%d", m.root, stat.Ino)
	m.next++
	dm := fmt.Sprintf("dm-%d", m.next)
	m.device(dm, map[string]string{"dm/name": name, "dm/uuid": "CRYPT-LUKS2-0123-" + name, "dev": fmt.Sprintf("253:%d", m.next), "stat": "1 0 8 2 3 0 24 6 0 5 8", "holders/.keep": ""})
	m.check(os.Remove(m.root + "/sys/class/block/" + dm + "/holders/.keep"))
	below := filepath.Base(device)
	if info.Mode()&fs.ModeDevice == 0 {
		below = fmt.Sprintf("loop%d", m.next)
		real, err := filepath.EvalSymlinks(device)
		m.check(err)
		m.device(below, map[string]string{"loop/backing_file": real, "dev": fmt.Sprintf("7:%d", m.next)})
	} else {
		m.device(below, map[string]string{"dev": fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))})
	}
	m.device(dm, map[string]string{"slaves/" + below: ""})
	return out, nil
}

// kernel finds a mapping's device.
func (m *machine) kernel(name string) (kernel, dev string) {
	entries, err := os.ReadDir(m.root + "/sys/class/block")
	m.check(err)
	for _, entry := range entries {
		if text, err := os.ReadFile(m.root + "/sys/class/block/" + entry.Name() + "/dm/name"); err == nil && string(text) == name+"\n" {
			dev, err := os.ReadFile(m.root + "/sys/class/block/" + entry.Name() + "/dev")
			m.check(err)
			return entry.Name(), strings.TrimSpace(string(dev))
		}
	}
	return "", ""
}

func (m *machine) closeMapping(_ context.Context, c volume.Command) (volume.Output, error) {
	name := c.Args[2]
	kernel, dev := m.kernel(name)
	if kernel == "" {
		return volume.Output{Code: 4, Stderr: []byte("Device " + name + " is not active.")}, nil
	}
	if slices.ContainsFunc(m.mounts, func(p played) bool { return p.dev == dev }) {
		return volume.Output{Code: 5, Stderr: []byte("Device " + name + " is still in use.")}, nil
	}
	slaves, err := os.ReadDir(m.root + "/sys/class/block/" + kernel + "/slaves")
	m.check(err)
	for _, slave := range slaves {
		m.check(os.RemoveAll(m.root + "/sys/class/block/" + slave.Name()))
	}
	m.check(os.RemoveAll(m.root + "/sys/class/block/" + kernel))
	delete(m.mapped, name)
	return volume.Output{}, nil
}

func (m *machine) mkfs(_ context.Context, c volume.Command) (volume.Output, error) {
	if c.Args[1] == "-V" {
		return volume.Output{}, nil
	}
	name := filepath.Base(c.Args[len(c.Args)-1])
	m.check(os.MkdirAll(m.mapped[name]+"/lost+found", 0o755))
	return volume.Output{}, nil
}

func (m *machine) mount(_ context.Context, c volume.Command) (volume.Output, error) {
	if c.Args[1] == "--version" {
		return volume.Output{}, nil
	}
	name, point := filepath.Base(c.Args[5]), c.Args[6]
	content, _ := os.Stat(m.mapped[name])
	if content == nil {
		return volume.Output{Code: 32, Stderr: []byte("wrong fs type, bad superblock")}, nil
	}
	if m.lies {
		return volume.Output{}, nil
	}
	_, dev := m.kernel(name)
	m.check(unix.Mount(m.mapped[name], point, "", unix.MS_BIND, ""))
	if m.readOnly {
		m.check(unix.Mount("", point, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	m.mounts = append(m.mounts, played{point, name, dev})
	m.tell()
	return volume.Output{}, nil
}

func (m *machine) umount(_ context.Context, c volume.Command) (volume.Output, error) {
	if c.Args[1] == "--version" {
		return volume.Output{}, nil
	}
	i := slices.IndexFunc(m.mounts, func(p played) bool { return p.point == c.Args[1] })
	if i < 0 {
		return volume.Output{Code: 32, Stderr: []byte("not mounted")}, nil
	}
	if err := unix.Unmount(c.Args[1], 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return volume.Output{Code: 32, Stderr: []byte("target is busy")}, nil
	}
	m.mounts = slices.Delete(m.mounts, i, i+1)
	m.tell()
	return volume.Output{}, nil
}

// process puts one into /proc. links are of its folder there: "cwd", "fd/3", "ns/mnt".
func (m *machine) process(pid int, name string, uid int, links map[string]string) {
	m.t.Helper()
	dir := fmt.Sprintf("%s/proc/%d", m.root, pid)
	m.check(errors.Join(os.MkdirAll(dir+"/fd", 0o755), os.MkdirAll(dir+"/ns", 0o755)))
	if links["ns/mnt"] == "" {
		m.check(os.Symlink("mnt:[1]", dir+"/ns/mnt"))
	}
	for link, target := range links {
		m.check(os.Symlink(target, dir+"/"+link))
	}
	m.check(os.WriteFile(dir+"/comm", []byte(name+"\n"), 0o644))
	m.check(os.WriteFile(dir+"/status", fmt.Appendf(nil, "Name:\t%s\nUid:\t%d\t%d\t%d\t%d\n", name, uid, uid, uid, uid), 0o644))
}

func (m *machine) vanish(pid int) { m.check(os.RemoveAll(fmt.Sprintf("%s/proc/%d", m.root, pid))) }

// ownDevice gives the mapping the number of the file system that its content really lies on, so that links of /proc lead to it. Processes' other
// links must then lead elsewhere: to /proc or /dev.
func (m *machine) ownDevice(v volume.Volume) {
	m.t.Helper()
	var stat unix.Stat_t
	m.check(unix.Stat(v.Mount, &stat))
	dev := fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	kernel, _ := m.kernel(string(v.Name))
	m.device(kernel, map[string]string{"dev": dev})
	for i := range m.mounts {
		m.mounts[i].dev = dev
	}
	m.tell()
}

func hexDevice(t *testing.T, dev string) string {
	t.Helper()
	var major, minor int
	if _, err := fmt.Sscanf(dev, "%d:%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%02x:%02x", major, minor)
}
