package journal_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"

	"holdfast/internal/journal"
)

// Where the machine has a log of its own the line must be taken; elsewhere the test listens in its place and sees what comes.
func TestSyslogIsAuthInfo(t *testing.T) {
	const line = "[2026-11-22T02:00:00Z] RESTORE by anna from 203.0.113.9"
	if _, err := os.Lstat("/dev/log"); !errors.Is(err, fs.ErrNotExist) {
		if err := journal.Syslog("holdfast")(line); err != nil {
			t.Error(err)
		}
		return
	}
	if err := journal.Syslog("holdfast")(line); err == nil {
		t.Error("nobody listens, and that is no error")
	}
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		log.Close()
		os.Remove("/dev/log")
	})
	if err := journal.Syslog("holdfast")(line); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1024)
	n, err := log.Read(got)
	// 38 is facility auth (4), severity info (6).
	if text := string(got[:n]); err != nil || !strings.HasPrefix(text, "<38>") || !strings.Contains(text, " holdfast[") || !strings.HasSuffix(strings.TrimSpace(text), line) {
		t.Errorf("the log got %q, error %v", text, err)
	}
}
