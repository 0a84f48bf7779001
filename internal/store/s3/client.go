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
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"holdfast"
	"holdfast/internal/store"
)

// call is one operation of the protocol.
type call[In, Out any] func(ctx context.Context, in *In, opts ...func(*s3.Options)) (*Out, error)

// calls are the operations in use, as functions: a client as a field would be reachable for reflection, which
// html/template has, and the linker would then keep all its hundred operations: 7 MB of them.
type calls struct {
	putObject      call[s3.PutObjectInput, s3.PutObjectOutput]
	headObject     call[s3.HeadObjectInput, s3.HeadObjectOutput]
	getObject      call[s3.GetObjectInput, s3.GetObjectOutput]
	deleteObject   call[s3.DeleteObjectInput, s3.DeleteObjectOutput]
	createUpload   call[s3.CreateMultipartUploadInput, s3.CreateMultipartUploadOutput]
	uploadPart     call[s3.UploadPartInput, s3.UploadPartOutput]
	completeUpload call[s3.CompleteMultipartUploadInput, s3.CompleteMultipartUploadOutput]
	abortUpload    call[s3.AbortMultipartUploadInput, s3.AbortMultipartUploadOutput]
	listUploads    call[s3.ListMultipartUploadsInput, s3.ListMultipartUploadsOutput]
	listObjects    call[s3.ListObjectsV2Input, s3.ListObjectsV2Output]
	listVersions   call[s3.ListObjectVersionsInput, s3.ListObjectVersionsOutput]

	createBucket         call[s3.CreateBucketInput, s3.CreateBucketOutput]
	putBucketVersioning  call[s3.PutBucketVersioningInput, s3.PutBucketVersioningOutput]
	putBucketEncryption  call[s3.PutBucketEncryptionInput, s3.PutBucketEncryptionOutput]
	putPublicAccessBlock call[s3.PutPublicAccessBlockInput, s3.PutPublicAccessBlockOutput]
	getBucketVersioning  call[s3.GetBucketVersioningInput, s3.GetBucketVersioningOutput]
	getBucketEncryption  call[s3.GetBucketEncryptionInput, s3.GetBucketEncryptionOutput]
	getBucketLogging     call[s3.GetBucketLoggingInput, s3.GetBucketLoggingOutput]
	getBucketLifecycle   call[s3.GetBucketLifecycleConfigurationInput, s3.GetBucketLifecycleConfigurationOutput]
	getBucketACL         call[s3.GetBucketAclInput, s3.GetBucketAclOutput]
	getPolicyStatus      call[s3.GetBucketPolicyStatusInput, s3.GetBucketPolicyStatusOutput]
	getPublicAccessBlock call[s3.GetPublicAccessBlockInput, s3.GetPublicAccessBlockOutput]
	getObjectLock        call[s3.GetObjectLockConfigurationInput, s3.GetObjectLockConfigurationOutput]

	presignGet func(ctx context.Context, in *s3.GetObjectInput, opts ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error)
}

// do makes one call and classifies its error.
func do[In, Out any](ctx context.Context, d *Driver, f call[In, Out], in *In) (*Out, error) {
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
		ContinueHeaderThresholdBytes:              -1,
	}
	if d.opt.Endpoint != "" {
		options.BaseEndpoint = aws.String(d.opt.Endpoint)
	}
	c := s3.New(options)
	d.calls = calls{
		putObject: c.PutObject, headObject: c.HeadObject, getObject: c.GetObject, deleteObject: c.DeleteObject,
		createUpload: c.CreateMultipartUpload, uploadPart: c.UploadPart, completeUpload: c.CompleteMultipartUpload,
		abortUpload: c.AbortMultipartUpload, listUploads: c.ListMultipartUploads,
		listObjects: c.ListObjectsV2, listVersions: c.ListObjectVersions,
		createBucket: c.CreateBucket, putBucketVersioning: c.PutBucketVersioning,
		putBucketEncryption: c.PutBucketEncryption, putPublicAccessBlock: c.PutPublicAccessBlock,
		getBucketVersioning: c.GetBucketVersioning, getBucketEncryption: c.GetBucketEncryption,
		getBucketLogging: c.GetBucketLogging, getBucketLifecycle: c.GetBucketLifecycleConfiguration,
		getBucketACL: c.GetBucketAcl, getPolicyStatus: c.GetBucketPolicyStatus,
		getPublicAccessBlock: c.GetPublicAccessBlock, getObjectLock: c.GetObjectLockConfiguration,
		presignGet: s3.NewPresignClient(c).PresignGetObject,
	}
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
		MaxIdleConnsPerHost: 2 * (d.opt.Parts + 1),
		IdleConnTimeout:     min(30*time.Second, d.opt.Stall/2), // the read of an idle connection must not run into its stall
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
