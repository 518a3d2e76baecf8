package organizations

import (
	"encoding/json"
	"testing"
)

// FuzzAttributes: whatever a caller sends as a declarative policy is understood or refused, and what is understood can be
// shown.
func FuzzAttributes(f *testing.F) {
	f.Add(`{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}}`)
	f.Add(`{"ec2_attributes": {"exception_message": {"@@assign": "x"}, "serial_console_access": {"status": {}}}}`)
	f.Add(`{"ec2_attributes": {"instance_metadata_defaults": {"http_put_response_hop_limit": {"@@assign": "-1"}}}}`)
	f.Add(`{"ec2_attributes": null} {}`)
	f.Fuzz(func(t *testing.T, document string) {
		a, err := parseAttributes(document)
		if err != nil {
			return
		}
		shown, err := a.inherit(a).document()
		if err != nil || !json.Valid([]byte(shown)) {
			t.Errorf("%q shows as %q: %v", document, shown, err)
		}
		if !a.equal(a.inherit(a)) {
			t.Errorf("%q under itself says something else", document)
		}
	})
}
