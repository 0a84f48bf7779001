package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// version is one version or delete marker of a key.
type version struct {
	key, id  string
	etag     string
	size     int64
	modified time.Time
	latest   bool
	marker   bool // it deletes, and has no content
}

// askVersioning finds out whether the bucket keeps versions. One that only once kept them counts: it has a history.
func (d *Driver) askVersioning(ctx context.Context) error {
	var out *s3.GetBucketVersioningOutput
	err := d.opt.Retrier.Do(ctx, func() (bool, error) {
		var err error
		out, err = do(ctx, d, d.client.GetBucketVersioning, &s3.GetBucketVersioningInput{Bucket: d.bucket})
		return !unsupported(err), err
	})
	if code(err) == "AccessDenied" || unsupported(err) {
		return nil
	}
	if err == nil {
		d.versioned = out.Status != ""
	}
	return err
}

// unsupported reports whether the server has no such call.
func unsupported(err error) bool {
	return status(err) == http.StatusNotImplemented || status(err) == http.StatusMethodNotAllowed
}

// versionPage is one answer of ListObjectVersions, with versions and delete markers in one order: by key, and the newest first.
type versionPage struct {
	versions        []version
	nextKey, nextID *string // nil at the end
}

// pageOfVersions asks for versions of keys that begin with prefix.
func (d *Driver) pageOfVersions(ctx context.Context, prefix string, key, id *string) (versionPage, error) {
	out, err := do(ctx, d, d.client.ListObjectVersions, &s3.ListObjectVersionsInput{
		Bucket: d.bucket, Prefix: aws.String(prefix), KeyMarker: key, VersionIdMarker: id, EncodingType: types.EncodingTypeUrl,
	})
	if err != nil {
		return versionPage{}, err
	}
	decode := decoder(out.EncodingType)
	var page versionPage
	versions, markers := out.Versions, out.DeleteMarkers
	for len(versions) > 0 || len(markers) > 0 {
		var next version
		// Both lists are ordered already. Among versions of one key the order does not matter here.
		if len(markers) == 0 || len(versions) > 0 && decode(versions[0].Key) <= decode(markers[0].Key) {
			v := versions[0]
			next = version{
				key: decode(v.Key), id: aws.ToString(v.VersionId), etag: aws.ToString(v.ETag), size: aws.ToInt64(v.Size),
				modified: aws.ToTime(v.LastModified), latest: aws.ToBool(v.IsLatest),
			}
			versions = versions[1:]
		} else {
			m := markers[0]
			next = version{
				key: decode(m.Key), id: aws.ToString(m.VersionId),
				modified: aws.ToTime(m.LastModified), latest: aws.ToBool(m.IsLatest), marker: true,
			}
			markers = markers[1:]
		}
		page.versions = append(page.versions, next)
	}
	if aws.ToBool(out.IsTruncated) {
		if out.NextKeyMarker == nil {
			return page, errors.New("the server's list ends before its end")
		}
		page.nextKey, page.nextID = aws.String(decode(out.NextKeyMarker)), out.NextVersionIdMarker
	}
	return page, nil
}

// decoder undoes the encoding that keeps control characters out of a listing's XML, where the server knows it.
func decoder(encoding types.EncodingType) func(*string) string {
	return func(text *string) string {
		if encoding == types.EncodingTypeUrl {
			if plain, err := url.QueryUnescape(aws.ToString(text)); err == nil {
				return plain
			}
		}
		return aws.ToString(text)
	}
}

// history returns all versions and delete markers of key.
func (d *Driver) history(ctx context.Context, key string) ([]version, error) {
	var all []version
	var nextKey, nextID *string
	for {
		page, err := d.pageOfVersions(ctx, key, nextKey, nextID)
		if err != nil {
			return nil, err
		}
		for _, v := range page.versions {
			if v.key != key {
				return all, nil // keys that go on after this one come after it
			}
			all = append(all, v)
		}
		if page.nextKey == nil {
			return all, nil
		}
		nextKey, nextID = page.nextKey, page.nextID
	}
}

// oldest returns the version that was put first, and whether there is one. Of those that have one time the listing's
// last one is older.
func oldest(versions []version) (version, bool) {
	var first version
	found := false
	for _, v := range versions {
		if v.marker {
			continue
		}
		if !found || !v.modified.After(first.modified) {
			first, found = v, true
		}
	}
	return first, found
}

// object returns the id of the version that key stands for: nil where the bucket has none, fs.ErrNotExist when there is no content.
func (d *Driver) object(ctx context.Context, key string) (*string, error) {
	if !d.versioned {
		return nil, nil
	}
	versions, err := d.history(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("find its first version: %w", err)
	}
	first, ok := oldest(versions)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return aws.String(first.id), nil
}
