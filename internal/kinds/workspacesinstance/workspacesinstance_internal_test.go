package workspacesinstance

import (
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestPropose(t *testing.T) {
	for name, tt := range map[string]struct {
		instance string
		verdict  *assess.Verdict
		manual   bool
	}{
		"managed":        {"i-0123456789abcdef0", &assess.Verdict{Status: assess.Blocked}, true},
		"unknown":        {"i-0123456789abcdef0", &assess.Verdict{Status: assess.Unknown}, true},
		"done":           {"i-0123456789abcdef0", &assess.Verdict{Status: assess.Done}, false},
		"exempt":         {"i-0123456789abcdef0", &assess.Verdict{Status: assess.Exempt}, false},
		"not listed":     {"i-0123456789abcdef0", nil, false},
		"no machine":     {"", &assess.Verdict{Status: assess.Blocked}, false},
		"a strange name": {"i-0; reboot", &assess.Verdict{Status: assess.Blocked}, true},
	} {
		r := &inventory.Resource{
			Ref: fleet.Ref{Place: place, Kind: inventory.KindWorkspace, ID: "wsinst-12345678"}, Links: links(place, tt.instance),
		}
		needs, manuals := propose(kind.Case{Resource: r, Judge: func(ref fleet.Ref) *assess.Verdict {
			if ref.Kind != inventory.KindInstance || ref.ID != tt.instance {
				t.Errorf("%s: asked about %s", name, ref)
			}
			return tt.verdict
		}})
		if len(needs) > 0 || len(manuals) > 0 != tt.manual {
			t.Errorf("%s: got %v and %v", name, needs, manuals)
		}
		if !tt.manual {
			continue
		}
		command := "aws workspaces-instances delete-workspace-instance --region eu-west-1 --workspace-instance-id wsinst-12345678"
		if got := strings.Contains(manuals[0].Remedy, command); got == (name == "a strange name") {
			t.Errorf("%s: the remedy is %s", name, manuals[0].Remedy)
		}
		if strings.Contains(manuals[0].Remedy, "reboot") {
			t.Errorf("%s: the remedy is %s", name, manuals[0].Remedy)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-1":     "https://workspaces-instances.eu-west-1.api.aws",
		"us-gov-west-1": "https://workspaces-instances.us-gov-west-1.api.aws",
		"cn-north-1":    "https://workspaces-instances.cn-north-1.api.amazonwebservices.com.cn",
	} {
		if got := service().Endpoint(region); got != want {
			t.Errorf("%s: got %s", region, got)
		}
	}
}
