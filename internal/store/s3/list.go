package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast/internal/store"
)

// List yields every object whose name begins with prefix, ordered by name. In a bucket with versions it also yields what
// a delete marker hides. Names that store.CheckName refuses were put by somebody else, and are left out, as is a probe.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		objects := d.listObjects
		if d.versioned {
			objects = d.listVersions
		}
		last := ""
		for object, err := range objects(ctx, d.key(prefix)) {
			if err == nil {
				object.Name = strings.TrimPrefix(object.Name, d.opt.Prefix)
				if store.CheckName(object.Name) != nil || isProbe(object.Name) {
					continue
				}
				if object.Name <= last {
					err = errors.New("the server's list is not in order")
				}
				last = object.Name
			}
			if err != nil {
				yield(store.Object{}, fmt.Errorf("list bucket %s: %w", d.opt.Bucket, err))
				return
			}
			if !yield(object, nil) {
				return
			}
		}
	}
}

// listObjects yields keys with what the bucket has now.
func (d *Driver) listObjects(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: d.bucket, Prefix: aws.String(prefix), EncodingType: types.EncodingTypeUrl}
		for {
			out, err := do(ctx, d, d.client.ListObjectsV2, in)
			if err != nil {
				yield(store.Object{}, err)
				return
			}
			decode := decoder(out.EncodingType)
			for _, o := range out.Contents {
				if !yield(store.Object{Name: decode(o.Key), Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			if in.ContinuationToken = out.NextContinuationToken; in.ContinuationToken == nil {
				yield(store.Object{}, errors.New("the server's list ends before its end"))
				return
			}
		}
	}
}

// listVersions yields keys that have content, with what their history tells.
func (d *Driver) listVersions(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		var group []version // of one key, which may go on in the next page
		var nextKey, nextID *string
		for {
			page, err := d.pageOfVersions(ctx, prefix, nextKey, nextID)
			if err != nil {
				yield(store.Object{}, err)
				return
			}
			for _, v := range page.versions {
				if len(group) > 0 && group[0].key != v.key {
					if object, ok := summary(group); ok && !yield(object, nil) {
						return
					}
					group = group[:0]
				}
				group = append(group, v)
			}
			if page.nextKey == nil {
				if object, ok := summary(group); ok {
					yield(object, nil)
				}
				return
			}
			nextKey, nextID = page.nextKey, page.nextID
		}
	}
}

// summary is the object that the versions of one key make, and whether they make one: delete markers alone do not. What
// was put again with the same bytes is one content.
func summary(versions []version) (store.Object, bool) {
	first, ok := oldest(versions)
	if !ok {
		return store.Object{}, false
	}
	type content struct {
		size int64
		etag string
	}
	contents := map[content]bool{}
	hidden := true
	for _, v := range versions {
		if !v.marker {
			contents[content{v.size, v.etag}] = true
			hidden = hidden && !v.latest
		}
	}
	return store.Object{Name: first.key, Size: first.size, Modified: first.modified, Hidden: hidden, Versions: len(contents)}, true
}
