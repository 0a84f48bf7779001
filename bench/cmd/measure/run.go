package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// measurement is one line of the file.
type measurement struct {
	Group  string  `json:"group"`
	Label  string  `json:"label"`
	Round  int     `json:"round"`
	Wall   float64 `json:"wall_s"`
	User   float64 `json:"user_s"`
	System float64 `json:"system_s"`
	// Peak is the highest sum, over all samples, of the resident memory of the processes that are not apart.
	Peak int64 `json:"peak_bytes"`
	// Peaks are the highest sums for each name of a program, the ones apart included.
	Peaks  map[string]int64 `json:"peaks_bytes"`
	Stored int64            `json:"stored_bytes,omitempty"`
}

func run(args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	out := flags.String("out", "", "file that the measurement is appended to")
	group := flags.String("group", "", "table of the report")
	label := flags.String("label", "", "row of the table")
	round := flags.Int("round", 1, "which of the interleaved rounds this is")
	apart := flags.String("apart", "pg_dump,pg_dumpall,psql", "programs whose memory is not counted")
	stored := flags.String("stored", "", "file or folder whose size is recorded afterwards")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || flags.NArg() == 0 {
		return errors.New("-out and a command are needed")
	}
	m := measurement{Group: *group, Label: *label, Round: *round}
	if err := m.take(flags.Args(), strings.Split(*apart, ",")); err != nil {
		return fmt.Errorf("%s: %w", *label, err)
	}
	if *stored != "" {
		size, err := treeSize(*stored)
		if err != nil {
			return err
		}
		m.Stored = size
	}
	fmt.Fprintf(os.Stderr, "  %-40s %8.2f s  cpu %7.2f s  %s\n", m.Label, m.Wall, m.User+m.System, megabytes(m.Stored))
	return appendLine(*out, m)
}

// take runs the command and watches its processes.
func (m *measurement) take(args, apart []string) error {
	command := exec.Command(args[0], args[1:]...)
	command.Stdin, command.Stdout, command.Stderr = nil, os.Stderr, os.Stderr
	start := time.Now()
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	watch := watcher{apart: map[string]bool{}, peaks: map[string]int64{}}
	for _, name := range apart {
		watch.apart[name] = true
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			m.Wall = time.Since(start).Seconds()
			m.Peak, m.Peaks = watch.peak, watch.peaks
			// Of all descendants that were waited for.
			usage := command.ProcessState.SysUsage().(*syscall.Rusage)
			m.User, m.System = seconds(usage.Utime), seconds(usage.Stime)
			return err
		case <-ticker.C:
			watch.sample(command.Process.Pid)
		}
	}
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

func treeSize(path string) (int64, error) {
	var size int64
	err := filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

func appendLine(path string, m measurement) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
