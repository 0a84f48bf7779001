// Manybackups fills a store with backups for a benchmark: real ones, of one job each time, made by the archive itself, of
// a few bytes, with times an hour apart. What a run of `holdfast backup` does besides (sources, locks, progress) is left out.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/store/local"
)

func main() {
	dir := flag.String("store", "", "the `FOLDER` of the store; it is made")
	recipient := flag.String("recipient", "", "seal to this age `RECIPIENT`")
	count := flag.Int("count", 1000, "how many backups in all")
	jobs := flag.Int("jobs", 3, "of how many jobs")
	flag.Parse()
	if err := fill(*dir, *recipient, *count, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "manybackups:", err)
		os.Exit(1)
	}
}

func fill(dir, recipient string, count, jobs int) error {
	driver, err := local.Open(dir, local.Options{Create: true})
	if err != nil {
		return err
	}
	to, err := seal.ParseRecipient(recipient)
	if err != nil {
		return err
	}
	private, _, err := seal.NewSigner()
	if err != nil {
		return err
	}
	signer, err := seal.ParseSigner(private)
	if err != nil {
		return err
	}
	repo := archive.New(store.New(driver, store.Options{}), archive.Options{
		Seal: seal.Options{Recipients: []seal.Recipient{to}, Workers: 1}, Signer: signer, Version: "bench", Now: time.Now,
	})
	begin := time.Now().Add(-time.Duration(count) * time.Hour)
	for n := range count {
		job := holdfast.JobName(fmt.Sprintf("job-%d", n%jobs))
		if err := one(repo, job, begin.Add(time.Duration(n)*time.Hour), n); err != nil {
			return fmt.Errorf("backup %d: %w", n, err)
		}
	}
	return nil
}

func one(repo *archive.Archive, job holdfast.JobName, at time.Time, n int) error {
	ctx := context.Background()
	draft, err := repo.Create(archive.Header{Job: job, ID: holdfast.NewBackupID(), Time: at, Host: "bench", Kind: "full"})
	if err != nil {
		return err
	}
	content := fmt.Appendf(nil, "backup %d\n", n)
	item := source.Item{Name: "data.txt", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
	if _, err := draft.Put(ctx, "data", item, nil); err != nil {
		return err
	}
	draft.Keep(archive.SourceEntry{Name: "data", Kind: holdfast.KindFiles}, source.Facts{Kind: holdfast.KindFiles, Taken: at})
	_, _, err = draft.Commit(ctx)
	return err
}
