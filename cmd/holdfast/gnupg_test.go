package main

import (
	"context"
	"os"
	"os/exec"

	"github.com/rogpeppe/go-internal/testscript"
)

// gnupg makes the folder beside the story's own: the socket of gpg's agent is in it, so its path must be short.
func gnupg(ts *testscript.TestScript, args []string) {
	want(ts, args, 0, 0, "gnupg")
	home, err := os.MkdirTemp("", "gpg")
	ts.Check(err)
	ts.Defer(func() {
		out, err := exec.CommandContext(context.Background(), "gpgconf", "--homedir", home, "--kill", "all").CombinedOutput()
		if err != nil {
			ts.Logf("end gpg's agent: %v: %s", err, out)
		}
		if err := os.RemoveAll(home); err != nil {
			ts.Logf("%v", err)
		}
	})
	ts.Setenv("GNUPGHOME", home)
}
