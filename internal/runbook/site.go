package runbook

import (
	"time"

	"holdfast"
)

// Site is what the runbooks are about. What is zero in it is not configured, and the runbooks say so, with the key to set. It holds no secret.
// Commands are only ever made of the names of volumes, jobs and stores; a name is what the configuration takes as one.
type Site struct {
	Host    string
	Config  string // the configuration file
	Made    time.Time
	Version string // of holdfast
	Volumes []Volume
	Jobs    []Job
	Stores  []Store
}

// Volume is an encrypted volume, as the section `volumes:` of the configuration has it.
type Volume struct {
	Name       string
	Device     string // a file, or a block device
	File       bool   // Device is a file
	Mount      string
	Filesystem string
	Owner      string // of the data folder, as written
	Mode       string // likewise
	Data       string // the data folder, absolute
	Job        holdfast.JobName
	Source     holdfast.SourceName
	Server     Server
	Holders    []Holder
	Tell       []string // who must be told within one hour of a compromise
}

// Server is how the server on a volume is stopped and started.
type Server struct {
	Stop, Start, Health []string // one command each, program and arguments
	User                string   // whom they run as; "": root
	Unit                string   // of systemd
	Compose, Service    string   // the compose file, and the service in it
	Grace               time.Duration
}

// Holder is a custodian of one of a volume's keys.
type Holder struct {
	Name, Contact string
	Role          string // operational, recovery
	MFA           bool
	Since, Until  time.Time // days; zero: not known, and has not left
}

// Job is a job that backs up.
type Job struct {
	Name    holdfast.JobName
	Sources []holdfast.SourceName
	Stores  []string // the first is its own, the others are its mirrors
	Keys    []Key
	RPO     time.Duration // what was promised; 0: nothing was
	RTO     time.Duration
}

// Key is a key that a job's backups are sealed to.
type Key struct{ Name, Holder string }

// Store is a place of backups.
type Store struct {
	Name, Kind, Where string
	OffSite           bool
}

// File is one runbook.
type File struct {
	Name string // such as 04-start.md
	Text []byte
}
