package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"holdfast"
	"holdfast/internal/store"
)

// do makes one call and classifies its error.
func do[In, Out any](
	ctx context.Context, d *Driver, f func(context.Context, *In, ...func(*s3.Options)) (*Out, error), in *In,
) (*Out, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out, err := f(ctx, in)
	if err != nil {
		return nil, d.classify(ctx, err)
	}
	return out, nil
}

// connect makes the client.
func (d *Driver) connect(ctx context.Context) error {
	roots, err := authorities(d.opt.CAFile)
	if err != nil {
		return err
	}
	transport := d.transport(roots)
	d.close = transport.CloseIdleConnections
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if d.keys, err = d.credentials(ctx); err != nil {
		return err
	}
	options := s3.Options{
		Region:       d.opt.Region,
		UsePathStyle: d.opt.PathStyle,
		Credentials:  d.keys,
		HTTPClient:   client,
		Retryer:      aws.NopRetryer{},
		Logger:       logging.Nop{},
		// Checksums are given where they are wanted; the client's own would be trailers, which few servers know.
		RequestChecksumCalculation:                aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenRequired,
		DisableLogOutputChecksumValidationSkipped: true,
	}
	if d.opt.Endpoint != "" {
		options.BaseEndpoint = aws.String(d.opt.Endpoint)
	}
	d.client = s3.New(options)
	return nil
}

// authorities are the system's, with those of file.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: read ca_file: %w", holdfast.ErrUsage, err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a host without any: the file's are those that count
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: ca_file %s has no certificate in PEM", holdfast.ErrUsage, file)
	}
	return roots, nil
}

func (d *Driver) transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := store.Dial(ctx, network, address, d.opt.Stall)
			if err != nil {
				return nil, err
			}
			return &sendingConn{conn, d.opt.Stall}, nil
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: 30 * time.Second,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1: parts go in parallel connections
		DisableCompression:  true,
		// Large bodies wait that long for the server's word: a name that is taken then costs no upload, and a server that
		// answers before it has read everything is heard.
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   2 * (d.opt.Parts + 1),
		IdleConnTimeout:       min(30*time.Second, d.opt.Stall/2), // the read of an idle connection must not run into its stall
	}
}

// sendingConn counts what was sent as life for the read that waits for the answer: [net/http] begins to read before it
// writes, and a large part over a slow line takes longer than any stall.
type sendingConn struct {
	net.Conn
	stall time.Duration
}

func (c *sendingConn) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := c.Conn.Write(p[written:min(len(p), written+64<<10)])
		written += n
		if err != nil {
			return written, err
		}
		if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil && !errors.Is(err, net.ErrClosed) {
			return written, fmt.Errorf("watch the connection: %w", err)
		}
	}
	return written, nil
}
