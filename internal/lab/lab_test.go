package lab_test

import (
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/lab"
)

// TestEnvironment: what leads a program past the service goes, and all else stays as it was.
func TestEnvironment(t *testing.T) {
	kept, removed := lab.Environment([]string{
		"PATH=/bin", "AWS_PROFILE=x", "AWS_REGION=eu-west-1", "AWS_EC2_METADATA_V1_DISABLED=true", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=", "MY_AWS_PROFILE=y", "odd", "AWS_WEB_IDENTITY_TOKEN_FILE=/x=y",
	})
	if want := []string{"PATH=/bin", "AWS_REGION=eu-west-1", "AWS_EC2_METADATA_V1_DISABLED=true", "MY_AWS_PROFILE=y", "odd"}; !slices.Equal(kept, want) {
		t.Errorf("%q", kept)
	}
	want := []string{"AWS_PROFILE", "AWS_EC2_METADATA_DISABLED", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"}
	if !slices.Equal(removed, want) {
		t.Errorf("%q", removed)
	}
}
