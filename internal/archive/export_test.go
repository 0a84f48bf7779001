package archive

// What the fuzzers parse.
var (
	ParseCommit   = parseCommit
	ParseProof    = parseProof
	ParseManifest = parseManifest
)

// CommitName is the name of the entry's manifest.
func (e Entry) CommitName() string { return e.commitName() }
