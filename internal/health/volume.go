package health

import "time"

// What volumes are judged by.
const (
	VolumeFillingAt = 0.8  // the share of the room that is used, above which volume_filling is told
	VolumeFullAt    = 0.95 // and volume_full

	VolumeBusyAt  = 0.9 // the share of the time that the device works, above which it is busy
	VolumeBusyFor = 10 * time.Minute

	VolumeLatencyTimes = 3    // how many times the baseline an operation may take
	VolumeQueryOver    = 0.15 // how much longer than the baseline a query may take

	VolumeFailedFor    = day      // how long a failed unlock is told
	VolumeHeaderAge    = 30 * day // how old the backup of a header may be
	VolumeMigrationFor = 7 * day  // how long the old directory of a migration may be kept

	// leastHolders is how many people must be able to open a volume.
	leastHolders = 2
	// leastLatency is what an operation always may take: the cache of a disk or a host makes baselines of microseconds.
	leastLatency = time.Millisecond
)

// VolumeState is what a volume is found as, in the words of package volume. Any other word, and none, mean that nobody knows.
type VolumeState string

// The states.
const (
	Mounted   VolumeState = "mounted"
	Opened    VolumeState = "open" // and not mounted
	Locked    VolumeState = "locked"
	Missing   VolumeState = "missing" // there is no such file or device
	NotLUKS   VolumeState = "not-luks"
	Creating  VolumeState = "creating"  // it was never finished
	Elsewhere VolumeState = "elsewhere" // something else is mounted there
	Covered   VolumeState = "covered"   // files lie in the bare mount point
)

// VolumeStates are all of them.
func VolumeStates() []VolumeState {
	return []VolumeState{Mounted, Opened, Locked, Missing, NotLUKS, Creating, Elsewhere, Covered}
}

// VolumeRoles are the roles that each need a key, as package volume names them.
func VolumeRoles() []string { return []string{"operational", "recovery"} }

// Volume is what is known of one encrypted volume.
type Volume struct {
	Name    string
	State   VolumeState
	Detail  string // what is odd about that, or why nobody could look; "": nothing more is known
	Wanted  bool   // it is to be mounted; false: that it is locked is not told
	LUKS    bool   // a LUKS2 header was read from its device
	Guarded bool   // nobody can write into the bare mount point

	// Who looks without root may not see the header, or the guard: then neither is judged. docs/alarms.md says what that takes.
	HeaderUnseen, GuardUnseen bool

	Slots int         // keys that open it, whoever made them; known with LUKS
	Keys  []VolumeKey // of those, each that has a role

	Size, Used int64 // bytes of its file system, as df counts them; Size 0: not known

	Span            time.Duration // what Busy and Latency were measured over; 0: they were not
	Busy            float64       // the share of that in which the device worked, from 0 to 1
	BusySince       time.Time     // the start of the first of the measurements that were all above VolumeBusyAt; zero: the last one was not
	Latency         time.Duration // what an operation took, on average; 0 also without one
	BaselineLatency time.Duration // before, or on the plain disk; 0: not measured
	Query           time.Duration // what the test query takes; 0: not measured
	BaselineQuery   time.Duration // 0: not measured

	FailedUnlocks int       // in the last VolumeFailedFor
	LastFailed    time.Time // when one last failed; zero: never

	HeaderBackup  time.Time // when the newest backup of the header was made; zero: there is none
	HeaderChanged time.Time // when a key, or the volume key, was last changed; zero: not known

	Holders        []VolumeHolder
	HoldersChecked time.Time // when it was last confirmed who they are; zero: never

	Migration      string    // the step at which a migration is that was begun, and neither finished nor rolled back; "": none
	MigrationSince time.Time // when it was begun
}

// VolumeKey is one key of a volume.
type VolumeKey struct {
	Role    string    // one of VolumeRoles
	Created time.Time // zero: not known
	Checked time.Time // when it last opened its slot; zero: never
}

// VolumeHolder is somebody who has a key. No name is needed, and none is told.
type VolumeHolder struct {
	Role string
	Left time.Time // the day on which he left or will; zero: he stays. A key of his role made on that day or later is not his.
}

// Key is what is known of the keys of a role. Of several, as a rotation has them that was interrupted, it has the earlier times.
func (v Volume) Key(role string) (VolumeKey, bool) {
	var key VolumeKey
	found := false
	for _, k := range v.Keys {
		if k.Role != role {
			continue
		}
		if !found {
			key, found = k, true
		}
		key.Created, key.Checked = earlier(key.Created, k.Created), earlier(key.Checked, k.Checked)
	}
	return key, found
}

// Due is when a key must be replaced because of its age; zero: not known.
func (k VolumeKey) Due() time.Time {
	if k.Created.IsZero() {
		return k.Created
	}
	return k.Created.Add(KeyAge)
}

// HeaderDue is when the newest backup of the header is too old, even if no key is changed; zero: there is none.
func (v Volume) HeaderDue() time.Time {
	if v.HeaderBackup.IsZero() {
		return v.HeaderBackup
	}
	return v.HeaderBackup.Add(VolumeHeaderAge)
}

func earlier(x, y time.Time) time.Time {
	if y.Before(x) {
		return y
	}
	return x
}
