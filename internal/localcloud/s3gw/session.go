package s3gw

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"
)

// sessionKeyPrefix begins the ID of every temporary access key, in AWS and here.
const sessionKeyPrefix = "ASIA"

// MintSession returns temporary credentials for the server whose root
// credentials are given, as STS would. The server keeps no record of them: the
// secret and the seal in the token are derived from the root secret. They die
// at expires, to the millisecond, and so does every URL signed with them.
func MintSession(rootAccessKeyID, rootSecretKey string, expires time.Time) (accessKeyID, secretAccessKey, sessionToken string) {
	accessKeyID = sessionKeyPrefix + rand.Text()[:16]
	deadline := strconv.FormatInt(expires.UnixMilli(), 10)
	claim := strings.Join([]string{rootAccessKeyID, accessKeyID, deadline}, " ")
	return accessKeyID, sessionSecret(rootSecretKey, claim), sealToken(rootSecretKey, claim)
}

func sessionSecret(rootSecret, claim string) string {
	return base64.StdEncoding.EncodeToString(derive([]byte(rootSecret), "secret "+claim))[:40]
}

// sealToken uses the standard alphabet, as STS does: '+', '/' and '=' must
// survive the caller's URL encoding.
func sealToken(rootSecret, claim string) string {
	return base64.StdEncoding.EncodeToString(append(derive([]byte(rootSecret), "token "+claim), claim...))
}

func openToken(rootSecret, token string) (claim string, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(raw) < sha256.Size {
		return "", false
	}
	claim = string(raw[sha256.Size:])
	return claim, hmac.Equal([]byte(sealToken(rootSecret, claim)), []byte(token))
}

func derive(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// errExpiredToken is what S3 says, with its status: 400, not 403.
var errExpiredToken = s3err.APIError{
	Code:           "ExpiredToken",
	Description:    "The provided token has expired.",
	HTTPStatusCode: http.StatusBadRequest,
}

// accounts knows the root account and every session minted from it.
type accounts struct {
	auth.IAMService // the root account alone
	root            auth.Account
}

var _ auth.SigningKeyProvider = (*accounts)(nil)

func newAccounts(root auth.Account) *accounts {
	return &accounts{IAMService: auth.NewIAMServiceSingle(root), root: root}
}

// DeriveSigningKey implements auth.SigningKeyProvider for sessions; versitygw
// looks after the root account before it asks.
func (a *accounts) DeriveSigningKey(access, token, date, region, service string) ([]byte, auth.Account, error) {
	if !strings.HasPrefix(access, sessionKeyPrefix) {
		return nil, auth.Account{}, auth.ErrNoSuchUser
	}
	claim, ok := openToken(a.root.Secret, token)
	if !ok {
		return nil, auth.Account{}, auth.ErrInvalidSessionToken
	}
	var rootID, sessionID string
	var deadline int64
	if _, err := fmt.Sscan(claim, &rootID, &sessionID, &deadline); err != nil || rootID != a.root.Access || sessionID != access {
		return nil, auth.Account{}, auth.ErrInvalidSessionToken
	}
	if !time.Now().Before(time.UnixMilli(deadline)) {
		return nil, auth.Account{}, errExpiredToken
	}
	key := derive([]byte("AWS4"+sessionSecret(a.root.Secret, claim)), date)
	for _, part := range []string{region, service, "aws4_request"} {
		key = derive(key, part)
	}
	return key, auth.Account{Access: strings.Clone(access), Role: auth.RoleAdmin}, nil
}
