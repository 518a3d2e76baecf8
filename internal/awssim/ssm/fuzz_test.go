package ssm

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// FuzzQuery feeds the decoder of both lists with any JSON: it must refuse or give something within the limits.
func FuzzQuery(f *testing.F) {
	f.Add(`{"InstanceId":"i-0123456789abcdef0","MaxResults":5,"Filters":[{"key":"InvokedAfter","value":"2026-03-02T12:00:00Z"}]}`)
	f.Add(`{"CommandId":"x","NextToken":"` + position{3, 1}.token() + `"}`)
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		q, err := parseQuery(v)
		if err != nil {
			return
		}
		if q.limit < 1 || q.limit > pageSize || q.before.serial < 0 || q.before.index < 0 ||
			q.instance != "" && !instanceID.MatchString(q.instance) || len(q.filters) != len(v.Items("Filters")) {
			t.Errorf("accepted %+v", q)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add(1, 0)
	f.Add(70000, 49)
	f.Fuzz(func(t *testing.T, serial, index int) {
		at, err := readToken(position{serial, index}.token())
		if lawful := serial >= 1 && index >= 0; (err == nil) != lawful || lawful && at != (position{serial, index}) {
			t.Errorf("%d.%d became %+v, %v", serial, index, at, err)
		}
	})
}

// FuzzAgents feeds the filters and the token of DescribeInstanceInformation with any JSON: nothing is accepted that the API refuses.
func FuzzAgents(f *testing.F) {
	f.Add(`{"Filters":[{"Key":"InstanceIds","Values":["i-0123456789abcdef0"]}],"NextToken":"MTA"}`)
	f.Add(`{"InstanceInformationFilterList":[{"key":"PingStatus","valueSet":["Online"]}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		if n, err := readAgentToken(v.Str("NextToken")); err == nil && n < 0 {
			t.Errorf("a page that begins at %d", n)
		}
		holds, err := agentFilters(v)
		if err != nil {
			return
		}
		if len(holds) != max(len(v.Items("Filters")), len(v.Items("InstanceInformationFilterList"))) {
			t.Errorf("%d filters of %s", len(holds), body)
		}
		for _, h := range holds {
			h(&AgentSeed{Instance: "i-0123456789abcdef0"})
		}
	})
}
