package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/s3ferry/s3ferry/internal/link"
)

// awsStub stands in for the AWS CLI: it answers what the README's link script
// asks for, and keeps what it is told to store.
const awsStub = `#!/bin/bash
case "$1 $2" in
"cloudformation describe-stacks")
  case "$*" in
  *TrustParameterName*) echo /trust ;;
  *SourceBucketName*) echo my-source ;;
  *SourceBucketRegion*) echo us-east-1 ;;
  *MailboxApiKeyId*) echo keyid ;;
  *LinkSecretArn*) echo arn:aws:secretsmanager:us-east-1:111122223333:secret:x ;;
  *MailboxUrl*) echo https://abc.execute-api.cn-north-1.amazonaws.com.cn/v1/ ;;
  esac ;;
"apigateway get-api-key") echo the-api-key ;;
"ssm put-parameter") cat > "$OUT/trust" ;;
"secretsmanager put-secret-value") cat > "$OUT/secret" ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
`

// block returns the first block of README.md that begins with head, without it.
func block(t *testing.T, head string) string {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), head)
	text, _, closed := strings.Cut(text, "```")
	if !found || !closed {
		t.Fatalf("README.md has no block %q", head)
	}
	return text
}

func TestTheProgramOfTheReadmeCompiles(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "main.go")
	if err := os.WriteFile(program, []byte("package main"+block(t, "```go\npackage main")), 0o600); err != nil {
		t.Fatal(err)
	}
	// The overlay puts it into this module without touching the checkout.
	virtual, err := filepath.Abs("readme/main.go")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{virtual: program}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", os.DevNull, "./readme")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheLinkScriptOfTheReadmeLinks(t *testing.T) {
	for _, tool := range []string{"bash", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the script needs %s", tool)
		}
	}
	script := block(t, "```sh\n# link:")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(awsStub), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "#"+script)
	cmd.Env = append(os.Environ(), "OUT="+dir, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	secret, err := link.DecodeSecret(read("secret"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := link.DecodeTrust(read("trust"))
	if err != nil {
		t.Fatal(err)
	}
	public, ok := trust.Keys[secret.SigningKey.ID]
	if !ok || !public.Equal(secret.SigningKey.Key.Public()) {
		t.Error("the receiver does not trust the key that the sender signs with")
	}
	if !trust.Allows("my-source", "us-east-1") {
		t.Errorf("got sources %v", trust.Sources)
	}
	if secret.APIKey.Reveal() != "the-api-key" || secret.APIURL != "https://abc.execute-api.cn-north-1.amazonaws.com.cn/v1" {
		t.Errorf("got API %s with key %q", secret.APIURL, secret.APIKey.Reveal())
	}
}
