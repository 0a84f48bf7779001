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
