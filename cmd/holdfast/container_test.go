package main

import (
	"context"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/internal/testbed"
)

// engine starts a Docker Engine, once in a story, and points HOLDFAST_ENGINE and DOCKER_HOST at it.
func engine(ts *testscript.TestScript, args []string) {
	want(ts, args, 0, 0, "engine")
	w := worldOf(ts)
	w.engine = testbed.Docker(w.t)
	ts.Setenv("HOLDFAST_ENGINE", "unix://"+w.engine.Socket)
	ts.Setenv("DOCKER_HOST", "unix://"+w.engine.Socket)
}

// pgContainer starts a container with a server, without network, and waits until that answers.
func pgContainer(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 100, "pgcontainer NAME [ARG of docker run...]")
	w := worldOf(ts)
	if w.engine == nil {
		ts.Fatalf("no engine was started")
	}
	w.engine.Postgres(w.t, args[0], args[1:]...)
}

// pgAwait waits until the server of a container answers again.
func pgAwait(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "pgawait NAME")
	w := worldOf(ts)
	w.engine.Await(w.t, args[0])
}

// alone requires that nothing but its server runs in a container, as soon as what is ending has ended.
func alone(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "alone NAME")
	w := worldOf(ts)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		others := w.engine.Others(w.t, args[0])
		if len(others) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("left in container %s: %q", args[0], others)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
