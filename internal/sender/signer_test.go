package sender

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3ferry/s3ferry/internal/fault"
	"github.com/s3ferry/s3ferry/internal/wire"
)

// newSigner returns a signer whose sessions live for session, and the count of
// them.
func newSigner(life, session time.Duration) (*Signer, *int) {
	sessions := new(int)
	return &Signer{
		Presign: s3.NewPresignClient(s3.New(s3.Options{Region: "us-east-1"})),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			*sessions++
			return aws.Credentials{
				AccessKeyID: "ASIA", SecretAccessKey: "s", SessionToken: "t", CanExpire: true, Expires: time.Now().Add(session),
			}, nil
		}),
		Life: life,
	}, sessions
}

var anObject = wire.Source{Region: "us-east-1", Bucket: "source", Key: "a b/c", ETag: "e1"}

func TestAURLDiesBeforeItsCredentials(t *testing.T) {
	for name, tc := range map[string]struct {
		life, session time.Duration
		expires       string // "": refused
	}{
		"long session":           {45 * time.Minute, time.Hour, "2700"},
		"as long as the session": {time.Hour, time.Hour, "3540"},
		"dying":                  {45 * time.Minute, 10 * time.Minute, "540"},
		"not in whole seconds":   {45 * time.Minute, 10*time.Minute + 700*time.Millisecond, "540"},
		"almost dead":            {45 * time.Minute, 90 * time.Second, ""},
		"dead":                   {45 * time.Minute, -time.Minute, ""},
		"a short life is wanted": {10 * time.Second, 90 * time.Second, "10"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newSigner(tc.life, tc.session)
				url, notAfter, err := s.Sign(t.Context(), anObject)
				if tc.expires == "" {
					if err == nil || fault.IsPermanent(err) || fault.Class(err) != noSigner {
						t.Errorf("got %v, expected a transient %s", err, noSigner)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := parseURL(t, url).Query().Get("X-Amz-Expires"); got != tc.expires {
					t.Errorf("URL lives %s s, expected %s", got, tc.expires)
				}
				life, err := time.ParseDuration(tc.expires + "s")
				if want := time.Now().Add(life); err != nil || !notAfter.Equal(want) {
					t.Errorf("notAfter is %s, expected %s", notAfter, want)
				}
			})
		})
	}
}

func TestTheSessionIsRenewedAtHalfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, sessions := newSigner(30*time.Minute, time.Hour)
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{0, 1}, {29 * time.Minute, 1}, {2 * time.Minute, 2}, {29 * time.Minute, 2}, {2 * time.Hour, 3}} {
			time.Sleep(step.wait)
			if _, _, err := s.Sign(t.Context(), anObject); err != nil {
				t.Fatal(err)
			}
			if *sessions != step.want {
				t.Errorf("after another %s: %d sessions, expected %d", step.wait, *sessions, step.want)
			}
		}
	})
}

func TestTheSignerRoleIsDenied(t *testing.T) {
	s, _ := newSigner(time.Hour, time.Hour)
	s.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("AccessDenied: not authorized to perform sts:AssumeRole")
	})
	_, _, err := s.Sign(t.Context(), anObject)
	if fault.Class(err) != noSigner || fault.IsPermanent(err) {
		t.Errorf("got %v of class %s, expected a transient %s: the role is broken, not the message", err, fault.Class(err), noSigner)
	}
}

func TestURLOfAWS(t *testing.T) {
	s, _ := newSigner(time.Hour, time.Hour)
	url, _, err := s.Sign(t.Context(), anObject)
	if err != nil {
		t.Fatal(err)
	}
	if u := parseURL(t, url); u.Scheme != "https" || u.Host != "source.s3.us-east-1.amazonaws.com" || u.EscapedPath() != "/a%20b/c" {
		t.Errorf("URL is of %s://%s%s", u.Scheme, u.Host, u.EscapedPath())
	}
}
