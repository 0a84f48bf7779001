package s3

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"holdfast"
	"holdfast/internal/store"
)

// longestLink is what Signature Version 4 allows.
const longestLink = 7 * 24 * time.Hour

// Link returns an address from which anybody reads the object until it expires, after at most 7 days, and never later than
// temporary credentials do. A missing name is fs.ErrNotExist.
func (d *Driver) Link(ctx context.Context, name string, expires time.Duration) (holdfast.Secret, error) {
	if err := store.CheckName(name); err != nil {
		return holdfast.Secret{}, err
	}
	if expires < time.Second || expires > longestLink {
		return holdfast.Secret{}, fmt.Errorf("link to %s: %w: a link of this store lasts one second to 7 days", name, holdfast.ErrUsage)
	}
	link, err := d.link(ctx, d.key(name), expires)
	if err != nil {
		return holdfast.Secret{}, fmt.Errorf("link to %s: %w", name, err)
	}
	return link, nil
}

func (d *Driver) link(ctx context.Context, key string, expires time.Duration) (holdfast.Secret, error) {
	id, err := d.object(ctx, key)
	if err == nil {
		err = d.there(ctx, key, id)
	}
	if err != nil {
		return holdfast.Secret{}, err
	}
	in := &s3.GetObjectInput{Bucket: d.bucket, Key: aws.String(key), VersionId: id}
	request, err := s3.NewPresignClient(d.client).PresignGetObject(ctx, in, s3.WithPresignExpires(expires))
	if err != nil {
		return holdfast.Secret{}, d.classify(ctx, err)
	}
	return holdfast.NewSecret(request.URL), nil
}
