// Package volume keeps a database's disk sealed at rest: LUKS2 volumes in files or on block devices, their two keys, their mount points.
//
// It hides cryptsetup, mount, mkfs and fsck, what LUKS2 headers hold, /proc and /sys, and the order in which a volume is made. Its laws: it is
// the only runner of those programs; a passphrase reaches them by a descriptor, never by an argument or a file on a disk; what carries a signature
// is never formatted unless its name was typed; a volume has two keys at every moment from its first; a file is a volume only once it has its
// final name; a mount point that holds files is never mounted over; nobody else's programs are ended. It knows disks only: what is on them, who
// may open them, where copies of headers go and what is recorded is decided by whoever calls it. Linux only.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"time"

	"holdfast"
)

// Name is a volume's: that of its mapping below /dev/mapper, and the label of its header.
type Name string

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,40}$`)

// ParseName checks text: lower-case letters, digits, - and _, at most 41 of them. Errors wrap [holdfast.ErrUsage].
func ParseName(text string) (Name, error) {
	// The device mapper's own node stands among the mappings.
	if !nameRule.MatchString(text) || text == "control" {
		return "", holdfast.WithHint(fmt.Errorf("%w: %q is no name of a volume", holdfast.ErrUsage, text), "use lower-case letters, digits, - and _, at most 41 of them, such as pg-data")
	}
	return Name(text), nil
}

// Mapper is the device that the opened volume has.
func (n Name) Mapper() string { return "/dev/mapper/" + string(n) }

// Volume is what is asked for. It is the same for each command; what is there is in [Status].
type Volume struct {
	Name       Name
	Device     string // a file, or a block device; absolute
	Mount      string // where it is mounted; absolute
	Filesystem string // [Ext4] or [XFS]; "": Ext4
	UID, GID   int    // whose the data folder is
	Mode       fs.FileMode
	Data       string // the data folder, below Mount: a file system's root has lost+found, which initdb refuses
}

// DataPath is the data folder.
func (v Volume) DataPath() string { return filepath.Join(v.Mount, v.Data) }

// The file systems.
const (
	Ext4 = "ext4"
	XFS  = "xfs"
)

// Role is what a key is for.
type Role string

// The roles of keys.
const (
	Operational Role = "operational" // unlocks after each start
	Recovery    Role = "recovery"    // lies in an envelope, for the day when the other is gone
)

// Roles are both of them.
func Roles() []Role { return []Role{Operational, Recovery} }

// ParseRole checks text. Errors wrap [holdfast.ErrUsage].
func ParseRole(text string) (Role, error) {
	if r := Role(text); r == Operational || r == Recovery {
		return r, nil
	}
	return "", holdfast.WithHint(fmt.Errorf("%w: %q is no role of a key", holdfast.ErrUsage, text), "use operational or recovery")
}

// The errors that decide what is said and done about them.
var (
	// ErrPassphrase: the passphrase opens no slot, or not the one it was to open.
	ErrPassphrase = errors.New("no key available with this passphrase")
	// ErrNotVolume: there is no LUKS2 header.
	ErrNotVolume = errors.New("not a LUKS2 volume")
	// ErrSigned: the device carries a signature, and the name was not typed.
	ErrSigned = errors.New("it holds something")
	// ErrInUse: somebody works on the volume.
	ErrInUse = errors.New("in use")
	// ErrUnsupported: this machine cannot have volumes.
	ErrUnsupported = errors.New("encrypted volumes need Linux with device mapper")
)

// Host is the machine that the volumes are on. Its methods may be called at once for different volumes; whoever calls keeps two from
// working on one.
type Host struct {
	Run  Runner           // nil: the programs themselves
	Root string           // where proc and sys are looked for; "": "/"
	Now  func() time.Time // required: for the days that keys get
	// Step is told each step before it is taken, for whoever shows or records it, and in tests kills there. nil: nobody.
	Step func(Step)
}

// Step is one thing that is about to be done, in words for a person: "format", "add the recovery key".
type Step string

func (h Host) step(s Step) {
	if h.Step != nil {
		h.Step(s)
	}
}

func (h Host) path(name string) string {
	if h.Root == "" {
		return name
	}
	return filepath.Join(h.Root, name)
}
