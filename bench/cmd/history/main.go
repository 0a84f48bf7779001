// History fills a journal for a benchmark with records of runs, as a host has them that has backed up for years. There is one an hour, of
// several jobs in turn; they are chained, and signed by nobody.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"holdfast"
	"holdfast/internal/journal"
)

func main() {
	state := flag.String("state", "", "the state `FOLDER`")
	count := flag.Int("count", 10_000, "how many records")
	jobs := flag.Int("jobs", 10, "of how many jobs")
	flag.Parse()
	if err := fill(*state, *count, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "history:", err)
		os.Exit(1)
	}
}

func fill(state string, count, jobs int) error {
	at := time.Now().Add(-time.Duration(count) * time.Hour)
	j, err := journal.Open(journal.Options{Dir: filepath.Join(state, "journal"), Host: "bench", Version: "bench", Now: func() time.Time { return at }})
	if err != nil {
		return err
	}
	for n := range count {
		at = at.Add(time.Hour)
		if _, err := j.Append(context.Background(), journal.Record{
			Event: journal.BackupCreated, Result: "good", Who: journal.Who{User: "root", Address: "local"}, Job: holdfast.JobName(fmt.Sprintf("job-%03d", n%jobs)), Backup: holdfast.NewBackupID(),
			Store: "main", Detail: "full", Figures: map[string]float64{"seconds": 1.5, "bytes": 1 << 30, "items": 3, "free": 1 << 40},
		}); err != nil {
			return err
		}
	}
	return nil
}
