package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/seal"
)

const namespace = "manifest@holdfast"

func signer(t testing.TB) (*seal.Signer, holdfast.Secret) {
	t.Helper()
	private, public, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	if s.PublicKey().String() != public {
		t.Fatalf("public half %q of the file, %q of the key", public, s.PublicKey())
	}
	return s, private
}

func sign(t testing.TB, s *seal.Signer, message []byte) []byte {
	t.Helper()
	signature, err := s.Sign(namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func TestSignAndVerify(t *testing.T) {
	s, _ := signer(t)
	for _, message := range [][]byte{nil, []byte("x"), text(100_000)} {
		key, err := seal.Verify(sign(t, s, message), namespace, message)
		if err != nil || !key.Equal(s.PublicKey()) {
			t.Errorf("message of %d bytes: key %v, error %v", len(message), key, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	s, _ := signer(t)
	message := []byte("the manifest")
	good := sign(t, s, message)
	refused := func(what string, armored []byte, namespace string, message []byte) {
		t.Helper()
		key, err := seal.Verify(armored, namespace, message)
		if !errors.Is(err, seal.ErrBadSignature) || !errors.Is(err, holdfast.ErrDifference) || key != (seal.PublicKey{}) {
			t.Errorf("%s: key %v, error %v", what, key, err)
		}
	}
	refused("other message", good, namespace, []byte("the manifesto"))
	refused("other namespace", good, "proof@holdfast", message)
	refused("no namespace", good, "", message)
	refused("nothing", nil, namespace, message)
	refused("something before", append([]byte("signed by me\n"), good...), namespace, message)
	refused("something after", append(bytes.Clone(good), "signed by me"...), namespace, message)
	refused("two signatures", append(bytes.Clone(good), good...), namespace, message)
	refused("headers", bytes.Replace(good, []byte("-----\n"), []byte("-----\nA: b\n\n"), 1), namespace, message)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 7)
		if key, err := seal.Verify(bad, namespace, message); err == nil && !key.Equal(s.PublicKey()) {
			t.Errorf("bit flipped at %d: signed by another key", i)
		}
		refused(fmt.Sprintf("cut at %d", i), good[:i/2], namespace, message)
	}
	if _, err := s.Sign("", message); err == nil {
		t.Error("Sign without a namespace succeeded")
	}
}

func TestStockVerifiesWhatWeSign(t *testing.T) {
	s, _ := signer(t)
	message := text(10_000)
	signature := writeFile(t, "signature", string(sign(t, s, message)))
	allowed := writeFile(t, "allowed", seal.AllowedSignersLine("host-1", s.PublicKey())+"\n")
	out := stock(t, message, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "host-1", "-n", namespace, "-s", signature)
	if !strings.Contains(string(out), "Good") || !strings.Contains(string(out), s.PublicKey().Fingerprint()) {
		t.Errorf("ssh-keygen says %q", out)
	}
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "host-1", "-n", namespace, "-s", signature)
	cmd.Stdin = strings.NewReader("another message")
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("ssh-keygen accepts another message: %s", out)
	}
}

func TestWeVerifyWhatStockSigns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id_ed25519")
	stock(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", file)
	message := text(10_000)
	signature := stock(t, message, "ssh-keygen", "-q", "-Y", "sign", "-f", file, "-n", namespace)
	key, err := seal.Verify(signature, namespace, message)
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	public, err := seal.ParsePublicKey(string(line))
	if err != nil || !public.Equal(key) {
		t.Errorf("public key file: %v, error %v", public, err)
	}
	if listed := stock(t, nil, "ssh-keygen", "-l", "-f", file); !strings.Contains(string(listed), key.Fingerprint()) {
		t.Errorf("fingerprint %q, ssh-keygen says %q", key.Fingerprint(), listed)
	}
	private, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.ParseSigner(holdfast.NewSecret(string(private)))
	if err != nil || !s.PublicKey().Equal(key) {
		t.Errorf("stock private key: %v", err)
	}
	// Ed25519 is deterministic, so both sign the same bytes the same way.
	if ours := sign(t, s, message); !bytes.Equal(unwrap(ours), unwrap(signature)) {
		t.Error("ssh-keygen and we sign differently")
	}
}

// unwrap takes line breaks out of an armored signature.
func unwrap(armored []byte) []byte { return bytes.ReplaceAll(armored, []byte("\n"), nil) }

func TestStockReadsOurPrivateKey(t *testing.T) {
	s, private := signer(t)
	file := writeFile(t, "key", private.Reveal())
	public := strings.TrimSpace(string(stock(t, nil, "ssh-keygen", "-y", "-f", file)))
	if public != s.PublicKey().String() {
		t.Errorf("ssh-keygen says %q, we say %q", public, s.PublicKey())
	}
}

func TestParseSignerRefuses(t *testing.T) {
	dir := t.TempDir()
	stock(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "hunter2", "-f", dir+"/locked")
	stock(t, nil, "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", dir+"/ecdsa")
	for _, name := range []string{"locked", "ecdsa", "locked.pub"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seal.ParseSigner(holdfast.NewSecret(string(text))); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%s: error %v with hint %q", name, err, holdfast.Hint(err))
		}
	}
	ecdsa, err := os.ReadFile(dir + "/ecdsa.pub")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := signer(t)
	line := s.PublicKey().String()
	for _, text := range []string{"", "x", string(ecdsa), "no-pty " + line, line + "\n" + line, line[:40]} {
		if _, err := seal.ParsePublicKey(text); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("public key %q: error %v, want ErrUsage", text, err)
		}
	}
	signature := stock(t, []byte("m"), "ssh-keygen", "-q", "-Y", "sign", "-f", dir+"/ecdsa", "-n", namespace)
	if _, err := seal.Verify(signature, namespace, []byte("m")); !errors.Is(err, seal.ErrBadSignature) {
		t.Errorf("signature by another kind of key: error %v, want ErrBadSignature", err)
	}
}

