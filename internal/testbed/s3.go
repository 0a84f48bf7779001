package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// S3 is a throwaway S3 server on a port of 127.0.0.1. It has no buckets, and one account that may do everything.
type S3 struct {
	Endpoint             string // without TLS
	Region               string
	AccessKey, SecretKey string
	// KMSKey is the name of a key that the server can encrypt with; "" when it has none.
	KMSKey string
	// Log is the file that the server writes what it has to say to.
	Log string

	cmd   *exec.Cmd
	ended chan struct{}
}

// s3Secret is no secret: the server ends with the test.
const s3Secret = "testbed-secret-key-0123456789"

// StartS3 starts versitygw, which is strict like AWS: conditional writes, versions, object lock. Encryption is not its job. It
// ends with the test.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	dir := s3Dir(t)
	data, versions := filepath.Join(dir, "data"), filepath.Join(dir, "history")
	for _, folder := range []string{data, versions} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	program := Program(t, "versitygw")
	return startS3(t, dir, &S3{}, "/", func(s *S3, address string) *exec.Cmd {
		cmd := exec.Command(program, "--port", address, "--keep-alive", "posix", "--versioning-dir", versions, data)
		cmd.Env = []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey}
		return cmd
	})
}

// StartMinIO starts MinIO, which has versions, object lock, conditional writes and encryption with a key of its own. It ends
// with the test.
func StartMinIO(t testing.TB) *S3 {
	t.Helper()
	dir := s3Dir(t)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	program := Program(t, "minio")
	// Its own answer to "are you ready" comes too early: what is signed gets 503 for a while after, with a minute to wait.
	return startS3(t, dir, &S3{KMSKey: "testbed"}, "/bucket?versioning=", func(s *S3, address string) *exec.Cmd {
		cmd := exec.Command(program, "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0", data)
		key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
		cmd.Env = []string{
			"HOME=" + dir, "MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey,
			"MINIO_KMS_SECRET_KEY=" + s.KMSKey + ":" + key, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=1",
		}
		return cmd
	})
}

// s3Dir is on a disk: the servers keep extended attributes, which not every file system in memory has.
func s3Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf-s3-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the throwaway server's folder: %v", err)
		}
	})
	return dir
}

func startS3(t testing.TB, dir string, s *S3, ready string, command func(s *S3, address string) *exec.Cmd) *S3 {
	t.Helper()
	s.Region, s.AccessKey, s.SecretKey, s.Log = "us-east-1", "testbedaccesskey", s3Secret, filepath.Join(dir, "log")
	var err error
	for range 3 { // another process may take the port in between
		if err = s.start(t.Context(), ready, command); err == nil {
			t.Cleanup(s.stop)
			return s
		}
	}
	said, _ := os.ReadFile(s.Log) // told as far as it can be read
	t.Fatalf("start an S3 server: %v\n%s", err, said)
	return nil
}

func (s *S3) start(ctx context.Context, ready string, command func(s *S3, address string) *exec.Cmd) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	// A file and no pipe: a pipe that something inherits would be waited for.
	log, err := os.Create(s.Log)
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own
	s.Endpoint, s.cmd, s.ended = "http://"+address, command(s, address), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // it is killed in the end
	}()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := s.await(ctx, ready); err != nil {
		s.stop()
		return err
	}
	return nil
}

func (s *S3) await(ctx context.Context, ready string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+ready, nil)
	if err != nil {
		return err
	}
	// Signed, though with keys that nobody has: who the caller is, is the last thing that a server can tell.
	nobody, none := aws.Credentials{AccessKeyID: "nobody", SecretAccessKey: "none"}, sha256.Sum256(nil)
	sum := hex.EncodeToString(none[:])
	request.Header.Set("X-Amz-Content-Sha256", sum)
	if err := v4.NewSigner().SignHTTP(ctx, nobody, request, sum, "s3", s.Region, time.Now()); err != nil {
		return err
	}
	for {
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode < 500 {
				return nil
			}
			err = errors.New(answer.Status)
		}
		select {
		case <-s.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop kills the server: nothing of it is needed any more.
func (s *S3) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-s.ended
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
