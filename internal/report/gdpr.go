package report

import (
	"time"

	"holdfast"
)

// GDPR is what an installation does for the personal data in its charge, as its configuration, its stores, its volumes' headers and its
// journal say. What it says is computed from this by [GDPR.Sections]: nothing here is a judgement. Days of keys and holders are midnight, UTC.
type GDPR struct {
	Host    string
	Version string // of holdfast
	Config  string // the file that the settings come from; "": none was read
	Made    time.Time
	From    time.Time    // the span that is told of
	Until   time.Time    // not included; what is after Made has not happened
	Unseen  []GDPRUnseen // stores and what is in them that could not be read; what has a field of its own for that is not among them

	Jobs    []GDPRJob
	Stores  []GDPRStore
	Volumes []GDPRVolume
	Chains  []GDPRChain
	// Identity is the file of an identity that the configuration of this host names; "": it names none.
	Identity string
	// JournalError says why the journal of this host could not be read; "": it was, or there is none. Lost is what is gone of it, by what stores have;
	// "": nothing.
	JournalError, Lost string
	Unread             []string // of Unseen, by What: what may have more records
	// Records are all that is known until Until, oldest first, those before From too: the last drill of a job may be older than the span.
	Records []GDPRRecord
}

// GDPRUnseen is something that could not be looked at. What else it leaves open refers to it by What.
type GDPRUnseen struct {
	What string // such as "store main"
	Why  string
	Fix  string // what to do
}

// GDPRRecord is one record of the journal. Its words are those of docs/audit.md.
type GDPRRecord struct {
	ID      string // where it stands: its chain and its number
	Own     bool   // of the chain of this installation, under whatever name of its host
	Time    time.Time
	Event   string // such as DRILL
	Who     string // by account
	Host    string
	Address string // where the login came from
	Job     holdfast.JobName
	Backup  holdfast.BackupID
	Volume  string
	Store   string
	Result  string // good, proven, failed, …
	Reason  string
	Detail  string
	Figures map[string]float64
}

// GDPRJob is one job.
type GDPRJob struct {
	Name    holdfast.JobName
	Sources []GDPRSource
	// Seal is age, openpgp, openssl, or none.
	Seal       string
	Passphrase bool // a passphrase seals it, which is on the host
	Keys       []GDPRKey
	Stores     []string // by name; the first is the job's own, the others are its mirrors
	Keep       []string // its rules of retention, in words; none: nothing is ever deleted
	Backups    int      // complete ones that its stores have
	Oldest     GDPRBackup
	Newest     GDPRBackup    // zero: none was seen
	Unread     []string      // of [GDPR.Unseen], by What: where it may have more backups
	DrillEvery time.Duration // the longest time between two drills that pass; 0: nothing was said, and 100 days are meant
	RPO, RTO   time.Duration // what was promised; 0: nothing was
}

// GDPRSource is one thing that is backed up.
type GDPRSource struct {
	Name   holdfast.SourceName
	Kind   holdfast.Kind
	Secret bool
}

// GDPRBackup names a backup.
type GDPRBackup struct {
	ID   holdfast.BackupID
	Time time.Time
}

// GDPRKey is a key that a job's backups are sealed to.
type GDPRKey struct {
	Name    string
	ID      string // of its public half
	Holder  string // "": not written down
	Created time.Time
	Expires time.Time // its last day, which is a good one; zero: never
	// Checked is when an identity was last shown to open a backup that is sealed to it, and CheckedBy the object or record that says so. Zero: no
	// such check was seen.
	Checked   time.Time
	CheckedBy string
	Unread    []string // of [GDPR.Unseen], by What: where more checks may be recorded
}

// GDPRStore is a place of backups.
type GDPRStore struct {
	Name    string
	Kind    string // local, s3, sftp, rsync
	Where   string // without any secret
	OffSite bool   // on another machine than this one
	Transit string // how what is sent there is encrypted, such as "TLS"; "": it is not
	Lock    string // what keeps backups there from being deleted or overwritten, such as "object lock for 30 days"; "": nothing
}

// GDPRVolume is an encrypted volume. Of one whose header could not be read Error says why, and nothing is told of cipher and slots.
type GDPRVolume struct {
	Name    string
	Device  string
	Mount   string
	Data    string // the data folder
	Job     holdfast.JobName
	Source  holdfast.SourceName // of that job, whose server's data lies there; "": none
	State   string              // as `holdfast volume status` has it: mounted, locked, …
	Error   string
	LUKS2   bool
	Cipher  string // such as aes-xts-plain64
	KeyBits int    // of the volume key: 512 with XTS is AES-256
	Slots   []GDPRSlot
	Guarded bool // the bare mount point takes no files
	// GuardError says why that could not be seen; "": it was.
	GuardError string
	// Headers are the backups of its header that were seen in the stores, oldest first.
	Headers []GDPRHeader
	Unread  []string // of [GDPR.Unseen], by What: where more of them may be
	Holders []GDPRHolder
	Tell    []string // who must be told within an hour of a compromise
}

// GDPRSlot is one key slot of a volume's header.
type GDPRSlot struct {
	Number    int
	Role      string    // operational, recovery; "": nobody said
	Created   time.Time // zero: not known
	KDF       string    // such as argon2id
	MemoryKiB int
}

// GDPRHeader is a backup of a volume's header.
type GDPRHeader struct {
	Store, Object string
	Time          time.Time
}

// GDPRHolder is a custodian of a volume's key.
type GDPRHolder struct {
	Name, Contact string
	Role          string // operational, recovery
	MFA           bool
	Since         time.Time // zero: not known
	Until         time.Time // the day on which they left; zero: they have not
}

// GDPRChain is a chain of the journal's records.
type GDPRChain struct {
	Name    string
	Own     bool // that of this installation
	Records int
	Signed  int64    // number of the last record that a signature covers; 0: none
	Last    int64    // number of the last record
	Stores  []string // that have it too
	Unread  []string // of [GDPR.Unseen], by What: what may have it too, or more of it
	// Checked is when the chain was verified, for this report or before; zero: it was not. Problem is what was found then, and Error says why it could
	// not be verified.
	Checked time.Time
	Problem string
	Error   string
}

// Article is a paragraph of the GDPR, Regulation (EU) 2016/679, that a measure serves.
type Article string

// The articles that measures are sorted under.
const (
	Sealing    Article = "32(1)(a)" // pseudonymisation and encryption
	Resilience Article = "32(1)(b)" // confidentiality, integrity, availability and resilience
	Recovery   Article = "32(1)(c)" // availability restored in time
	Testing    Article = "32(1)(d)" // regular testing
	Records    Article = "30"       // records of processing
	Notice     Article = "33/34"    // notification of a breach
)

// GDPRLine is one line of the report: what, how it is, what says so, and what it serves. Lines with Missing are those in red. What could not be seen is
// never Missing.
type GDPRLine struct {
	What, Value string
	Record      string // number of a record, name of an object, or file
	Article     Article
	Missing     string // what is not there, in a sentence without a full stop; "": nothing
	Unseen      string // what leaves the line open, in a sentence without a full stop; "": nothing. A line has this or Missing
	Fix         string // the command, or the key to set, where something is missing
}

// GDPRSection is a part of the report.
type GDPRSection struct {
	Title string
	Note  string
	Lines []GDPRLine
}
