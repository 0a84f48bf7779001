package s3_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/store/s3"
)

const roleAnswer = `{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "role-key", "SecretAccessKey": "role-secret", "Token": "role-token", "Expiration": "2099-01-01T00:00:00Z", "LastUpdated": "2026-01-01T00:00:00Z"}`

// metadata answers as EC2's service does, in its second version.
func metadata(w http.ResponseWriter, r *http.Request) {
	answer := map[string]string{
		"PUT /latest/api/token":                                  "session",
		"GET /latest/meta-data/iam/security-credentials/":        "backups",
		"GET /latest/meta-data/iam/security-credentials/backups": roleAnswer,
	}[r.Method+" "+r.URL.Path]
	if answer == "" || r.Method == http.MethodGet && r.Header.Get("X-Aws-Ec2-Metadata-Token") != "session" {
		http.Error(w, "no", http.StatusNotFound)
		return
	}
	w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
	_, _ = w.Write([]byte(answer)) // the client notices
}

// agent answers as the one beside a container of EKS does.
func agent(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "of-this-pod" {
		http.Error(w, `{"code": "no", "message": "who are you"}`, http.StatusUnauthorized)
		return
	}
	_, _ = w.Write([]byte(roleAnswer)) // the client notices
}

func TestRoles(t *testing.T) {
	ec2 := httptest.NewServer(http.HandlerFunc(metadata))
	t.Cleanup(ec2.Close)
	eks := httptest.NewServer(http.HandlerFunc(agent))
	t.Cleanup(eks.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("of-this-pod\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		endpoint string
		env      environment
		want     error
	}{
		{"machine", "", environment{"AWS_EC2_METADATA_SERVICE_ENDPOINT": ec2.URL}, nil},
		{"machine, at AWS", "https://s3.eu-west-3.amazonaws.com", environment{"AWS_EC2_METADATA_SERVICE_ENDPOINT": ec2.URL}, nil},
		{"machine without a role", "", environment{"AWS_EC2_METADATA_SERVICE_ENDPOINT": eks.URL}, fs.ErrPermission},
		{"container", "", environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": eks.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}, nil},
		{"container, by the token", "", environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": eks.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-this-pod"}, nil},
		{"container that is not known", "", environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": eks.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-another"}, fs.ErrPermission},
		{"agent elsewhere without TLS", "", environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://198.51.100.1/x"}, fs.ErrPermission},
		{"no token file", "", environment{"AWS_CONTAINER_CREDENTIALS_FULL_URI": eks.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token + "x"}, fs.ErrPermission},
		// A role of this machine is nothing for another provider.
		{"another provider", "https://s3.example.org", environment{"AWS_EC2_METADATA_SERVICE_ENDPOINT": ec2.URL}, fs.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s3.FindCredentials(t.Context(), s3.Options{Endpoint: c.endpoint, Lookup: c.env.lookup})
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if err == nil && (got.AccessKeyID != "role-key" || got.SecretAccessKey != "role-secret" || got.SessionToken != "role-token") {
				t.Errorf("found %+v", got)
			}
			if err != nil && (strings.Contains(err.Error()+holdfast.Hint(err), "of-another") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("the error is %q", err)
			}
		})
	}
}
