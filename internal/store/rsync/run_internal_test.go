package rsync

import (
	"strings"
	"testing"
	"time"
)

// TestSentencesAreFound: none is hidden by one before it.
func TestSentencesAreFound(t *testing.T) {
	for i, s := range sentences {
		for _, before := range sentences[:i] {
			if strings.Contains(s.text, before.text) {
				t.Errorf("%q is never found: %q comes before it", s.text, before.text)
			}
		}
	}
}

func TestTimesForSSH(t *testing.T) {
	settings, err := Options{Timeout: 7 * time.Second, Stall: time.Minute}.sshConfig()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ConnectTimeout \"7\"\n", "ServerAliveInterval \"15\"\n", "ServerAliveCountMax \"4\"\n"} {
		if !strings.Contains(settings, want) {
			t.Errorf("the settings of ssh do not have %q:\n%s", want, settings)
		}
	}
}
