package archive

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

// timeLayout is how times stand in object names: UTC, to the second.
const timeLayout = "20060102T150405Z"

const (
	commitPrefix = "commits/"
	dataPrefix   = "data/"
	proofPrefix  = "proofs/"
	pinPrefix    = "pins/"
	resealPrefix = "reseals/"
	checkPrefix  = "checks/"
	runPrefix    = "runs/"

	// What lies under these speaks of one store, and is in no mirror.
	verificationPrefix = "verifications/"
	prunePrefix        = "prunes/"
)

// Entry is what a listing alone tells of a backup: no object was opened for it, and nothing in it is authenticated.
type Entry struct {
	Job      holdfast.JobName
	Time     time.Time // when the run began, UTC
	ID       holdfast.BackupID
	Kind     string // "full", "hourly" or "manual" as the run was called, "safety" for what was kept before an overwrite, or [KindImported]
	Complete bool
	Sealed   bool
	Format   seal.Format  // how it is sealed; "" when it is not
	Size     int64        // stored bytes of all items
	Proofs   []ProofEntry // oldest first
	Pins     []PinEntry   // oldest first; the newest decides

	Verifications []VerificationEntry // of this store's copy, oldest first
	Hidden        bool                // the manifest is there only in the history of a store that keeps versions
	Versions      int                 // how often the manifest was written in such a store; more than once is wrong

	From         holdfast.BackupID // what this is a re-sealed copy of; "" for an original
	SupersededBy holdfast.BackupID // a re-sealed copy that stands for this; "" when there is none
}

// KindImported is a file of another tool that an import recorded. It has no manifest and no data in the archive.
const KindImported = "imported"

// ProofEntry is what a listing tells of one drill.
type ProofEntry struct {
	Time    time.Time
	Verdict holdfast.Verdict
	ID      holdfast.BackupID
}

// Proven returns the newest passing drill, if the newest conclusive one passed. A drill that could not test changes
// nothing.
func (e Entry) Proven() (ProofEntry, bool) {
	for i := len(e.Proofs) - 1; i >= 0; i-- {
		switch e.Proofs[i].Verdict {
		case holdfast.Proven:
			return e.Proofs[i], true
		case holdfast.Failed:
			return ProofEntry{}, false
		}
	}
	return ProofEntry{}, false
}

// State is the one word that lists show: "proven", "failed" (its newest conclusive drill found a difference),
// "incomplete", or "committed". An imported file is "imported" until a drill says "restores" or "failed".
func (e Entry) State() string {
	if e.Kind == KindImported {
		for i := len(e.Proofs) - 1; i >= 0; i-- {
			if v := e.Proofs[i].Verdict; v == holdfast.Restores || v == holdfast.Failed {
				return string(v)
			}
		}
		return KindImported
	}
	if _, proven := e.Proven(); proven {
		return "proven"
	}
	for _, proof := range e.Proofs {
		if proof.Verdict == holdfast.Failed {
			return "failed"
		}
	}
	if !e.Complete {
		return "incomplete"
	}
	return "committed"
}

func (e Entry) stem() string { return e.Time.Format(timeLayout) + "." + string(e.ID) }

func (e Entry) commitName() string {
	state, sealed := "complete", sealNone
	if !e.Complete {
		state = "incomplete"
	}
	if e.Sealed {
		sealed = string(cmp.Or(e.Format, seal.Age))
	}
	return fmt.Sprintf("%s%s/%s.%s.%s.%s.%d.json", commitPrefix, e.Job, e.stem(), e.Kind, state, sealed, e.Size)
}

func (e Entry) dataName(object string) string {
	return fmt.Sprintf("%s%s/%s/%s", dataPrefix, e.Job, e.stem(), object)
}

func (e Entry) proofName(p ProofEntry, suffix string) string {
	return fmt.Sprintf("%s%s/%s/%s.%s.%s.%s", proofPrefix, e.Job, e.stem(), p.Time.Format(timeLayout), p.Verdict, p.ID, suffix)
}

