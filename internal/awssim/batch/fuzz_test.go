package batch

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// FuzzUpdate feeds an update with any JSON: it must be refused, or leave an environment within the limits and the one before as
// it was.
func FuzzUpdate(f *testing.F) {
	f.Add(`{"computeResources":{"launchTemplate":{"launchTemplateId":"lt-0123456789abcdef0","version":"3"}}}`)
	f.Add(`{"computeResources":{"launchTemplate":{"launchTemplateName":"","overrides":[]},"maxvCpus":-1}}`)
	f.Add(`{"updatePolicy":{"jobExecutionTimeoutMinutes":7201},"state":"ENABLED"}`)
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		templates := &Templates{TemplateRef: TemplateRef{ID: "lt-0123456789abcdef0", Version: "1"}}
		was := &Environment{State: "ENABLED", Orchestration: "ECS", ServiceRole: "x/" + serviceLinkedRole,
			Resources: &Resources{Type: "EC2", AllocationStrategy: "BEST_FIT_PROGRESSIVE", LaunchTemplate: templates}}
		next, infrastructure, err := was.updated(v)
		if was.State != "ENABLED" || was.Resources.LaunchTemplate != templates || was.Resources.MaxVCPUs != 0 || was.UpdatePolicy != nil {
			t.Fatal("the environment before was changed")
		}
		if err != nil {
			return
		}
		now := next.Resources.LaunchTemplate
		same := now != nil && now.ID == templates.ID && now.Name == "" && now.Version == "1" && now.UserdataType == "" && len(now.Overrides) == 0
		if infrastructure == same {
			t.Errorf("%s: an infrastructure update: %t, with %+v", body, infrastructure, now)
		}
		if now != nil && (len(now.Overrides) > 10 || (now.ID == "") == (now.Name == "")) {
			t.Errorf("%s: accepted %+v", body, now)
		}
		if p := next.UpdatePolicy; p != nil && (p.TimeoutMinutes < 1 || p.TimeoutMinutes > 7200) {
			t.Errorf("%s: accepted %+v", body, p)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add(`{"computeEnvironments":["a","arn:aws:batch:eu-west-1:111122223333:compute-environment/b"],"maxResults":5,"nextToken":"YQ"}`)
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		if q, err := parseQuery(v); err == nil && (q.limit < 1 || q.limit > mostListed || len(q.names) > mostListed) {
			t.Errorf("accepted %+v", q)
		}
	})
}
