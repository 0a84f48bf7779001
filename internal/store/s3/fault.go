package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"holdfast"
	"holdfast/internal/store"
)

// fault is an error of a call, in words that are safe to show.
type fault struct {
	text   string
	code   string // what the server called it; "" when it gave no answer
	status int    // of HTTP; 0 without an answer
	kind   error  // the sentinel, or what happened to the connection; nil: may be tried again
}

func (f *fault) Error() string { return f.text }

// Unwrap is the sentinel, if any: never the client's own error, whose text nobody has looked through.
func (f *fault) Unwrap() error { return f.kind }

// code is what the server called err, or "".
func code(err error) string {
	var f *fault
	if errors.As(err, &f) {
		return f.code
	}
	return ""
}

// status is the HTTP status of err, or 0.
func status(err error) int {
	var f *fault
	if errors.As(err, &f) {
		return f.status
	}
	return 0
}

// signed are the parts of an address or a header that let anybody else act as its maker, or tell who that was.
var signed = regexp.MustCompile(
	`(?i)(X-Amz-[A-Za-z-]*(?:Signature|Credential|Token)|Signature|Credential|AWSAccessKeyId)(=|:\s*|%3D)[^&\s,"'<>]+`)

// scrub takes signatures and credentials from text, and keeps it to one line of sane length: servers send whole pages.
func scrub(text string) string {
	text = signed.ReplaceAllString(text, "$1$2********")
	text = strings.Join(strings.Fields(text), " ")
	const longest = 300
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// classify turns an error of the client into one of store.Driver's.
func (d *Driver) classify(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	f := &fault{}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		f.status = response.HTTPStatusCode()
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		f.text, f.kind = scrub(d.keys.mask(plainText(err))), cause(err)
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			return holdfast.WithHint(f, "give ca_file if the server has an authority of its own; else somebody may stand in between")
		}
		return d.later(f, response)
	}
	f.code = api.ErrorCode()
	f.text = scrub(d.keys.mask(f.code + ": " + api.ErrorMessage()))
	if f.status > 0 {
		f.text = fmt.Sprintf("%s (HTTP %d)", f.text, f.status)
	}
	var hint string
	hint, f.kind = f.sort()
	if hint != "" {
		return holdfast.WithHint(f, hint)
	}
	return d.later(f, response)
}

// plainText is what a network error says, without the address, whose query may be a secret.
func plainText(err error) string {
	var address *url.Error
	if errors.As(err, &address) {
		return address.Err.Error()
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return operation.Err.Error()
	}
	return err.Error()
}

// cause keeps what callers may ask a network error for.
func cause(err error) error {
	var network net.Error
	if errors.As(err, &network) {
		var address *url.Error
		if errors.As(err, &address) {
			return address.Err
		}
	}
	return nil
}

// later adds what the server said about when to ask again.
func (d *Driver) later(f *fault, response *smithyhttp.ResponseError) error {
	if f.status != http.StatusTooManyRequests && f.status != http.StatusServiceUnavailable || response == nil {
		return f
	}
	text := response.Response.Header.Get("Retry-After")
	if text == "" {
		return f
	}
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		return &store.LaterError{After: time.Duration(seconds) * time.Second, Err: f}
	}
	if at, err := http.ParseTime(text); err == nil {
		return &store.LaterError{After: max(0, at.Sub(d.opt.Now())), Err: f}
	}
	return f
}

// sort finds what to do about what the server said, and its sentinel. Codes are those of the S3 API reference,
// "Error responses"; XMinio… are MinIO's.
func (f *fault) sort() (hint string, kind error) {
	switch f.code {
	case "NoSuchBucket":
		return "", store.ErrNoStore
	case "NoSuchKey", "NotFound", "NoSuchVersion":
		return "", fs.ErrNotExist
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "XMinioDiskFull":
		return "delete what is not needed, or raise the quota of the bucket or account", store.ErrFull
	case "InvalidAccessKeyId", "XAdminUserNotFound": // the second one is versitygw's
		return "the server does not know this access key: correct access_key, or the endpoint", fs.ErrPermission
	case "SignatureDoesNotMatch":
		return "correct secret_key; if it is right, correct region and endpoint", fs.ErrPermission
	case "ExpiredToken", "TokenRefreshRequired":
		return "the session token has expired: get new temporary credentials", fs.ErrPermission
	case "InvalidToken":
		return "the session token is not valid: leave session_token out with permanent keys", fs.ErrPermission
	case "RequestTimeTooSkewed", "RequestExpired":
		return "set the clock of this host: it is too far from the server's", fs.ErrPermission
	case "AccountProblem", "AllAccessDisabled", "NotSignedUp":
		return "look at the account at the provider: it takes no requests", fs.ErrPermission
	case "InvalidObjectState":
		return "the object is in an archive class: have the provider bring it back first", fs.ErrPermission
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException":
		return "the bucket is in another region: correct region, and endpoint if one is given", holdfast.ErrUsage
	case "BucketAlreadyExists":
		return "choose another bucket name: this one belongs to somebody else", holdfast.ErrUsage
	case "InvalidBucketName":
		return "correct bucket", holdfast.ErrUsage
	case "EntityTooLarge":
		return "raise part_size, or lower it if it is beyond what the server takes", holdfast.ErrUsage
	case "KMS.NotFoundException", "KMS.DisabledException", "KMS.KMSInvalidStateException":
		return "correct kms_key: the server cannot use it", holdfast.ErrUsage
	}
	switch {
	case f.code == "InvalidRequest" && strings.Contains(f.text, "ObjectLockConfiguration"):
		return "make a bucket with object lock, or leave lock out", holdfast.ErrUsage
	case f.status == http.StatusInsufficientStorage:
		return "delete what is not needed, or raise the quota of the bucket or account", store.ErrFull
	case f.status == http.StatusForbidden && strings.Contains(strings.ToLower(f.text), "storage cap exceeded"):
		return "raise the storage cap at the provider", store.ErrFull
	case f.status == http.StatusForbidden, f.status == http.StatusUnauthorized:
		return "give these credentials the rights of their role: `holdfast policy s3 ROLE` prints them", fs.ErrPermission
	case f.status == http.StatusMovedPermanently, f.status == http.StatusTemporaryRedirect && f.code == "":
		return "the bucket is in another region: correct region, and endpoint if one is given", holdfast.ErrUsage
	}
	return "", nil
}
