package awsx

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestOwnCredentialsComeByIMDSv2 never asks an instance's service without a token, also where that would be answered.
func TestOwnCredentialsComeByIMDSv2(t *testing.T) {
	for name, c := range map[string]struct {
		token int // the status of the answer to a request for a token
		key   string
	}{
		"an instance":               {http.StatusOK, "ASIAEXAMPLE"},
		"a stand-in of IMDSv1 only": {http.StatusNotFound, ""},
		"one that refuses tokens":   {http.StatusForbidden, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var bare []string // requests without a token
			service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				const roles = "/latest/meta-data/iam/security-credentials/"
				if r.Method == http.MethodPut {
					w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
					w.WriteHeader(c.token)
					_, _ = w.Write([]byte("token"))
					return
				}
				if r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token" {
					mu.Lock()
					bare = append(bare, r.URL.Path)
					mu.Unlock()
				}
				switch strings.TrimSuffix(r.URL.Path, "/") {
				case strings.TrimSuffix(roles, "/"):
					_, _ = w.Write([]byte("platform"))
				case roles + "platform":
					_, _ = w.Write([]byte(`{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "s",
						"Token": "t", "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2126-01-01T00:00:00Z"}`))
				default:
					http.NotFound(w, r)
				}
			}))
			defer service.Close()
			for _, v := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
				"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
				"AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_V1_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
				"AWS_CA_BUNDLE"} {
				t.Setenv(v, "")
			}
			nowhere := filepath.Join(t.TempDir(), "none")
			t.Setenv("AWS_CONFIG_FILE", nowhere)
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.URL)
			loaded, err := loadOwn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			creds, err := loaded.Credentials.Retrieve(t.Context())
			if creds.AccessKeyID != c.key || (err == nil) != (c.key != "") {
				t.Errorf("gave %q, %v; want %q", creds.AccessKeyID, err, c.key)
			}
			if len(bare) > 0 {
				t.Errorf("asked without a token for %v", bare)
			}
		})
	}
}
