// Command holdfast backs up PostgreSQL, SQLite and files, sealed to keys that the host cannot open, and proves by
// restoring that they come back. Everything it does is in internal/cli and below.
package main

import (
	"os"
	"time"
	_ "time/tzdata" // a zone of the configuration has its rules on hosts without zone files

	"holdfast/internal/cli"
	"holdfast/internal/sandbox"
)

// version is set by the linker.
var version = "development"

func main() {
	sandbox.Child()
	os.Exit(cli.Main(cli.Process{
		Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(), Now: time.Now, Version: version,
	}))
}
