package s3

import (
	"encoding/json"
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/store"
)

// statement is one statement of a policy in the language of AWS's IAM, version 2012-10-17.
type statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// Policy returns what a role needs and nothing beyond it, as a policy for an account at AWS, or at another server that has policies in
// AWS's language, as MinIO does. Those refuse the whole policy for an action that they do not know. Roles are
//
//   - "writer": makes backups, reads them back and looks at the bucket's set-up; can delete nothing, and thus not clean
//     up after itself either. With versions or a lock in the bucket it cannot destroy what is stored.
//   - "janitor": what a writer may, and deletes: for retention.
//   - "reader": lists and reads.
//
// prefix is that of [Options]; kmsKey is the ARN of the key that the bucket encrypts with, "" for none.
func Policy(role string, bucket, prefix string, kmsKey string, atAWS bool) ([]byte, error) {
	if bucket == "" || strings.ContainsAny(bucket, "/*?\"\\") {
		return nil, fmt.Errorf("policy: %w: bucket %q is not a name of a bucket", holdfast.ErrUsage, bucket)
	}
	prefix = strings.Trim(prefix, "/")
	if prefix != "" {
		if err := store.CheckName(prefix); err != nil {
			return nil, fmt.Errorf("policy: %w: prefix %q: use letters, digits, \"._-\" and slashes", holdfast.ErrUsage, prefix)
		}
		prefix += "/"
	}
	list := statement{
		Sid: "List", Action: []string{"s3:ListBucket", "s3:ListBucketVersions"},
		Resource: []string{"arn:aws:s3:::" + bucket},
	}
	if prefix != "" {
		list.Condition = map[string]map[string][]string{"StringLike": {"s3:prefix": {prefix + "*"}}}
	}
	look := statement{Sid: "LookAtBucket", Action: []string{"s3:GetBucketVersioning"}, Resource: list.Resource}
	objects := statement{
		Sid: "Objects", Action: []string{"s3:GetObject", "s3:GetObjectVersion"},
		Resource: []string{"arn:aws:s3:::" + bucket + "/" + prefix + "*"},
	}
	keys := statement{Sid: "Key", Action: []string{"kms:Decrypt"}, Resource: []string{kmsKey}}
	switch role {
	case "reader":
	case "janitor":
		objects.Action = append(objects.Action,
			"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold")
		fallthrough
	case "writer":
		objects.Action = append(objects.Action,
			"s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
		keys.Action = append(keys.Action, "kms:GenerateDataKey")
		look.Action = append(look.Action,
			"s3:ListBucketMultipartUploads", "s3:GetBucketPolicyStatus",
			"s3:GetEncryptionConfiguration", "s3:GetBucketObjectLockConfiguration", "s3:GetLifecycleConfiguration")
		if atAWS {
			look.Action = append(look.Action, "s3:GetBucketPublicAccessBlock", "s3:GetBucketAcl", "s3:GetBucketLogging")
		}
	default:
		return nil, fmt.Errorf("policy: %w: role %q: use writer, janitor or reader", holdfast.ErrUsage, role)
	}
	statements := []statement{list, look, objects}
	if kmsKey != "" {
		statements = append(statements, keys)
	}
	for i := range statements {
		statements[i].Effect = "Allow"
	}
	text, err := json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", statements}, "", "  ")
	if err != nil {
		panic("s3: a policy cannot be written: " + err.Error()) // it is made of strings
	}
	return append(text, '\n'), nil
}
