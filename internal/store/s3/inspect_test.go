package s3_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/s3"
	"holdfast/internal/testbed"
)

func inspect(t *testing.T, d *s3.Driver, about store.Inspection) []store.Finding {
	t.Helper()
	before := objects(t, d)
	findings, err := d.Inspect(t.Context(), about)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Message == "" || (f.Fix == "") != (f.Severity == store.Fine) {
			t.Errorf("a finding without words or a fix: %+v", f)
		}
	}
	if after := objects(t, d); !slices.Equal(before, after) {
		t.Errorf("Inspect has changed what is stored from %v to %v", before, after)
	}
	return findings
}

// says: there is a finding of that severity whose message has text.
func says(findings []store.Finding, severity store.Severity, text string) bool {
	return slices.ContainsFunc(findings, func(f store.Finding) bool { return f.Severity == severity && strings.Contains(f.Message, text) })
}

func wantFindings(t *testing.T, findings []store.Finding, severity store.Severity, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !says(findings, severity, text) {
			t.Errorf("nothing %s with %q in %+v", severity, text, findings)
		}
	}
}

func wantNoFinding(t *testing.T, findings []store.Finding, texts ...string) {
	t.Helper()
	for _, f := range findings {
		for _, text := range texts {
			if strings.Contains(f.Message, text) {
				t.Errorf("unexpected: %+v", f)
			}
		}
	}
}

func TestInspect(t *testing.T) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			plain := options(server)
			makeBucket(t, server, plain.Bucket)
			findings := inspect(t, open(t, plain), store.Inspection{WriteOnly: true})
			wantFindings(t, findings, store.Warns, "no versions", "no object lock", "can delete")
			wantFindings(t, findings, store.Fine, "writes a name once")
			wantNoFinding(t, findings, "clock", "strangers", "TLS", "lifecycle rule \"")

			locked := options(server)
			locked.LockMode, locked.LockFor = "governance", time.Hour
			d := create(t, locked)
			findings = inspect(t, d, store.Inspection{})
			wantFindings(t, findings, store.Fine, "keeps versions", "are locked", "writes a name once")
			wantNoFinding(t, findings, "can delete", "MFA")

			without := plain
			without.LockMode, without.LockFor = "governance", time.Hour
			findings, err := open(t, without).Inspect(t.Context(), store.Inspection{})
			if err != nil {
				t.Fatal(err)
			}
			wantFindings(t, findings, store.Fails, "the bucket has no object lock")
			if err := open(t, without).Put(t.Context(), "a", strings.NewReader("x")); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
				t.Errorf("Put with a lock that the bucket does not have: %v, want ErrUsage with a hint", err)
			}

			versions := options(server)
			findings = inspect(t, create(t, versions), store.Inspection{})
			wantFindings(t, findings, store.Warns, "the keys alone can delete")
		})
	}
}

func TestInspectClock(t *testing.T) {
	server := testbed.StartS3(t)
	opt := options(server)
	makeBucket(t, server, opt.Bucket)
	for ahead, severity := range map[time.Duration]store.Severity{5 * time.Minute: store.Warns, -5 * time.Minute: store.Warns, time.Hour: store.Fails} {
		opt.Now = func() time.Time { return time.Now().Add(ahead) }
		wantFindings(t, inspect(t, open(t, opt), store.Inspection{}), severity, "clocks of this host")
	}
}

