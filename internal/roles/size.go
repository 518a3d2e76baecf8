package roles

import (
	"encoding/json"
	"fmt"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Limits of IAM, in characters without white space: of all inline policies of a role together, and of one managed policy.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const (
	MaxInline  = 10_240
	MaxManaged = 6_144
)

// Size is the length of the role's policy as IAM counts it, in the partition with the longest name.
func (r Role) Size() int {
	b, err := json.Marshal(document(r, string(fleet.PartitionGov), "000000000000"))
	if err != nil {
		return 0 // strings and lists of strings always marshal
	}
	return len(b)
}

// fits refuses a role that IAM would refuse. What the kinds declare fits with room to spare; follow-ups can be any number.
func (r Role) fits() error {
	n := r.Size()
	if n <= MaxInline {
		return nil
	}
	return fleet.Diagnostic{
		Severity: fleet.SeverityError, Where: "follow_ups",
		Summary: fmt.Sprintf("the policy of the %s role would have %d characters, and IAM takes %d", r.Access, n, MaxInline),
		Remedy:  "Name fewer different documents in follow_ups: one that takes parameters can serve several.",
	}
}
