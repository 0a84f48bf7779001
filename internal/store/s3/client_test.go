package s3_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"holdfast/internal/store/s3"
)

// TestSendingIsLife: a read that waits for the answer outlives any stall while the request is still going out, and none after.
func TestSendingIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = time.Minute
		near, far := net.Pipe()
		defer far.Close()
		conn := s3.NewSendingConn(near, stall)
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(stall)); err != nil {
			t.Fatal(err)
		}
		failed := make(chan error)
		began := time.Now()
		go func() {
			_, err := conn.Read(make([]byte, 1))
			failed <- err
		}()
		go func() { // a line that takes 64 KiB each half a stall
			for range 10 {
				time.Sleep(stall / 2)
				if _, err := io.CopyN(io.Discard, far, 64<<10); err != nil {
					t.Error(err)
				}
			}
		}()
		if _, err := conn.Write(make([]byte, 10*64<<10)); err != nil {
			t.Error(err)
		}
		sent := time.Since(began)
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v, want a deadline", err)
		}
		if waited := time.Since(began); sent != 5*stall || waited != 6*stall {
			t.Errorf("the request took %v and the read was given up after %v, want %v and %v", sent, waited, 5*stall, 6*stall)
		}
	})
}

func FuzzParseProfile(f *testing.F) {
	f.Add("[default]\naws_access_key_id = A\naws_secret_access_key=S\n", "default")
	f.Add("[profile x]\n; comment = 1\n# aws_session_token = no\naws_session_token=T = U", "profile x")
	f.Add("aws_access_key_id=outside\n[]", "")
	f.Fuzz(func(t *testing.T, text, profile string) {
		key, secret, token, err := s3.ParseProfile(strings.NewReader(text), profile)
		for _, value := range []string{key, secret, token} {
			if strings.ContainsAny(value, "\n") || value != strings.TrimSpace(value) || !strings.Contains(text, value) {
				t.Errorf("value %q of %q, error %v", value, text, err)
			}
		}
	})
}

func FuzzScrub(f *testing.F) {
	f.Add("see https://host/x?X-Amz-Algorithm=A&", "&X-Amz-Expires=1")
	f.Add("Authorization: AWS4-HMAC-SHA256 Credential=AKIA/1, ", ", SignedHeaders=host")
	f.Add("<html>\n\t", "\xff\xfe")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "5ec2e7"
		if strings.Contains(before+after, secret) {
			return
		}
		for _, name := range []string{"X-Amz-Signature=", "X-Amz-Credential=", "X-Amz-Security-Token=", "Signature=", "x-amz-signature%3D"} {
			got := s3.Scrub(before + name + secret + after)
			if strings.Contains(got, secret) || len(got) > 400 || strings.Contains(got, "\n") || utf8.ValidString(before+after) && !utf8.ValidString(got) {
				t.Errorf("scrubbed is %q", got)
			}
		}
	})
}
