package s3

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"holdfast"
)

// keys are the credentials in use. They remember what they handed out, so that no error shows it.
type keys struct {
	provider aws.CredentialsProvider

	mu   sync.Mutex // guards seen
	seen []string
}

// Retrieve is what the client signs with.
func (k *keys) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := k.provider.Retrieve(ctx)
	if err != nil {
		return found, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, text := range []string{found.SecretAccessKey, found.SessionToken, found.AccessKeyID} {
		for _, form := range []string{text, url.QueryEscape(text)} {
			if form != "" && !slices.Contains(k.seen, form) {
				k.seen = append(k.seen, form)
			}
		}
	}
	return found, nil
}

// mask takes what was handed out from text.
func (k *keys) mask(text string) string {
	if k == nil {
		return text
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, secret := range k.seen {
		text = strings.ReplaceAll(text, secret, "********")
	}
	return text
}

// retrieveTime is how long the search for credentials may take: a machine without a role does not answer at all.
const retrieveTime = 15 * time.Second

var errNoCredentials = errors.New("there are no credentials")

// credentials finds the first source that has some, and tries it.
func (d *Driver) credentials(ctx context.Context) (*keys, error) {
	provider, err := d.provider()
	if err != nil {
		return nil, err
	}
	k := &keys{provider: aws.NewCredentialsCache(provider)}
	ctx, cancel := context.WithTimeout(ctx, retrieveTime)
	defer cancel()
	if _, err := k.Retrieve(ctx); err != nil {
		err = fmt.Errorf("%w: %w: %s", fs.ErrPermission, errNoCredentials, scrub(err.Error()))
		return nil, holdfast.WithHint(err, noCredentialsHint)
	}
	return k, nil
}

const noCredentialsHint = "give access_key and secret_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

func (d *Driver) provider() (aws.CredentialsProvider, error) {
	opt := d.opt
	if !opt.AccessKey.IsZero() {
		return credentials.NewStaticCredentialsProvider(opt.AccessKey.Reveal(), opt.SecretKey.Reveal(), opt.SessionToken.Reveal()), nil
	}
	get := func(name string) string {
		text, _ := opt.Lookup(name)
		return text
	}
	if id, secret := get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"); id != "" && secret != "" {
		return credentials.NewStaticCredentialsProvider(id, secret, get("AWS_SESSION_TOKEN")), nil
	}
	shared, err := sharedCredentials(get)
	if err != nil || shared != nil {
		return shared, err
	}
	if opt.Endpoint != "" && !strings.HasSuffix(hostOf(opt.Endpoint), ".amazonaws.com") {
		return nil, holdfast.WithHint(fmt.Errorf("%w: %w", fs.ErrPermission, errNoCredentials), noCredentialsHint)
	}
	if path := get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		once := func(o *endpointcreds.Options) { o.Retryer = aws.NopRetryer{} }
		return endpointcreds.New("http://169.254.170.2"+path, once), nil
	}
	if address := get("AWS_CONTAINER_CREDENTIALS_FULL_URI"); address != "" {
		return containerRole(address, get)
	}
	// Never asked for its default, which reads the environment.
	client := imds.New(imds.Options{
		ClientEnableState: imds.ClientEnabled, Endpoint: cmp.Or(get("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "http://169.254.169.254"), Retryer: aws.NopRetryer{},
	})
	return ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }), nil
}

// containerRole asks an agent beside the container, as EKS and newer agents of ECS have it. Without TLS only addresses of this machine are
// asked: what answers decides where backups go.
//
// See https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func containerRole(address string, get func(string) string) (aws.CredentialsProvider, error) {
	parsed, err := url.Parse(address)
	ip, ipErr := netip.ParseAddr(hostOf(address))
	local := hostOf(address) == "localhost" || ipErr == nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip == netip.MustParseAddr("fd00:ec2::23"))
	if err != nil || parsed.Scheme != "https" && !(parsed.Scheme == "http" && local) {
		return nil, holdfast.WithHint(fmt.Errorf("%w: AWS_CONTAINER_CREDENTIALS_FULL_URI is no address that credentials are taken from", fs.ErrPermission), "it must be https, or of this machine")
	}
	token := get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if file := get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: read AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", fs.ErrPermission, err)
		}
		token = strings.TrimSpace(string(text))
	}
	return endpointcreds.New(address, func(o *endpointcreds.Options) { o.Retryer, o.AuthorizationToken = aws.NopRetryer{}, token }), nil
}

func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return parsed.Hostname()
}

// sharedCredentials reads the profile of the shared credentials file; nil when there is no file, or it has no such
// profile and none was asked for.
func sharedCredentials(get func(string) string) (aws.CredentialsProvider, error) {
	file, profile := get("AWS_SHARED_CREDENTIALS_FILE"), get("AWS_PROFILE")
	if file == "" {
		home := get("HOME")
		if home == "" {
			return nil, nil
		}
		file = filepath.Join(home, ".aws", "credentials")
	}
	asked := profile != ""
	if !asked {
		profile = "default"
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read credentials: %w", fs.ErrPermission, err)
	}
	defer f.Close()
	found, err := parseProfile(f, profile)
	if err != nil {
		return nil, fmt.Errorf("%w: read credentials from %s: %w", holdfast.ErrUsage, file, err)
	}
	if found.AccessKeyID != "" && found.SecretAccessKey != "" {
		return credentials.StaticCredentialsProvider{Value: found}, nil
	}
	if asked {
		return nil, holdfast.WithHint(fmt.Errorf("%w: profile %q of %s has no keys", fs.ErrPermission, profile, file),
			"of a profile only aws_access_key_id, aws_secret_access_key and aws_session_token are used")
	}
	return nil, nil
}

// parseProfile reads one section of a shared credentials file: an INI file with "key = value" lines and comments
// beginning with # or ;. See "Configuration and credential file settings" in the guide of AWS's command line.
func parseProfile(r io.Reader, profile string) (aws.Credentials, error) {
	var found aws.Credentials
	inside := false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "["); ok {
			name, _, _ = strings.Cut(name, "]")
			inside = strings.TrimSpace(name) == profile
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !inside || !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "aws_access_key_id":
			found.AccessKeyID = value
		case "aws_secret_access_key":
			found.SecretAccessKey = value
		case "aws_session_token":
			found.SessionToken = value
		}
	}
	return found, lines.Err()
}
