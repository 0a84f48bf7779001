package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast/internal/store"
)

// inspector looks at one thing after the other and collects what it finds.
type inspector struct {
	d        *Driver
	about    store.Inspection
	findings []store.Finding
	locked   bool // an object lock is in force
}

// Inspect looks at versions, public access, encryption, object lock, the access log, lifecycle rules, the clock, conditional
// writes and, for about.WriteOnly, at whether these credentials can delete. For the last two it puts a small object and
// deletes it; see [Driver.Probe]. What the server does not let it see is a finding too; a server that does not answer is an
// error.
func (d *Driver) Inspect(ctx context.Context, about store.Inspection) ([]store.Finding, error) {
	in := &inspector{d: d, about: about}
	for _, look := range []func(context.Context) error{
		in.address, in.lock, in.versions, in.access, in.policy, in.accessBlock, in.encryption, in.log, in.lifecycle, in.probe,
	} {
		if err := look(ctx); err != nil {
			return in.findings, fmt.Errorf("inspect bucket %s: %w", d.opt.Bucket, err)
		}
	}
	return in.findings, nil
}

func (in *inspector) found(severity store.Severity, message, fix string) {
	in.findings = append(in.findings, store.Finding{Severity: severity, Message: message, Fix: fix})
}

// ask makes one call for what. It returns nil and no error when the server does not tell, which is a finding, and an error
// when there is no server. absent are codes that say that nothing is set; they come back as a zero answer.
func ask[In, Out any](
	ctx context.Context, in *inspector, what string,
	f func(context.Context, *In, ...func(*s3.Options)) (*Out, error), input *In, absent ...string,
) (*Out, error) {
	var out *Out
	err := in.d.opt.Retrier.Do(ctx, func() (bool, error) {
		var err error
		out, err = do(ctx, in.d, f, input)
		return status(err) == 0 || status(err) >= 500 && !unsupported(err), err
	})
	for _, name := range absent {
		if code(err) == name {
			return new(Out), nil
		}
	}
	switch {
	case err == nil:
		return out, nil
	case status(err) == 0 || ctx.Err() != nil:
		return nil, err
	}
	fix := "let these credentials read the set-up of the bucket: `holdfast policy s3 writer` prints them"
	if in.d.opt.Endpoint != "" {
		fix = "look at it at the provider, or give these credentials the right where the server has such a one"
	}
	if unsupported(err) || !errors.Is(err, fs.ErrPermission) {
		fix = "look at it at the provider: this server does not tell"
	}
	in.found(store.Warns, fmt.Sprintf("%s could not be looked at: %v", what, err), fix)
	return nil, nil
}

// address: whoever reads along sees names and sizes, and can replay a request.
func (in *inspector) address(context.Context) error {
	address, err := url.Parse(in.d.opt.Endpoint)
	if err != nil || address.Scheme != "http" || address.Hostname() == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(address.Hostname()); err == nil && ip.IsLoopback() {
		return nil
	}
	in.found(store.Warns, "the endpoint is used without TLS", "give an https:// endpoint, with ca_file for an authority of your own")
	return nil
}

func (in *inspector) lock(ctx context.Context) error {
	out, err := ask(ctx, in, "object lock", in.d.client.GetObjectLockConfiguration,
		&s3.GetObjectLockConfigurationInput{Bucket: in.d.bucket},
		"ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound")
	if err != nil || out == nil {
		return err
	}
	enabled := out.ObjectLockConfiguration != nil && out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled
	byDefault := enabled && out.ObjectLockConfiguration.Rule != nil &&
		out.ObjectLockConfiguration.Rule.DefaultRetention != nil
	in.locked = byDefault || enabled && in.d.opt.LockMode != ""
	switch {
	case in.locked:
		in.found(store.Fine, "objects are locked", "")
	case in.d.opt.LockMode != "":
		in.found(store.Fails, "lock is set, but the bucket has no object lock", "make a bucket with object lock, or leave lock out")
	case enabled:
		in.found(store.Warns, "the bucket has object lock, but nothing locks what is put",
			"set lock and lock_for of this store, or a default retention of the bucket")
	default:
		in.found(store.Warns, "the bucket has no object lock: whoever has the keys of an administrator can delete every backup",
			"make a bucket with object lock, and set lock and lock_for")
	}
	return nil
}

// The furthest that a clock may be off before it is told, and before servers refuse requests (15 minutes at AWS).
const (
	slightSkew = time.Minute
	severeSkew = 15 * time.Minute
)

