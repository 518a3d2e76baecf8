package rehearse

import (
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// TestFindingsBecomeCallers: once for a group, on instances that run, as often as the finding says and at most hourly.
func TestFindingsBecomeCallers(t *testing.T) {
	place := fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	to := func(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }
	member := []inventory.Link{{Relation: inventory.MemberOf, To: to(inventory.KindAutoScaling, "web")}}
	snap := &inventory.Snapshot{Place: place, Resources: []inventory.Resource{
		{Ref: to(inventory.KindInstance, "i-1"), Links: member, Attrs: map[string]string{inventory.AttrProfile: "arn:aws:iam::1:instance-profile/web"}},
		{Ref: to(inventory.KindInstance, "i-2"), Links: member},
		{Ref: to(inventory.KindInstance, "i-3")},
		{Ref: to(inventory.KindInstance, "i-4"), Status: inventory.StatusTerminated},
		{Ref: to(inventory.KindAutoScaling, "web")},
	}}
	for _, tt := range []struct {
		subject string
		count   int64
		names   []string
		every   time.Duration
		calls   int
	}{
		{"group/web", 4800, []string{"web"}, time.Hour, 200}, {"i-3", 2, []string{"i-3"}, 12 * time.Hour, 1}, {"i-4", 9, nil, 0, 0},
		{"role/web", 1, []string{"web"}, 24 * time.Hour, 1}, {"account/111122223333", 24, []string{"web", "i-3"}, time.Hour, 1},
	} {
		s, err := evidence.ParseSubject(tt.subject)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]*caller{}
		note(found, snap, &evidence.Finding{Subject: s, What: evidence.WhatV1Call, Count: tt.count})
		if len(found) != len(tt.names) {
			t.Errorf("%s: callers %v", tt.subject, found)
		}
		for _, name := range tt.names {
			c := found[name]
			if c == nil || c.program.Every != tt.every || c.program.Calls != tt.calls || c.program.Validate() != nil {
				t.Errorf("%s: %s is %+v", tt.subject, name, c)
			}
		}
	}
}