var (
	commitRule = regexp.MustCompile(`^commits/([^/]+)/(\d{8}T\d{6}Z)\.([a-z0-9]+)\.(full|hourly|manual|safety)\.(complete|incomplete)\.(age|openpgp|openssl|none)\.(\d+)\.json$`)
	proofRule  = regexp.MustCompile(`^proofs/([^/]+)/(\d{8}T\d{6}Z\.[a-z0-9]+)/(\d{8}T\d{6}Z)\.(proven|failed|cannot-test|restores)\.([a-z0-9]+)\.json$`)
)

// parseCommit reads a commit object's name. Names that are not ours are reported as such, never guessed at.
func parseCommit(name string) (Entry, bool) {
	m := commitRule.FindStringSubmatch(name)
	if m == nil {
		return Entry{}, false
	}
	job, err := holdfast.ParseJobName(m[1])
	if err != nil {
		return Entry{}, false
	}
	at, err := time.Parse(timeLayout, m[2])
	if err != nil {
		return Entry{}, false
	}
	id, err := holdfast.ParseBackupID(m[3])
	if err != nil {
		return Entry{}, false
	}
	size, err := strconv.ParseInt(m[7], 10, 64)
	if err != nil {
		return Entry{}, false
	}
	entry := Entry{Job: job, Time: at, ID: id, Kind: m[4], Complete: m[5] == "complete", Size: size}
	entry.Format, entry.Sealed = parseSeal(m[6])
	// A second spelling of one entry would be another object than the one that is opened for it.
	return entry, entry.commitName() == name
}

// sealNone is what stands for a format in the name and the manifest of a backup that is not sealed.
const sealNone = "none"

// parseSeal reads how a backup is sealed; sealed is false for "none".
func parseSeal(text string) (format seal.Format, sealed bool) {
	if text == sealNone {
		return "", false
	}
	return seal.Format(text), true
}

// parseProof reads a verdict object's name; key is the job and stem of the backup it speaks of.
func parseProof(name string) (key string, proof ProofEntry, ok bool) {
	m := proofRule.FindStringSubmatch(name)
	if m == nil {
		return "", ProofEntry{}, false
	}
	at, err := time.Parse(timeLayout, m[3])
	if err != nil {
		return "", ProofEntry{}, false
	}
	id, err := holdfast.ParseBackupID(m[5])
	if err != nil {
		return "", ProofEntry{}, false
	}
	return m[1] + "/" + m[2], ProofEntry{Time: at, Verdict: holdfast.Verdict(m[4]), ID: id}, true
}

func (e Entry) key() string { return string(e.Job) + "/" + e.stem() }

func (e Entry) resealName() string {
	return fmt.Sprintf("%s%s/%s.%s/%s", resealPrefix, e.Job, e.Time.Format(timeLayout), e.From, e.ID)
}

var resealRule = regexp.MustCompile(`^reseals/([^/]+/\d{8}T\d{6}Z\.)([a-z0-9]+)/([a-z0-9]+)$`)

// parseReseal reads a marker's name; from and to are keys as [Entry.key] makes them.
func parseReseal(name string) (from, to string, ok bool) {
	m := resealRule.FindStringSubmatch(name)
	if m == nil || m[2] == m[3] {
		return "", "", false
	}
	return m[1] + m[2], m[1] + m[3], true
}

// maxParts bounds the objects of one item, as their names do: 999 times 64 GiB are 62 TiB.
const maxParts = 999

// isPart reports whether name is that of a continuation of object.
func isPart(name, object string) bool {
	number, found := strings.CutPrefix(name, object+".")
	return found && len(number) == 3 && strings.Trim(number, "0123456789") == ""
}

// partName names the continuation of an object: the first part has the object's own name.
func partName(object string, part int) string {
	if part == 0 {
		return object
	}
	return fmt.Sprintf("%s.%03d", object, part)
}