func (in *inspector) versions(ctx context.Context) error {
	before := in.d.opt.Now()
	out, err := ask(ctx, in, "versioning", in.d.client.GetBucketVersioning, &s3.GetBucketVersioningInput{Bucket: in.d.bucket})
	if err != nil || out == nil {
		return err
	}
	if server, ok := awsmiddleware.GetServerTime(out.ResultMetadata); ok {
		if skew := before.Sub(server).Abs(); skew > slightSkew {
			severity := store.Warns
			if skew > severeSkew {
				severity = store.Fails
			}
			in.found(severity, fmt.Sprintf("the clocks of this host and of the server are %s apart", skew.Round(time.Second)),
				"set the clock of this host")
		}
	}
	switch out.Status {
	case types.BucketVersioningStatusEnabled:
		in.found(store.Fine, "the bucket keeps versions", "")
		if !in.locked && out.MFADelete != types.MFADeleteStatusEnabled {
			in.found(store.Warns, "the keys alone can delete versions: there is neither object lock nor MFA delete",
				"turn on object lock, or MFA delete where the provider has it")
		}
	case types.BucketVersioningStatusSuspended:
		in.found(store.Warns, "versioning is suspended: what is deleted or overwritten from now on is lost", "turn versioning on again")
	default:
		in.found(store.Warns, "the bucket keeps no versions: what is deleted or overwritten is lost", "turn versioning on")
	}
	return nil
}

func (in *inspector) access(ctx context.Context) error {
	out, err := ask(ctx, in, "the access list", in.d.client.GetBucketAcl, &s3.GetBucketAclInput{Bucket: in.d.bucket},
		"AccessControlListNotSupported")
	if err != nil || out == nil {
		return err
	}
	for _, grant := range out.Grants {
		if grant.Grantee == nil {
			continue
		}
		group := aws.ToString(grant.Grantee.URI)
		if strings.HasSuffix(group, "/AllUsers") || strings.HasSuffix(group, "/AuthenticatedUsers") {
			in.found(store.Warns, "the bucket's access list lets strangers in: "+string(grant.Permission), "make the bucket private")
			return nil
		}
	}
	return nil
}

func (in *inspector) policy(ctx context.Context) error {
	out, err := ask(ctx, in, "the bucket's policy", in.d.client.GetBucketPolicyStatus,
		&s3.GetBucketPolicyStatusInput{Bucket: in.d.bucket}, "NoSuchBucketPolicy")
	if err != nil || out == nil {
		return err
	}
	if out.PolicyStatus != nil && aws.ToBool(out.PolicyStatus.IsPublic) {
		in.found(store.Warns, "the bucket's policy lets strangers in", "take the public statement out of the policy")
	}
	return nil
}

func (in *inspector) accessBlock(ctx context.Context) error {
	out, err := ask(ctx, in, "the block of public access", in.d.client.GetPublicAccessBlock,
		&s3.GetPublicAccessBlockInput{Bucket: in.d.bucket}, "NoSuchPublicAccessBlockConfiguration")
	if err != nil || out == nil {
		return err
	}
	block := out.PublicAccessBlockConfiguration
	if block == nil || !aws.ToBool(block.BlockPublicAcls) || !aws.ToBool(block.BlockPublicPolicy) ||
		!aws.ToBool(block.IgnorePublicAcls) || !aws.ToBool(block.RestrictPublicBuckets) {
		in.found(store.Warns, "public access is not blocked for good: a policy or an access list can open the bucket",
			"turn on all four parts of Block Public Access")
		return nil
	}
	in.found(store.Fine, "public access is blocked", "")
	return nil
}

func (in *inspector) encryption(ctx context.Context) error {
	out, err := ask(ctx, in, "default encryption", in.d.client.GetBucketEncryption,
		&s3.GetBucketEncryptionInput{Bucket: in.d.bucket}, "ServerSideEncryptionConfigurationNotFoundError")
	if err != nil || out == nil {
		return err
	}
	if out.ServerSideEncryptionConfiguration == nil || len(out.ServerSideEncryptionConfiguration.Rules) == 0 {
		in.found(store.Warns, "the bucket does not encrypt by default; backups are sealed all the same",
			"turn default encryption on, or set sse")
	}
	return nil
}

