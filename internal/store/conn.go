package store

import (
	"context"
	"fmt"
	"net"
	"time"
)

// DefaultStall is how long a connection to a store may move no byte while somebody waits for it.
const DefaultStall = 2 * time.Minute

// Dial connects to addr like [net.Dialer.DialContext], for at most 30 s, and the connection then fails every read and
// write that moves nothing for stall (0: [DefaultStall]): a half-open connection ends as an error that may be retried.
func Dial(ctx context.Context, network, addr string, stall time.Duration) (net.Conn, error) {
	if stall <= 0 {
		stall = DefaultStall
	}
	dialer := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &watchedConn{conn, stall}, nil
}

// watchedConn gives every read and write a deadline of its own.
type watchedConn struct {
	net.Conn
	stall time.Duration
}

func (c *watchedConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, fmt.Errorf("watch the connection: %w", err)
	}
	return c.Conn.Read(p)
}

func (c *watchedConn) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return written, fmt.Errorf("watch the connection: %w", err)
		}
		// In pieces, so that a slow but living connection is no stalled one.
		n, err := c.Conn.Write(p[written:min(len(p), written+64<<10)])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
