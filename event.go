package holdfast

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	EventPhase    EventKind = "phase"    // a step began; Message names it
	EventProgress EventKind = "progress" // Bytes of Total so far (Total 0: unknown)
	EventItem     EventKind = "item"     // an item is stored or restored: Bytes plain, Stored sealed
	EventWarning  EventKind = "warning"  // something a person should know; the run goes on
	EventOutput   EventKind = "output"   // what a hook printed, without secrets; for the log rather than the terminal
)

// Event is one observation of a run. It never carries a secret, and of the data only names that the user gave
// (jobs, sources, items), except in a Message shown to the user who runs the command.
type Event struct {
	Kind    EventKind  `json:"event"`
	Job     JobName    `json:"job,omitempty"`
	Backup  BackupID   `json:"backup,omitempty"`
	Source  SourceName `json:"source,omitempty"`
	Item    string     `json:"item,omitempty"`
	Bytes   int64      `json:"bytes,omitempty"`
	Total   int64      `json:"total,omitempty"`
	Stored  int64      `json:"stored,omitempty"`
	Seconds float64    `json:"seconds,omitempty"`
	Message string     `json:"message,omitempty"`
}

// Observer receives events. It must be safe for concurrent use and must not block.
type Observer func(Event)
