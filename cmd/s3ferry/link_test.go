package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/linking"
	"github.com/s3ferry/s3ferry/internal/localcloud"
)

func TestLinkFlags(t *testing.T) {
	for name, tc := range map[string]struct{ args, want string }{
		"no profile":               {"", "got neither"},
		"one profile":              {"--global-profile p", "got one profile only"},
		"both and a file":          {"--global-profile p --china-profile q --export f", "for one profile"},
		"the receiver's export":    {"--china-profile q --export f", "takes both --import and --export"},
		"the sender's both":        {"--global-profile p --import f --export g", "either --export or --import"},
		"a status with a file":     {"--global-profile p --status --import f", "neither --export nor --import"},
		"a status that rotates":    {"--global-profile p --status --rotate", "--rotate has no meaning"},
		"a wait that is none":      {"--global-profile p --china-profile q --wait=-1s", "--wait: got -1s"},
		"an argument":              {"--global-profile p --china-profile q r", "r"},
		"a flag that is not there": {"--private-key x", "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, code := command(t.Context(), append([]string{"link"}, strings.Fields(tc.args)...)...)
			if code != exitUsage || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit code %d and %q, want %q", code, stderr, tc.want)
			}
		})
	}
}

// command runs a command line.
func command(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	root := newRoot()
	var out, err bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&err)
	code = run(ctx, root, args)
	return out.String(), err.String(), code
}

// From two deployed stacks to the first object, through the real functions.
func TestLinkTwoAccounts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	cloud, err := localcloud.Start(ctx, localcloud.Options{Unlinked: true, CourierInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := cloud.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	writeProfiles(t, cloud.SQS.Endpoint)
	both := []string{"link", "--global-profile", "global", "--china-profile", "china"}
	must := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := command(ctx, args...)
		if code != exitOK {
			t.Fatalf("%v: exit code %d\n%s", args, code, stderr)
		}
		if strings.Contains(stdout+stderr, cloud.API.Key) {
			t.Errorf("%v: the API key is in the output:\n%s%s", args, stdout, stderr)
		}
		return stdout
	}

	if stdout, stderr, code := command(ctx, append(both, "--status")...); code != exitFailed || !strings.Contains(stderr, "not linked: the link secret is empty") {
		t.Errorf("before: exit code %d\n%s%s", code, stdout, stderr)
	}
	if got := must(append(both, "--dry-run")...); strings.Count(got, "would ") != 4 {
		t.Errorf("a dry run says\n%s", got)
	}
	var first linking.Result
	if err := json.Unmarshal([]byte(must(append(both, "--json")...)), &first); err != nil || !first.NewKey {
		t.Fatalf("got %+v, %v", first, err)
	}
	if got := must(append(both, "--status")...); !strings.Contains(got, first.KeyID) || !strings.Contains(got, "0 days") || !strings.Contains(got, "aws-cn") {
		t.Errorf("the status is\n%s", got)
	}
	cross(ctx, t, cloud, "linked")

	if got := must(append(both, "--rotate", "--wait", "0s")...); !strings.Contains(got, "retiring     "+first.KeyID) {
		t.Errorf("a rotation says\n%s", got)
	}
	cross(ctx, t, cloud, "rotated")

	dir := t.TempDir()
	request, answer := filepath.Join(dir, "request.json"), filepath.Join(dir, "answer.json")
	must("link", "--global-profile", "global", "--export", request)
	must("link", "--china-profile", "china", "--import", request, "--export", answer)
	if got := must("link", "--global-profile", "global", "--import", answer); !strings.Contains(got, "linked       source in us-east-1") {
		t.Errorf("the second half says\n%s", got)
	}
	cross(ctx, t, cloud, "by halves")
	// Not before: for up to a minute the sender signs with what was revoked.
	if got := must(append(both, "--revoke")...); !strings.Contains(got, "removed      "+first.KeyID) {
		t.Errorf("a revocation says\n%s", got)
	}
	if _, stderr, code := command(ctx, "link", "--global-profile", "global", "--export", request); code != exitFailed || !strings.Contains(stderr, "is there already") {
		t.Errorf("exit code %d and %q for a file that is there", code, stderr)
	}
	if _, stderr, code := command(ctx, "link", "--global-profile", "china", "--china-profile", "global"); code != exitFailed || !strings.Contains(stderr, "swapped") {
		t.Errorf("exit code %d and %q for swapped profiles", code, stderr)
	}
}

// writeProfiles writes what an operator has in ~/.aws.
func writeProfiles(t *testing.T, endpoint string) {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	for profile, region := range map[string]string{"global": "us-east-1", "china": "cn-north-1"} {
		fmt.Fprintf(&text, "[profile %s]\nregion = %s\nendpoint_url = %s\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = example\n",
			profile, region, endpoint)
	}
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", path)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "none"))
}

// cross puts an object and waits until it has arrived.
func cross(ctx context.Context, t *testing.T, cloud *localcloud.Cloud, key string) {
	t.Helper()
	from, to := side(cloud.Source), side(cloud.Destination)
	if _, err := from.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &from.Bucket, Key: &key, Body: strings.NewReader(key)}); err != nil {
		t.Fatal(err)
	}
	for {
		out, err := to.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &to.Bucket, Key: &key})
		if err == nil {
			if *out.ContentLength != int64(len(key)) {
				t.Errorf("%s has %d bytes", key, *out.ContentLength)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not arrive: %v", key, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
