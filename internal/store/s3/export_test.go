package s3

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// FewParts lowers the number of parts that a stream may have.
func FewParts(d *Driver, most int32) *Driver {
	d.parts = most
	return d
}

// NewSendingConn is what the client talks through.
func NewSendingConn(conn net.Conn, stall time.Duration) net.Conn { return &sendingConn{conn, stall} }

// ParseProfile returns what a shared credentials file has in a profile.
func ParseProfile(r io.Reader, profile string) (key, secret, token string, err error) {
	found, err := parseProfile(r, profile)
	return found.AccessKeyID, found.SecretAccessKey, found.SessionToken, err
}

// Scrub takes signatures from text.
func Scrub(text string) string { return scrub(text) }

// FindCredentials looks for credentials where Open does.
func FindCredentials(ctx context.Context, opt Options) (aws.Credentials, error) {
	keys, err := (&Driver{opt: opt}).credentials(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	return keys.Retrieve(ctx)
}
