package assess

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// AttrAccounts, of an organization's policy, are the accounts that it binds, sorted and joined by commas.
const AttrAccounts = "accounts"

// Below is what was judged of one account, for the policies that bind it.
type Below struct {
	// Against is the number of launchers, templates, hosts and defaults that are blocked or unknown; First names some.
	Against int
	First   []string
	// Gaps is the number of scopes that could not be read; Places how many places were read at all.
	Gaps, Places int
}

// Note counts a judged place into what is known of its account.
func (b *Below) Note(r *Report, gaps int) {
	b.Places++
	b.Gaps += gaps
	for _, v := range r.All() {
		if v.Status != Blocked && v.Status != Unknown {
			continue
		}
		if v.Ref.Kind == inventory.KindImage {
			continue // the policy's value comes before the image's, and whoever launches from it stands for it
		}
		if v.Has(CodeDeclarative) {
			continue // a default that waits for the policy; the policy must not wait for it, but for what inherits it
		}
		b.Against++
		if len(b.First) < 3 {
			b.First = append(b.First, fmt.Sprintf("%s %s in %s is %s", v.Ref.Kind, v.Ref.ID, v.Ref.Place, v.Status))
		}
	}
}

// policy judges a policy of the organization: writing it counts as writing its value into every account that it binds.
func (j *judge) policy(r *inventory.Resource) *Verdict {
	v := &Verdict{Ref: r.Ref, Effective: r.Options()}
	if r.Says == nil {
		v.set(Done, CodeNoTokens, "it says nothing about metadata options")
		return v
	}
	if j.settled(v, r, v.Effective) {
		return v
	}
	v.Want = fleet.Options{Tokens: fleet.TokensRequired}
	var against []string
	for id := range strings.SplitSeq(r.Attrs[AttrAccounts], ",") {
		if id == "" {
			continue
		}
		b, ok := j.in.Below[fleet.AccountID(id)]
		switch {
		case !ok || b.Places == 0:
			v.set(Unknown, CodeGap, "account %s, which it binds, was not read", id)
			return v
		case b.Gaps > 0:
			v.set(Unknown, CodeGap, "%s of account %s, which it binds, could not be read", plural(b.Gaps, "scope"), id)
			return v
		}
		against = append(against, b.First...)
	}
	slices.Sort(against)
	if len(against) > 0 {
		v.set(Blocked, CodeConsumers, "accounts that it binds are not ready: %s", firstOf(against, 3))
		return v
	}
	v.set(Ready, CodeCovered, "everything in the accounts that it binds is ready or done")
	return v
}
