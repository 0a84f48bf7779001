package holdfast_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/cli"
	"holdfast/internal/seal"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestDocsOfScripts: each configuration that stands beside a script is taken as it stands.
func TestDocsOfScripts(t *testing.T) {
	page, err := os.ReadFile("docs/from-backup-sh.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, public, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Backup <backup@example.org>", holdfast.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"backup.asc": public, "passphrase": "correct horse battery staple\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	blocks := yamlBlock.FindAllSubmatch(page, -1)
	if len(blocks) != 5 {
		t.Fatalf("%d configurations, want one for each of the five set-ups", len(blocks))
	}
	for i, block := range blocks {
		path := filepath.Join(dir, "holdfast.yaml")
		text := strings.ReplaceAll(string(block[1]), "/etc/holdfast/", dir+"/")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		said, err := os.Create(filepath.Join(dir, "said"))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		code := cli.Main(cli.Process{
			Args: []string{"config", "check", "--config", path, "--state", dir}, In: os.Stdin, Out: &out, Err: said, Version: "test",
			Environ: []string{"HOME=" + dir, "BACKUP_ENCRYPT_PASSPHRASE=x"}, Now: func() time.Time { return time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC) },
		})
		said.Close()
		if text, err := os.ReadFile(said.Name()); code != 0 || err != nil {
			t.Errorf("configuration %d ends with %d: %s%s", i+1, code, out.String(), text)
		}
	}
}
