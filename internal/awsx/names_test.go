package awsx_test

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/aws-sdk-go-v2/service/organizations"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Clients of the SDK say which action a call is in one of two ways. Buckets, records and errors go by that name.
func TestActionsOfBothSortsOfClientsAreNamed(t *testing.T) {
	for want, call := range map[string]func(aws.Config) error{
		"appstream:DescribeFleets": func(cfg aws.Config) error { // the older
			_, err := appstream.NewFromConfig(cfg).DescribeFleets(t.Context(), &appstream.DescribeFleetsInput{})
			return err
		},
		"organizations:ListRoots": func(cfg aws.Config) error { // the newer
			_, err := organizations.NewFromConfig(cfg).ListRoots(t.Context(), &organizations.ListRootsInput{})
			return err
		},
	} {
		tr := &transport{answers: []func(*http.Request) (*http.Response, error){
			reply(400, `{"__type": "AccessDeniedException", "message": "no"}`)}}
		var last awsx.CallRecord
		e := newFake(t).edge(func(o *awsx.Options) {
			o.HTTPClient, o.Recorder = tr, awsx.RecorderFunc(func(r awsx.CallRecord) { last = r })
		})
		err := call(e.Session(own, awsx.Role{}).Config())
		if fleet.ClassOf(err) != fleet.ErrDenied || last.Action != want {
			t.Errorf("%s is recorded as %q: %v", want, last.Action, err)
		}
	}
}
