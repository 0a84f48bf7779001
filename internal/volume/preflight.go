package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Check is one thing that was looked at.
type Check struct {
	Name  string // "cryptsetup"
	Good  bool
	Warns bool   // not good, and no reason to stop
	Text  string // what was found, with its measure
	Fix   string // what to do; "" when it is good
}

// leastCryptsetup has what the headers need: tokens by number, labels, resumable reencryption that was repaired.
var leastCryptsetup = [2]int{2, 4}

// Preflight looks whether this host can make the volume: rights, programs, kernel, speed, room, and what the device holds. size is the bytes
// that it is to have; of a block device, those that it must have at least. confirm is [Creation.Confirm]: with the volume's name, what the device
// holds is a warning. It changes nothing but that modules of the kernel may be loaded. An error means that ctx ended; all else is in the checks.
func (h Host) Preflight(ctx context.Context, v Volume, size int64, confirm Name) ([]Check, error) {
	var checks []Check
	for _, look := range []func() Check{
		h.checkRoot,
		func() Check { return h.checkCryptsetup(ctx) },
		func() Check {
			return h.checkModule(ctx, "device mapper", "dm_crypt", "/proc/misc", "device-mapper")
		},
		func() Check { return h.checkCipher(ctx) },
		func() Check { return h.checkPrograms(ctx, v) },
		func() Check { return h.checkRoom(ctx, v, size) },
		func() Check { return h.checkDeviceFree(ctx, v, confirm) },
		func() Check { return h.checkMountPoint(v) },
	} {
		checks = append(checks, look())
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	if isFile(v.Device) {
		checks = slices.Insert(checks, 3, h.checkModule(ctx, "loop devices", "loop", "/proc/devices", "loop"))
	}
	return checks, nil
}

func isFile(device string) bool {
	info, err := os.Stat(device)
	return err != nil || info.Mode()&fs.ModeDevice == 0
}

func (h Host) checkRoot() Check {
	c := Check{Name: "root", Fix: "run it as root on the host itself; a container needs --privileged"}
	text, err := os.ReadFile(h.path("/proc/self/status"))
	if err != nil {
		c.Text = err.Error()
		return c
	}
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "CapEff:" {
			continue
		}
		set, err := strconv.ParseUint(fields[1], 16, 64)
		if err == nil && set>>unix.CAP_SYS_ADMIN&1 == 1 {
			return Check{Name: c.Name, Good: true, Text: "this process may mount and map devices"}
		}
	}
	c.Text = "this process may not mount and map devices (CAP_SYS_ADMIN)"
	return c
}

var versionRule = regexp.MustCompile(`^cryptsetup (\d+)\.(\d+)`)

func (h Host) checkCryptsetup(ctx context.Context) Check {
	c := Check{Name: "cryptsetup", Fix: "install cryptsetup 2.4 or later (package cryptsetup-bin)"}
	out, err := h.run(ctx, Command{Args: []string{"cryptsetup", "--version"}})
	if err != nil {
		c.Text = err.Error()
		return c
	}
	said := strings.TrimSpace(string(out.Stdout))
	found := versionRule.FindStringSubmatch(said)
	if found == nil {
		c.Text = fmt.Sprintf("its version %q is not understood", said)
		return c
	}
	c.Text = strings.Join(strings.Fields(said)[:2], " ")
	major, majorErr := strconv.Atoi(found[1])
	minor, minorErr := strconv.Atoi(found[2])
	if majorErr == nil && minorErr == nil && slices.Compare([]int{major, minor}, leastCryptsetup[:]) >= 0 {
		c.Good, c.Fix = true, ""
	}
	return c
}

// checkModule looks for what a module registers, and loads it if need be: what is built in has a place in that list, but not among modules.
func (h Host) checkModule(ctx context.Context, name, module, list, word string) Check {
	c := Check{Name: name, Fix: "install the modules of the running kernel (linux-modules-extra, or a restart after a kernel update); a container has those of its host"}
	if _, err := os.Stat(h.path("/sys/module/" + module)); err != nil {
		out, err := h.try(ctx, Command{Args: []string{"modprobe", "-q", module}})
		if err != nil || out.Code != 0 {
			c.Text = "the kernel has no " + module + ", and it could not be loaded"
			return c
		}
	}
	text, err := os.ReadFile(h.path(list))
	if err != nil || !slices.Contains(strings.Fields(string(text)), word) {
		c.Text = "module " + module + " is there, but " + list + " has no " + word
		return c
	}
	return Check{Name: name, Good: true, Text: "the kernel has " + module}
}

