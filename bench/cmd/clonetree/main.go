// Clonetree copies one folder into another as a migration does, for a benchmark that sets its times beside another tool's. It prints
// the seconds of copying, until all is on the disk, of verifying, and of both, in one line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"time"

	"holdfast/internal/clone"
)

func main() {
	ledger := flag.String("ledger", "", "the ledger `FILE` that is read if it is there, and written")
	still := flag.Bool("still", false, "nobody writes to the first folder")
	workers := flag.Int("workers", 0, "how many files at once; 0: what is usual")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: clonetree [-ledger FILE] [-still] [-workers N] FROM TO")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *ledger, clone.Options{Drop: true, Still: *still, Workers: *workers}); err != nil {
		fmt.Fprintln(os.Stderr, "clonetree:", err)
		os.Exit(1)
	}
}

func run(from, to, path string, o clone.Options) error {
	began := time.Now()
	var was *clone.Ledger
	if path != "" {
		var err error
		if was, err = clone.LoadLedger(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	now, report, err := clone.Copy(context.Background(), from, to, was, o)
	if err != nil {
		return err
	}
	if path != "" {
		if err := now.Save(path); err != nil {
			return err
		}
	}
	took := time.Since(began)
	fmt.Printf("%.3f %.3f %.3f\n", (took - report.Verifying).Seconds(), report.Verifying.Seconds(), took.Seconds())
	fmt.Fprintf(os.Stderr, "%d files, %d bytes: %d copied, %d hashed, %d skipped\n", report.Files, report.Bytes, report.Copied, report.Hashed, report.Skipped)
	return nil
}