func TestInspectLifecycle(t *testing.T) {
	server := testbed.StartMinIO(t)
	opt := options(server)
	opt.Prefix = "ours"
	d := create(t, opt)
	day := 24 * time.Hour
	for _, test := range []struct {
		name string
		rule types.LifecycleRule
		keep time.Duration
		want string // "": no finding
	}{
		{"too early", types.LifecycleRule{Expiration: &types.LifecycleExpiration{Days: aws.Int32(30)}}, 31 * day, "after 30 days"},
		{"late enough", types.LifecycleRule{Expiration: &types.LifecycleExpiration{Days: aws.Int32(30)}}, 30 * day, ""},
		{"kept for ever", types.LifecycleRule{Expiration: &types.LifecycleExpiration{Days: aws.Int32(3000)}}, 0, "after 3000 days"},
		{"history", types.LifecycleRule{NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(7)}}, 8 * day, "for good after 7 days"},
		{"inside", types.LifecycleRule{
			Filter: &types.LifecycleRuleFilter{Prefix: aws.String("ours/x/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
		}, 0, "after 1 days"},
		{"elsewhere", types.LifecycleRule{
			Filter: &types.LifecycleRuleFilter{Prefix: aws.String("theirs/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
		}, 0, ""},
		{"off", types.LifecycleRule{Status: types.ExpirationStatusDisabled, Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)}}, 0, ""},
		{"tagged", types.LifecycleRule{
			Filter:     &types.LifecycleRuleFilter{Tag: &types.Tag{Key: aws.String("old"), Value: aws.String("yes")}},
			Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
		}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			rule := test.rule
			rule.ID = aws.String("the rule")
			if rule.Status == "" {
				rule.Status = types.ExpirationStatusEnabled
			}
			if rule.Filter == nil {
				rule.Filter = &types.LifecycleRuleFilter{Prefix: aws.String("")}
			}
			_, err := client(server).PutBucketLifecycleConfiguration(t.Context(), &awss3.PutBucketLifecycleConfigurationInput{
				Bucket: aws.String(opt.Bucket), LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{rule}},
			})
			if err != nil {
				t.Fatal(err)
			}
			findings := inspect(t, d, store.Inspection{Keep: test.keep})
			if test.want == "" {
				wantNoFinding(t, findings, "lifecycle rule \"")
			} else {
				wantFindings(t, findings, store.Warns, test.want)
			}
		})
	}
}

// TestInspectAnswers puts into the server's mouth what the servers here cannot say.
func TestInspectAnswers(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	makeBucket(t, server, opt.Bucket)
	d := open(t, opt)
	for _, test := range []struct {
		query  string
		status int
		body   string
		want   store.Severity
		text   string
	}{
		{"policyStatus", 200, "<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>", store.Warns, "policy lets strangers in"},
		{"policyStatus", 404, xmlError("NoSuchBucketPolicy", ""), "", "policy"},
		{"policyStatus", 403, xmlError("AccessDenied", "no"), store.Warns, "policy could not be looked at"},
		{"policyStatus", 501, xmlError("NotImplemented", "no"), store.Warns, "policy could not be looked at"},
		{"acl", 200, `<AccessControlPolicy><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">` +
			`<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>`,
			store.Warns, "access list lets strangers in: READ"},
		{"publicAccessBlock", 404, xmlError("NoSuchPublicAccessBlockConfiguration", ""), store.Warns, "not blocked for good"},
		{"publicAccessBlock", 200, "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>" +
			"<BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>", store.Fine, "public access is blocked"},
		{"encryption", 404, xmlError("ServerSideEncryptionConfigurationNotFoundError", ""), store.Warns, "does not encrypt by default"},
		{"logging", 200, "<BucketLoggingStatus></BucketLoggingStatus>", store.Warns, "no access log"},
		{"logging", 200, "<BucketLoggingStatus><LoggingEnabled><TargetBucket>logs</TargetBucket><TargetPrefix></TargetPrefix></LoggingEnabled></BucketLoggingStatus>", "", "access log"},
		{"versioning", 200, "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>", store.Warns, "versioning is suspended"},
		{"versioning", 403, xmlError("AccessDenied", "no"), store.Warns, "versioning could not be looked at"},
		{"object-lock", 200, "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>", store.Warns, "nothing locks"},
		{"lifecycle", 200, "<LifecycleConfiguration><Rule><ID>cold</ID><Status>Enabled</Status><Prefix></Prefix><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>",
			store.Warns, "moves backups to GLACIER"},
	} {
		proxy.Heal()
		proxy.Fail(testbed.Fault{
			Match:   func(r *http.Request) bool { return r.URL.Query().Has(test.query) },
			Failure: testbed.Answer, Status: test.status, Body: test.body, Times: -1,
		})
		findings := inspect(t, d, store.Inspection{})
		if test.want == "" {
			wantNoFinding(t, findings, test.text)
		} else {
			wantFindings(t, findings, test.want, test.text)
		}
	}
}

