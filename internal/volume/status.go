package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// State is what a volume is in.
type State string

// The states.
const (
	Missing   State = "missing"   // there is no such file or device
	NotLUKS   State = "not-luks"  // it has no LUKS2 header, or lost it
	Creating  State = "creating"  // create did not finish
	Locked    State = "locked"    // as it is after a start
	Open      State = "open"      // its mapping is there, and not mounted
	Mounted   State = "mounted"   // it can be worked with
	Elsewhere State = "elsewhere" // its mount point has another device, or its name another mapping
	Covered   State = "covered"   // it is not mounted, and its bare mount point holds files: somebody wrote to the plain disk
)

// Status is what is found of a volume.
type Status struct {
	Volume           Volume
	State            State
	Header           Header // zero where it could not be read; Detail says so
	Size, Used, Free int64  // of the mounted file system, bytes; not mounted: Size is the device's, and the others are 0
	HeaderUnseen     bool   // it could not be read for want of rights, and nothing is known of it
	Guarded          bool   // the bare mount point is
	GuardUnseen      bool   // that could not be seen
	Detail           string // what a person should know beside the state; "": nothing
}

// Status looks at a volume and changes nothing. It takes no root, but then the header is not read, and below a mounted volume the guard is
// not seen; Detail says so.
func (h Host) Status(ctx context.Context, v Volume) (Status, error) {
	s := Status{Volume: v}
	var details []string
	say := func(format string, a ...any) { details = append(details, fmt.Sprintf(format, a...)) }
	m, named, others, err := h.mappingOf(string(v.Name), v.Device)
	if err != nil {
		return s, err
	}
	ours := named && h.liesOn(m.kernel, v.Device)
	s.State, err = h.stateOf(v, m, ours)
	if err != nil {
		return s, err
	}
	switch {
	case named && !ours:
		s.State = Elsewhere
		say("/dev/mapper/%s is open, and not of %s", v.Name, v.Device)
	case !named && len(others) > 0 && others[0].name != v.Name.creating():
		say("it is open under another name, /dev/mapper/%s", others[0].name)
	}
	if err := h.addHeader(ctx, v, ours, &s, say); err != nil {
		return s, err
	}
	s.Guarded, err = h.Guarded(v)
	if err != nil {
		s.GuardUnseen = true
		say("the guard was not seen: %v", err)
	}
	if s.State == Mounted {
		if err := s.addSpace(); err != nil {
			return s, err
		}
	}
	s.Detail = strings.Join(details, "; ")
	return s, nil
}

// Mounted reports whether a volume is mounted where it is to be, by what the kernel says of mappings and mounts alone. It runs no program and takes no
// root: for who waits until somebody mounts it.
func (h Host) Mounted(v Volume) (bool, error) {
	m, named, _, err := h.mappingOf(string(v.Name), v.Device)
	if err != nil || !named || !h.liesOn(m.kernel, v.Device) {
		return false, err
	}
	mounts, err := h.mounts()
	if err != nil {
		return false, err
	}
	on, mounted := mountOn(mounts, realPath(v.Mount))
	return mounted && on.dev == m.dev, nil
}

// stateOf judges by mapping and mounts alone.
func (h Host) stateOf(v Volume, m mapping, ours bool) (State, error) {
	mounts, err := h.mounts()
	if err != nil {
		return "", err
	}
	point := realPath(v.Mount)
	if on, mounted := mountOn(mounts, point); mounted {
		if ours && on.dev == m.dev {
			return Mounted, nil
		}
		return Elsewhere, nil
	}
	// Who may not look into the mount point cannot write there either, unless it is root; and a guarded one is empty.
	names, err := bare(point)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return "", err
	}
	switch {
	case len(names) > 0:
		return Covered, nil
	case ours:
		return Open, nil
	}
	return Locked, nil
}

// addHeader looks at the device. That it is gone or lost its header is said whatever else is: of an open volume it shows only at the next
// unlock, when it is too late.
func (h Host) addHeader(ctx context.Context, v Volume, open bool, s *Status, say func(string, ...any)) error {
	lost := func(state State) {
		if open {
			say("it is still open: take a copy of the data before it is locked")
		}
		s.State = state
	}
	size, err := h.deviceSize(v.Device)
	s.Size = size
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(v.unfinishedFile()); err == nil {
			say("%s was begun; `holdfast volume create` removes it and begins anew", v.unfinishedFile())
			s.State = Creating
			return nil
		}
		lost(Missing)
		return nil
	}
	if err != nil {
		say("%v", err)
	}
	if unix.Access(v.Device, unix.R_OK) != nil {
		s.HeaderUnseen = true
		say("the header was not read: that takes root")
		return nil
	}
	s.Header, err = h.Header(ctx, v.Device)
	switch {
	case errors.Is(err, ErrNotVolume):
		lost(NotLUKS)
		return nil
	case err != nil:
		return err
	case s.Header.unfinished(v.Name):
		s.State = Creating
	case s.Header.Label != string(v.Name):
		say("its header has the name %q", s.Header.Label)
	}
	return nil
}

func (s *Status) addSpace() error {
	var space unix.Statfs_t
	if err := unix.Statfs(s.Volume.Mount, &space); err != nil {
		return fmt.Errorf("space of %s: %w", s.Volume.Mount, err)
	}
	block := int64(space.Bsize)
	s.Size, s.Used, s.Free = int64(space.Blocks)*block, int64(space.Blocks-space.Bfree)*block, int64(space.Bavail)*block
	return nil
}
