package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/daemon"
	"holdfast/internal/health"
)

// serveDir is the folder of the service.
func serveDir(cfg *config.Config) string { return filepath.Join(cfg.State, "serve") }

// serviceFile is what a running service tells other commands, in its folder.
type serviceFile struct {
	Started  time.Time            `json:"started"`
	File     string               `json:"config_file"`   // of the configuration in force
	Sum      string               `json:"config_sha256"` // of its content
	Config   string               `json:"config_problem,omitempty"`
	Clock    string               `json:"clock_problem,omitempty"`
	Trouble  string               `json:"queue_problem,omitempty"`
	Waiting  int                  `json:"waiting"`
	Running  map[string]time.Time `json:"running"` // since when, by JOB/TASK
	Channels []health.Channel     `json:"channels,omitempty"`
}

func serviceFileOf(cfg *config.Config) string { return filepath.Join(serveDir(cfg), "status.json") }

const (
	// tellEvery is how often a service tells what it does, at the least.
	tellEvery = 5 * time.Minute
	// tellLate is after how long what it told counts no more, and tellFirst how long it may need to tell anything.
	tellLate  = 3 * tellEvery
	tellFirst = time.Minute
)

// silent says that a service that runs tells nothing; "" when it does.
func silent(cfg *config.Config) string {
	late, file := tellLate, serviceFileOf(cfg)
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		late, file = tellFirst, filepath.Join(serveDir(cfg), "lock")
		info, err = os.Stat(file)
	}
	if err != nil || time.Since(info.ModTime()) <= late {
		return ""
	}
	return "what the service does is not known: it cannot write status.json in " + serveDir(cfg)
}

// loadService reads what the service tells; nil when none runs. What cannot be read is warned of: nothing else depends on it.
func (a *app) loadService(cfg *config.Config) *serviceFile {
	holds, err := daemon.Holds(serveDir(cfg))
	if errors.Is(err, fs.ErrPermission) {
		return nil // whoever may not look at it does not know
	}
	var f *serviceFile
	if holds {
		f = &serviceFile{}
		var data []byte
		data, err = os.ReadFile(serviceFileOf(cfg))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = nil // it has just begun
		case err == nil:
			err = json.Unmarshal(data, f)
		}
		f.Trouble = cmp.Or(f.Trouble, silent(cfg))
	}
	if err != nil {
		a.printer.warn("what the service does is not known: " + holdfast.Sentence(err))
	}
	return f
}

// state is the file as others judge it.
func (f serviceFile) state() health.Service {
	return health.Service{
		Running: true, Started: f.Started, Config: f.Config, Clock: f.Clock, Queue: f.Trouble, Waiting: f.Waiting, Busy: len(f.Running), Channels: f.Channels,
	}
}

const fileDiffers = "the file was changed, and the service still runs with the one before"

// sumOf tells contents of configurations apart.
func sumOf(cfg *config.Config) string { return fmt.Sprintf("%x", sha256.Sum256(cfg.Content())) }
