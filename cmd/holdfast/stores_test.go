package main

import (
	"fmt"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/internal/testbed"
)

// storyClock is the variable by which a story sets the clock of the programs that it runs.
const storyClock = "STORY_CLOCK"

// storyNow is the time of day in a story: what `clock` said, and from then on it goes by as ever.
func storyNow() time.Time {
	text := os.Getenv(storyClock)
	if text == "" {
		return time.Now()
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic("story: " + err.Error())
	}
	return at.Add(time.Since(began))
}

var began = time.Now()

// clock sets the time of day of what the story runs from now on; "now" gives the machine's back.
func clock(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 1, "clock TIME|now")
	if args[0] == "now" {
		args[0] = ""
	}
	ts.Setenv(storyClock, args[0])
}

// s3Server starts a server of S3 and lets AWS's variables sign in to it.
func s3Server(ts *testscript.TestScript, args []string) {
	want(ts, args, 2, 2, "s3server NAME versitygw|minio")
	w := worldOf(ts)
	var server *testbed.S3
	switch args[1] {
	case "versitygw":
		server = testbed.StartS3(w.t)
	case "minio":
		server = testbed.StartMinIO(w.t)
	default:
		ts.Fatalf("no server %q is known", args[1])
	}
	ts.Setenv(args[0], server.Endpoint)
	ts.Setenv("AWS_REGION", server.Region)
	ts.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
}

// sshServer starts an SSH server; it sets $NAME_PORT, $NAME_USER, $NAME_KEY, $NAME_HOSTS (a known_hosts file) and $NAME_DIR.
func sshServer(ts *testscript.TestScript, args []string) {
	want(ts, args, 1, 2, "sshserver NAME [chroot]")
	server := testbed.StartSSHD(worldOf(ts).t, testbed.SSHDOptions{Chroot: len(args) > 1 && args[1] == "chroot"})
	for name, value := range map[string]string{
		"PORT": fmt.Sprint(server.Port), "USER": server.User, "KEY": server.KeyFile, "OTHER_KEY": server.OtherKey, "HOSTS": server.KnownHosts, "DIR": server.Dir,
	} {
		ts.Setenv(args[0]+"_"+name, value)
	}
}