// TestInspectWriter: credentials that cannot delete are told from those that can.
func TestInspectWriter(t *testing.T) {
	server := testbed.StartS3(t)
	proxy, opt := through(t, server)
	d := create(t, opt)
	proxy.Fail(testbed.Fault{
		Match:   func(r *http.Request) bool { return r.Method == http.MethodDelete && !r.URL.Query().Has("uploadId") },
		Failure: testbed.Answer, Status: 403, Body: xmlError("AccessDenied", "no"), Times: -1,
	})
	for range 2 { // the second one finds the probe of the first
		findings := inspect(t, d, store.Inspection{WriteOnly: true})
		wantFindings(t, findings, store.Fine, "cannot delete", "writes a name once")
	}
	if n := unfinished(t, server, opt.Bucket, "holdfast-probe"); n > 0 {
		t.Errorf("the probe has left %d unfinished uploads", n)
	}
	proxy.Heal()
	proxy.Fail(testbed.Fault{Match: method(http.MethodPut), Failure: testbed.Answer, Status: 403, Body: xmlError("AccessDenied", "no"), Times: -1})
	wantFindings(t, inspect(t, d, store.Inspection{}), store.Fails, "nothing can be put")
	proxy.Heal()
	proxy.Fail(testbed.Fault{Failure: testbed.ResetBefore, Times: -1})
	if _, err := d.Inspect(t.Context(), store.Inspection{}); err == nil {
		t.Error("Inspect of a server that does not answer succeeded")
	}
}

func TestInspectIgnoredCondition(t *testing.T) {
	server := testbed.StartS3(t)
	_, opt := forgetful(t, server)
	d := create(t, opt)
	wantFindings(t, inspect(t, d, store.Inspection{}), store.Warns, "does not obey If-None-Match")
}

func TestPolicy(t *testing.T) {
	type policy struct {
		Version   string
		Statement []struct {
			Effect           string
			Action, Resource []string
			Condition        map[string]map[string][]string
		}
	}
	actions := map[string][]string{}
	for _, role := range []string{"writer", "janitor", "reader"} {
		text, err := s3.Policy(role, "bucket", "/folder/", "arn:aws:kms:eu-west-1:1:key/2", true)
		if err != nil {
			t.Fatal(err)
		}
		var p policy
		if err := json.Unmarshal(text, &p); err != nil || p.Version != "2012-10-17" {
			t.Fatalf("%s: %v\n%s", role, err, text)
		}
		for _, s := range p.Statement {
			if s.Effect != "Allow" || len(s.Resource) != 1 || s.Resource[0] == "*" {
				t.Errorf("%s: %+v allows too much", role, s)
			}
			for _, action := range s.Action {
				if strings.Contains(action, "*") {
					t.Errorf("%s: %s is more than one action", role, action)
				}
				if strings.Contains(action, "Object") && !strings.Contains(action, "Bucket") && s.Resource[0] != "arn:aws:s3:::bucket/folder/*" {
					t.Errorf("%s: %s goes beyond the folder: %v", role, action, s.Resource)
				}
			}
			actions[role] = append(actions[role], s.Action...)
		}
	}
	for _, test := range []struct {
		action string
		roles  []string
	}{
		{"s3:GetObject", []string{"writer", "janitor", "reader"}},
		{"s3:ListBucketVersions", []string{"writer", "janitor", "reader"}},
		{"s3:PutObject", []string{"writer", "janitor"}},
		{"kms:GenerateDataKey", []string{"writer", "janitor"}},
		{"s3:DeleteObject", []string{"janitor"}},
		{"s3:DeleteObjectVersion", []string{"janitor"}},
		{"s3:GetBucketLogging", []string{"writer", "janitor"}},
		{"s3:BypassGovernanceRetention", nil},
		{"s3:PutBucketVersioning", nil},
		{"s3:PutLifecycleConfiguration", nil},
	} {
		for role, allowed := range actions {
			if slices.Contains(allowed, test.action) != slices.Contains(test.roles, role) {
				t.Errorf("%s may %s: %v", role, test.action, slices.Contains(allowed, test.action))
			}
		}
	}
	for _, bad := range [][3]string{{"owner", "bucket", ""}, {"writer", "", ""}, {"writer", "*", ""}, {"writer", "bucket", "a/*"}} {
		if _, err := s3.Policy(bad[0], bad[1], bad[2], "", true); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("Policy(%q): %v, want ErrUsage", bad, err)
		}
	}
}
