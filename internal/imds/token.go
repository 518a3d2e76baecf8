package imds

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
)

// MaxTTL is the longest life of a token, in seconds: six hours. The shortest is one second.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
const MaxTTL = 21600

// tokens makes and checks session tokens. A token is its own expiry, sealed under a key of this process together with the instance
// it is for: it tells its bearer nothing, no other instance takes it, any number of them need no memory, and a forged one is found by
// the seal, which is compared in constant time. It has the 40 bytes (56 characters) of those that EC2 gives.
type tokens struct{ seal cipher.AEAD }

const (
	nonceSize = 12
	plainSize = 12 // expiry in milliseconds since 1970, and the life in seconds
	tokenSize = nonceSize + plainSize + 16
)

func newTokens() *tokens {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil { // only for a key of another length
		panic(err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil { // only for a block of another size
		panic(err)
	}
	return &tokens{seal}
}

// issue makes a token for an instance that lives for ttl seconds from now on.
func (t *tokens) issue(instance string, ttl int, now time.Time) string {
	out := make([]byte, nonceSize, tokenSize)
	rand.Read(out)
	var plain [plainSize]byte
	binary.BigEndian.PutUint64(plain[:8], uint64(now.UnixMilli()+int64(ttl)*1000))
	binary.BigEndian.PutUint32(plain[8:], uint32(ttl))
	return base64.URLEncoding.EncodeToString(t.seal.Seal(out, out, plain[:], []byte(instance)))
}

// Errors of check.
var (
	errForeign = errors.New("the token was not given by this instance")
	errExpired = errors.New("the token has expired")
)

// check gives the seconds that a token still has, rounded up. It fails with errForeign or errExpired.
func (t *tokens) check(instance, token string, now time.Time) (remaining int, err error) {
	if len(token) != base64.URLEncoding.EncodedLen(tokenSize) {
		return 0, errForeign
	}
	raw, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != tokenSize {
		return 0, errForeign
	}
	plain, err := t.seal.Open(nil, raw[:nonceSize], raw[nonceSize:], []byte(instance))
	if err != nil {
		return 0, errForeign
	}
	left := int64(binary.BigEndian.Uint64(plain[:8])) - now.UnixMilli()
	if left <= 0 {
		return 0, errExpired
	}
	// A clock that was set back does not make a token live longer than it was given.
	return min(int((left+999)/1000), int(binary.BigEndian.Uint32(plain[8:]))), nil
}

// parseTTL reads the header of a token request: decimal digits, 1 to MaxTTL, and nothing else.
func parseTTL(values []string) (int, error) {
	if len(values) != 1 {
		return 0, errors.New("the request has no TTL, or several")
	}
	v := values[0]
	for _, c := range []byte(v) {
		if c < '0' || c > '9' {
			return 0, errors.New("the TTL is not a number of seconds")
		}
	}
	ttl, err := strconv.Atoi(v)
	if err != nil || ttl < 1 || ttl > MaxTTL {
		return 0, errors.New("the TTL is not from 1 to 21600 seconds")
	}
	return ttl, nil
}

// tokenID names a token without giving it away.
func tokenID(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:8])
}