func (in *inspector) log(ctx context.Context) error {
	out, err := ask(ctx, in, "the access log", in.d.client.GetBucketLogging, &s3.GetBucketLoggingInput{Bucket: in.d.bucket})
	if err != nil || out == nil {
		return err
	}
	if out.LoggingEnabled == nil {
		in.found(store.Warns, "nobody writes down who reads and deletes: the bucket has no access log",
			"have its access log written to another bucket")
	}
	return nil
}

func (in *inspector) lifecycle(ctx context.Context) error {
	out, err := ask(ctx, in, "lifecycle rules", in.d.client.GetBucketLifecycleConfiguration,
		&s3.GetBucketLifecycleConfigurationInput{Bucket: in.d.bucket}, "NoSuchLifecycleConfiguration")
	if err != nil || out == nil {
		return err
	}
	for _, rule := range out.Rules {
		if rule.Status == types.ExpirationStatusEnabled && in.concerns(rule) {
			in.rule(rule)
		}
	}
	return nil
}

// concerns reports whether a rule can apply to objects of this store, which have no tags.
func (in *inspector) concerns(rule types.LifecycleRule) bool {
	prefix := aws.ToString(rule.Prefix) //lint:ignore SA1019 servers still send the older form
	if filter := rule.Filter; filter != nil {
		if filter.Tag != nil || filter.And != nil && len(filter.And.Tags) > 0 {
			return false
		}
		if filter.Prefix != nil {
			prefix = *filter.Prefix
		}
		if filter.And != nil && filter.And.Prefix != nil {
			prefix = *filter.And.Prefix
		}
	}
	return strings.HasPrefix(prefix, in.d.opt.Prefix) || strings.HasPrefix(in.d.opt.Prefix, prefix)
}

func (in *inspector) rule(rule types.LifecycleRule) {
	name := fmt.Sprintf("lifecycle rule %q", aws.ToString(rule.ID))
	const fix = "let retention delete alone: take the rule away, or make it longer than retention keeps"
	if e := rule.Expiration; e != nil {
		switch {
		case e.Date != nil:
			in.found(store.Warns, name+" deletes everything on "+e.Date.UTC().Format(time.DateOnly), fix)
		case aws.ToInt32(e.Days) > 0 && in.early(aws.ToInt32(e.Days)):
			in.found(store.Warns, fmt.Sprintf("%s deletes backups after %d days", name, *e.Days), fix)
		}
	}
	if e := rule.NoncurrentVersionExpiration; e != nil && in.early(aws.ToInt32(e.NoncurrentDays)) {
		in.found(store.Warns, fmt.Sprintf(
			"%s removes deleted and overwritten versions for good after %d days: what an attacker deletes is gone by then",
			name, aws.ToInt32(e.NoncurrentDays)), fix)
	}
	for _, t := range rule.Transitions {
		if t.StorageClass == types.TransitionStorageClassGlacier || t.StorageClass == types.TransitionStorageClassDeepArchive {
			in.found(store.Warns, fmt.Sprintf("%s moves backups to %s, where they cannot be read at once", name, t.StorageClass),
				"take the transition away: drills and restores read what is stored")
		}
	}
}

// early reports whether days end before retention lets go. Without a known end of retention every end is too early.
func (in *inspector) early(days int32) bool {
	return in.about.Keep == 0 || time.Duration(days)*24*time.Hour < in.about.Keep
}

func (in *inspector) probe(ctx context.Context) error {
	found, err := in.d.probe(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		in.found(store.Fails, "nothing can be put: "+err.Error(),
			"give these credentials the rights of a writer: `holdfast policy s3 writer` prints them")
		return nil
	case err != nil:
		return fmt.Errorf("probe: %w", err)
	}
	if found.obeyed() {
		in.found(store.Fine, "the server writes a name once", "")
	} else {
		in.findings = append(in.findings, ignoredFinding())
	}
	if in.about.WriteOnly {
		in.deletion(found.deleted)
	}
	return nil
}

// deletion tells whether these credentials can delete, from how the probe went away.
func (in *inspector) deletion(err error) {
	switch {
	case err == nil:
		in.found(store.Warns,
			"these credentials can delete, and this host only makes backups: whoever takes it over can delete them",
			"give this host the rights of a writer: `holdfast policy s3 writer` prints them")
	case errors.Is(err, store.ErrRetained):
		in.found(store.Fine, "a lock keeps these credentials from deleting", "")
	default:
		in.found(store.Fine, "these credentials cannot delete", "")
	}
}
