package files

// Watch calls hook between the reading of each small file and the look at whether it changed.
func (s *Source) Watch(hook func(member string)) { s.wasRead = hook }

// Left returns the pattern that leaves out a path, or "".
func (e Excludes) Left(rel string, folder bool) string { return e.match(rel, folder) }

// The ways of a name or time into a header.
var (
	AppendRecord = appendRecord
	TimeText     = timeText
)

// Staging returns where a place keeps what it restores.
func (p *Place) Staging() string { return p.staging }
