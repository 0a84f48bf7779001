package archive

// What the fuzzers parse.
var (
	ParseCommit   = parseCommit
	ParseProof    = parseProof
	ParseManifest = parseManifest
	ParseReseal   = parseReseal
	ParseCheck    = parseCheck
)

// Name is the name of the entry's record.
func (c CheckEntry) Name() string { return c.name("json") }

// CommitName is the name of the entry's manifest.
func (e Entry) CommitName() string { return e.commitName() }

// What the fuzzers of records parse.
var (
	ParsePin          = parsePin
	ParseVerification = parseVerification
	ParseRun          = parseRun
)

// PinName, VerificationName and RunName are the names of records.
func (e Entry) PinName(p PinEntry) string { return e.pinName(p, "json") }

func (e Entry) VerificationName(v VerificationEntry) string { return e.verificationName(v, "json") }

func (r RunEntry) RunName() string { return r.name("json") }
