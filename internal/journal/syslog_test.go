package journal_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/journal"
)

func TestSyslogIsAuthInfo(t *testing.T) {
	const line = "[2026-11-22T02:00:00Z] RESTORE by anna from 203.0.113.9"
	path := filepath.Join(t.TempDir(), "log")
	write := journal.SyslogAt("unixgram", path, "holdfast")
	if err := write(line); err == nil {
		t.Error("nobody listens, and that is no error")
	}
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := write(line); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1024)
	n, err := log.Read(got)
	// 38 is facility auth (4), severity info (6).
	if text := string(got[:n]); err != nil || !strings.HasPrefix(text, "<38>") || !strings.Contains(text, " holdfast[") || !strings.HasSuffix(strings.TrimSpace(text), line) {
		t.Errorf("the log got %q, error %v", text, err)
	}
}
