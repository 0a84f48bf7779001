package store_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"holdfast/internal/store"
)

// A far side that accepts and then neither reads nor writes is what a dropped network looks like.
func TestStalledConnectionsEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			accepted <- conn
		}
	}()
	t.Cleanup(func() { listener.Close() })
	conn, err := store.Dial(t.Context(), "tcp", listener.Addr().String(), 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	far := <-accepted
	defer far.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: error %v, want a deadline", err)
	}
	if _, err := conn.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write of more than buffers hold: error %v, want a deadline", err)
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.LimitReader(conn, 1)); err != nil || string(got) != "x" {
		t.Errorf("after a stall: %q, %v", got, err)
	}
}
