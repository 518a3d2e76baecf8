package elasticbeanstalk

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// FuzzDrafted feeds the decoder of settings with anything: it refuses, or gives settings in which the one option that
// matters is true, false or not there, and leaves those of before alone.
func FuzzDrafted(f *testing.F) {
	f.Add(`{"OptionSettings":[{"Namespace":"aws:autoscaling:launchconfiguration","OptionName":"DisableIMDSv1","Value":"true"}]}`)
	f.Add(`{"OptionsToRemove":[{"Namespace":"aws:autoscaling:launchconfiguration","OptionName":"DisableIMDSv1"}]}`)
	f.Add(`{"OptionSettings":[{"Namespace":"aws:elasticbeanstalk:application:environment","OptionName":"A","Value":"b"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		now := map[string]string{OptionDisableV1: "false"}
		draft, err := (&environment{}).drafted(v, now)
		if len(now) != 1 || now[OptionDisableV1] != "false" {
			t.Errorf("%s changed what was: %v", body, now)
		}
		if value, ok := draft[OptionDisableV1]; err == nil && ok && value != "true" && value != "false" {
			t.Errorf("%s gave %q", body, value)
		}
	})
}