var speedRule = regexp.MustCompile(`(?m)^\s*aes-xts\s+512b\s+([0-9.]+) MiB/s\s+([0-9.]+) MiB/s`)

// checkCipher asks for AES instructions and for a measure: without them AES takes most of a processor, and leaks by timing.
func (h Host) checkCipher(ctx context.Context) Check {
	c := Check{Name: "AES"}
	out, err := h.try(ctx, Command{Args: []string{"cryptsetup", "benchmark", "--cipher", "aes-xts", "--key-size", strconv.Itoa(keyBits)}})
	speed := speedRule.FindStringSubmatch(string(out.Stdout))
	measure := "its speed could not be measured (cryptsetup benchmark needs the module algif_skcipher)"
	if err == nil && speed != nil {
		measure = fmt.Sprintf("measured in memory on one processor: %s MiB/s to encrypt, %s MiB/s to decrypt", speed[1], speed[2])
	}
	const what = "aes-xts with a 512-bit key, which is AES-256: XTS takes two keys, so that one of 256 bits would be AES-128"
	instructions, err := h.hasAES()
	switch {
	case err != nil:
		c.Warns, c.Text, c.Fix = true, fmt.Sprintf("%s; the processor could not be asked: %v; %s", what, err, measure), "look whether the measured speed is above that of the disk"
	case !instructions:
		c.Warns, c.Text = true, fmt.Sprintf("%s; the processor has no AES instructions; %s", what, measure)
		c.Fix = "compare that with the speed of the disk: below it, the database waits for the cipher; in a virtual machine let the host pass the processor's flags on"
	default:
		c.Good, c.Text = true, fmt.Sprintf("%s; the processor has AES instructions; %s", what, measure)
	}
	return c
}

// hasAES looks for the flag that x86 ("flags") and arm64 ("Features") call the same.
func (h Host) hasAES() (bool, error) {
	text, err := os.ReadFile(h.path("/proc/cpuinfo"))
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(text) {
		name, flags, _ := strings.Cut(string(line), ":")
		if name = strings.TrimSpace(name); name == "flags" || name == "Features" {
			return slices.Contains(strings.Fields(flags), "aes"), nil
		}
	}
	return false, errors.New("/proc/cpuinfo has no flags")
}

func (h Host) checkPrograms(ctx context.Context, v Volume) Check {
	kind := v.filesystem()
	programs := [][]string{{"mkfs." + kind, "-V"}, {"mount", "--version"}, {"umount", "--version"}, {"wipefs", "--version"}}
	if kind == Ext4 {
		programs = append(programs, []string{"fsck.ext4", "-V"})
	}
	for _, args := range programs {
		if _, err := h.run(ctx, Command{Args: args}); err != nil {
			return Check{Name: "programs", Text: err.Error(), Fix: "install the package that has it: e2fsprogs for ext4, xfsprogs for xfs, mount, util-linux"}
		}
	}
	return Check{Name: "programs", Good: true, Text: "mkfs." + kind + " and what mounts it are there"}
}

func (h Host) checkRoom(ctx context.Context, v Volume, size int64) Check {
	c := Check{Name: "room", Fix: "choose a larger device, a smaller size or another place"}
	if least := leastSize(v); size < least && isFile(v.Device) {
		c.Text = fmt.Sprintf("%d MiB were asked for, and a volume with %s has at least %d MiB", size>>20, v.filesystem(), least>>20)
		return c
	}
	if !isFile(v.Device) {
		has, err := h.deviceSize(v.Device)
		if err != nil {
			c.Text = err.Error()
			return c
		}
		c.Text = fmt.Sprintf("%s has %d MiB, and %d MiB are needed", v.Device, has>>20, max(size, leastSize(v))>>20)
		if has >= max(size, leastSize(v)) {
			c.Good, c.Fix = true, ""
		}
		return c
	}
	if header, own := h.own(ctx, v, v.Device); own && !header.unfinished(v.Name) {
		return Check{Name: c.Name, Good: true, Text: v.Device + " is this volume already, and needs no more"}
	}
	folder := filepath.Dir(v.unfinishedFile())
	var space unix.Statfs_t
	if err := unix.Statfs(folder, &space); err != nil {
		c.Text, c.Fix = fmt.Sprintf("look at %s: %v", folder, err), "make the folder"
		return c
	}
	free := int64(space.Bavail)*int64(space.Bsize) + h.leavings(ctx, v)
	c.Text = fmt.Sprintf("%s has %d MiB free, and %d MiB are needed", folder, free>>20, size>>20)
	if free >= size {
		c.Good, c.Fix = true, ""
	}
	return c
}