func TestAllowedSigners(t *testing.T) {
	known, _ := signer(t)
	narrow, _ := signer(t)
	stranger, _ := signer(t)
	file := "# the hosts\n\n" + seal.AllowedSignersLine("host-1", known.PublicKey()) + " a comment\n" +
		`host-2 namespaces="proof@holdfast,other" ` + narrow.PublicKey().String() + "\n"
	allowed, err := seal.ParseAllowedSigners(file)
	if err != nil || len(allowed) != 2 {
		t.Fatalf("%d signers, error %v", len(allowed), err)
	}
	message := []byte("m")
	if who, err := allowed.Verify(sign(t, known, message), namespace, message); err != nil || who.Principal != "host-1" {
		t.Errorf("known signer: %v, %v", who, err)
	}
	for name, s := range map[string]*seal.Signer{"stranger": stranger, "out of its namespace": narrow} {
		if _, err := allowed.Verify(sign(t, s, message), namespace, message); !errors.Is(err, seal.ErrUnknownSigner) {
			t.Errorf("%s: error %v, want ErrUnknownSigner", name, err)
		}
	}
	signature, err := narrow.Sign("proof@holdfast", message)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := allowed.Verify(signature, "proof@holdfast", message); err != nil || who.Principal != "host-2" {
		t.Errorf("in its namespace: %v, %v", who, err)
	}
	if _, err := allowed.Verify(signature, "proof@holdfast", []byte("n")); !errors.Is(err, seal.ErrBadSignature) {
		t.Errorf("other message: error %v, want ErrBadSignature", err)
	}
	key := known.PublicKey().String()
	for _, line := range []string{
		"host-1", "host-1 ssh-ed25519", "host-1 cert-authority " + key, `host-1 valid-before="20300101" ` + key,
		`host-1 namespaces="*" ` + key, "* " + key, "!a,b " + key, `"a b" ` + key, "host-1 ssh-rsa AAAA",
	} {
		if _, err := seal.ParseAllowedSigners(line); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%q: error %v, want ErrUsage", line, err)
		}
	}
}

func TestSignerPrintsAsMask(t *testing.T) {
	s, _ := signer(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if shown := fmt.Sprintf(format, s); shown != holdfast.NewSecret("x").String() {
			t.Errorf("%s shows %q", format, shown)
		}
	}
}
