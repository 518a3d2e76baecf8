package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// TestPartitions carries an organization of each partition through the journey, by assumed roles whose ARNs are the
// partition's own.
func TestPartitions(t *testing.T) {
	for partition, region := range map[fleet.Partition]fleet.Region{
		fleet.PartitionChina: "cn-northwest-1", fleet.PartitionGov: "us-gov-east-1",
	} {
		t.Run(string(partition), func(t *testing.T) {
			t.Parallel()
			seed := organization(in(shop, region, map[string]string{"ec2": ec2Section("", instance(id(1), "optional", ""))}),
				runs(modern(`{"instances": ["`+id(1)+`"]}`)))
			for i := range seed.Accounts {
				a := &seed.Accounts[i]
				a.Partition = partition
				for j := range a.Roles {
					trust := core.TrustAccount(management, "")
					a.Roles[j].Trust = json.RawMessage(strings.ReplaceAll(trust, "arn:aws:", "arn:"+string(partition)+":"))
				}
			}
			config := fmt.Sprintf("version: 1\norganization: {discover: organizations, partition: %s, regions: [%s]}\n"+
				"evidence: {require_boot: false}\nbake: {low: 1h, medium: 1h, high: 1h, critical: 1h}\n", partition, region)
			w := newWorld(t, seed, config)
			w.region = region
			summary, err := w.app.Scan(t.Context(), app.ScanOptions{})
			if err != nil || len(summary.Gaps) > 0 {
				t.Fatalf("scan: %v, gaps %+v", err, summary.Gaps)
			}
			p := mustPlan(t, w.app)
			result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
			if err != nil || result.Record.Status != rollout.Done {
				t.Fatalf("apply: %v\n%s", err, stacksOf(result))
			}
			mustScan(t, w.app)
			if got := verdicts(t, w.app, inventory.KindInstance); got[id(1)] != assess.Done {
				t.Errorf("verdicts %v", got)
			}
			roles := 0
			for _, c := range w.Calls() {
				if strings.HasPrefix(c.Principal, "arn:"+string(partition)+":sts::") && strings.Contains(c.Principal, policy.DefaultWriteRole) {
					roles++
				}
			}
			if roles == 0 {
				t.Error("nothing was written by the partition's own role")
			}
		})
	}
}
