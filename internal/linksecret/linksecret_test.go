package linksecret

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/link"
	"github.com/s3ferry/s3ferry/internal/secret"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// store keeps one secret, or fails.
type store struct {
	value string
	err   error
}

func (s store) GetSecretValue(_ context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	if *in.SecretId != "the-link" {
		return nil, errors.New("asked for another secret")
	}
	return &secretsmanager.GetSecretValueOutput{SecretString: &s.value}, s.err
}

func TestRead(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := link.Secret{
		APIURL: "https://api.example.com/v1", APIKey: secret.New("k"),
		SigningKey: wire.SigningKey{ID: "2026", Key: secret.New(key)},
	}
	document, err := link.EncodeSecret(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := New(store{value: string(document)}, "the-link").Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.APIURL != want.APIURL || !got.APIKey.Equal(want.APIKey) || !got.SigningKey.Key.Equal(want.SigningKey.Key) {
		t.Errorf("got another secret than was stored")
	}
}

func TestReadFails(t *testing.T) {
	for name, tc := range map[string]struct {
		store store
		class string
	}{
		"no value yet": {store{err: &types.ResourceNotFoundException{Message: aws.String("no AWSCURRENT")}}, NotLinked},
		"empty":        {store{}, NotLinked},
		"empty object": {store{value: "{}"}, NotLinked},
		"garbage":      {store{value: "hunter2"}, Unreadable},
		"denied":       {store{err: errors.New("AccessDeniedException")}, Unreadable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(tc.store, "the-link").Get(t.Context())
			if err == nil || fault.Class(err) != tc.class || fault.IsPermanent(err) {
				t.Fatalf("got class %q of %v, expected a transient %q", fault.Class(err), err, tc.class)
			}
			if errors.Is(err, link.ErrNotLinked) != (tc.class == NotLinked) {
				t.Errorf("errors.Is(ErrNotLinked) is wrong for %v", err)
			}
			if tc.class == NotLinked && !strings.Contains(err.Error(), "s3ferry link") {
				t.Errorf("%q does not say what to do", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q quotes the secret", err)
			}
		})
	}
}
