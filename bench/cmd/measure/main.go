// Command measure runs a command and appends what it took to a file of JSON lines, and makes tables of such files. It
// is for bench/run.sh; it asserts nothing about time.
//
//	measure run -out FILE -group G -label L -round N [-apart pg_dump,psql] [-stored PATH] -- COMMAND ARGUMENT…
//	measure report FILE [-ratio 'text=label A=label B'] [-size 'text=label A=label B'] …
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	err := errors.New("no such verb: use run or report")
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "run":
			err = run(os.Args[2:])
		case "report":
			err = report(os.Args[2:], os.Stdout)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}
