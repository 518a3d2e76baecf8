package imds

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Delivery is the version of the protocol that credentials are handed out by. IAM sees it as ec2:RoleDelivery.
type Delivery string

// The deliveries.
const (
	Delivery1 Delivery = "1.0"
	Delivery2 Delivery = "2.0"
)

// Credentials are the temporary credentials of a role.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string
	Updated, Expiration                        time.Time
}

// CredentialSource gives the credentials of a role. It is asked at every request for them, from many goroutines, and keeps what it
// gave for as long as it is good. An error becomes a 500; its text is told to the observer and to nobody else, and must hold no secret.
type CredentialSource interface {
	Credentials(ctx context.Context, role string, by Delivery) (Credentials, error)
}

// Generated makes credentials up: they look like a role's and say what they are, and no AWS service takes them. They live for six
// hours, and are replaced half an hour before they end, so that no client meets them in their last minutes.
func Generated(now func() time.Time) CredentialSource {
	return &generated{now: now, given: map[generatedKey]Credentials{}}
}

const (
	generatedLife  = 6 * time.Hour
	generatedRenew = 30 * time.Minute
)

type generatedKey struct {
	role string
	by   Delivery
}

type generated struct {
	now   func() time.Time
	mu    sync.Mutex
	given map[generatedKey]Credentials // two for each role that was ever played
}

// Credentials implements CredentialSource.
func (g *generated) Credentials(_ context.Context, role string, by Delivery) (Credentials, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, key := g.now(), generatedKey{role, by}
	if c, ok := g.given[key]; ok && c.Expiration.Sub(now) > generatedRenew && !now.Before(c.Updated) {
		return c, nil
	}
	now = now.UTC().Truncate(time.Second)
	secret := make([]byte, 60)
	rand.Read(secret)
	c := Credentials{
		AccessKeyID:     "ASIAIMDSCTLFAKE" + rand.Text()[:5],
		SecretAccessKey: "imdsctl/made/up/not/valid/" + rand.Text()[:14],
		SessionToken:    "imdsctl-made-up-not-valid-at-aws/" + base64.StdEncoding.EncodeToString(secret),
		Updated:         now, Expiration: now.Add(generatedLife),
	}
	g.given[key] = c
	return c, nil
}

// document is what the service writes: JSON with blanks around the colons.
func (c Credentials) document() (string, error) {
	return spaced([]field{
		{"Code", "Success"}, {"LastUpdated", stamp(c.Updated)}, {"Type", "AWS-HMAC"}, {"AccessKeyId", c.AccessKeyID},
		{"SecretAccessKey", c.SecretAccessKey}, {"Token", c.SessionToken}, {"Expiration", stamp(c.Expiration)},
	})
}

// field is one member of a JSON object.
type field struct {
	name  string
	value any
}

// spaced writes a JSON object as the service does: one member a line, `"name" : value`.
func spaced(fields []field) (string, error) {
	var b strings.Builder
	b.WriteString("{\n")
	for i, f := range fields {
		value, err := json.Marshal(f.value)
		if err != nil {
			return "", fmt.Errorf("write %s: %w", f.name, err)
		}
		fmt.Fprintf(&b, "  %q : %s", f.name, value)
		if i < len(fields)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteByte('}')
	return b.String(), nil
}

// stamp is a time as metadata writes it: UTC, in whole seconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