// stopHere is what to do where a loss was confirmed.
const stopHere = "stop here if anything of that is needed"

// leavings are the bytes on the disk of the file that an interrupted create left: the next one removes it before it makes its own.
func (h Host) leavings(ctx context.Context, v Volume) int64 {
	var stat unix.Stat_t
	if err := unix.Stat(v.unfinishedFile(), &stat); err != nil {
		return 0
	}
	if _, own := h.own(ctx, v, v.unfinishedFile()); !own {
		return 0
	}
	const block = 512 // stat(2), whatever the file system's
	return stat.Blocks * block
}

// checkDeviceFree looks for users and for what would be lost.
func (h Host) checkDeviceFree(ctx context.Context, v Volume, confirm Name) Check {
	c := Check{Name: "device", Fix: "name another device; if nothing of that is needed, create takes --confirm " + string(v.Name)}
	isBlock := !isFile(v.Device)
	if header, own := h.own(ctx, v, v.Device); own {
		if header.unfinished(v.Name) {
			return Check{Name: c.Name, Good: true, Text: v.Device + " is this volume, half made: it is made anew"}
		}
		c.Warns, c.Text = true, v.Device+" is this volume already: create goes on only with the same two passphrases"
		if confirm == v.Name {
			c.Text, c.Fix = v.Device+" is this volume already: with other passphrases than its two it is made anew, and what it holds will be lost", stopHere
		}
		return c
	}
	if err := h.checkFree(v, isBlock); err != nil {
		c.Text, c.Fix = err.Error(), "name another device, or stop what uses it: lsblk shows it"
		return c
	}
	held, err := h.held(ctx, v, isBlock)
	switch {
	case err != nil:
		c.Text = err.Error()
	case held != "" && confirm == v.Name:
		c.Warns, c.Text, c.Fix = true, "will be lost: "+v.Device+" holds "+held, stopHere
	case held != "":
		c.Text = v.Device + " holds something: " + held
	default:
		c.Good, c.Fix, c.Text = true, "", v.Device+" is free"
	}
	return c
}

// checkMountPoint looks whether it is empty, and whether it can be guarded.
func (h Host) checkMountPoint(v Volume) Check {
	c := Check{Name: "mount point", Fix: "choose a mount point that is empty or missing, on ext4, xfs or btrfs"}
	point := realPath(v.Mount)
	mounts, err := h.mounts()
	if err != nil {
		c.Text = err.Error()
		return c
	}
	if on, mounted := mountOn(mounts, point); mounted {
		if m, open, err := h.opened(v); err == nil && open && m.dev == on.dev {
			return Check{Name: c.Name, Good: true, Text: "the volume itself is mounted at " + v.Mount}
		}
		c.Text = fmt.Sprintf("something is mounted at %s: %s on device %s", v.Mount, on.kind, on.dev)
		return c
	}
	names, err := bare(point)
	if err != nil {
		c.Text = err.Error()
		return c
	}
	if len(names) > 0 {
		c.Text = covered(v, names).Error()
		return c
	}
	there := point
	for there != "/" {
		if _, err := os.Lstat(there); err == nil {
			break
		}
		there = filepath.Dir(there)
	}
	state, err := guardState(unix.AT_FDCWD, there)
	switch {
	case err != nil:
		c.Text = err.Error()
	case !state.able:
		c.Text = fmt.Sprintf("the file system of %s has no immutable folders: the mount point could not be guarded", there)
	default:
		c.Good, c.Fix, c.Text = true, "", v.Mount+" is empty, and can be guarded"
	}
	return c
}
