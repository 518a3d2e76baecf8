package report_test

import (
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// What could not be read in several regions for one cause is one row, so that forty denied calls do not hide another cause.
func TestGapsOfOneCauseAreOneRow(t *testing.T) {
	gap := func(region fleet.Region, kind string, class fleet.ErrorClass, detail string) inventory.Scope {
		return inventory.Scope{Place: fleet.Place{Partition: "aws", Account: "111122223333", Region: region}, Kind: kind,
			Status: inventory.ScopeGap, Class: class, Detail: detail}
	}
	o := options()
	o.Gaps = []inventory.Scope{
		gap("eu-west-1", "ami", fleet.ErrDenied, "first"), gap("us-east-1", "ami", fleet.ErrDenied, "second"),
		gap("us-east-1", "batch-environment", fleet.ErrDenied, "third"), gap("us-west-2", "ami", fleet.ErrThrottled, "fourth"),
	}
	got := render(t, board(), o)
	for _, want := range []string{"<td>eu-west-1, us-east-1</td><td>ami</td>", "third", "fourth"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(got, "second") {
		t.Error("the same cause is told twice")
	}
}

// A stack that only a freeze holds says that it may start at any other time, not that it starts in the freeze.
func TestWhenAStackMayStart(t *testing.T) {
	p := board()
	if got := render(t, p, options()); !strings.Contains(got, "may start in window &#34;nights&#34;") || !strings.Contains(got, ", but not in freeze &#34;") {
		t.Error("the window and the freeze of a stack are not told apart")
	}
	p.Header.Calendars[0].Windows = nil
	if got := render(t, p, options()); !strings.Contains(got, "may start at any time, but not in freeze &#34;end of the year&#34;") {
		t.Error("a freeze alone is told as if changes started in it")
	}
}

// A board learns at the top, and under Disruption, that follow-ups may disturb what the changes themselves do not.
func TestFollowUpsThatDisturbAreSaid(t *testing.T) {
	got := render(t, board(), options())
	if !strings.Contains(got, "1 follow-up may disturb what runs: see Follow-ups.") {
		t.Error("the box at the top does not say it")
	}
	p := board()
	p.Changes = p.Changes[:len(p.Changes)-1]
	if got := render(t, p, options()); strings.Contains(got, "may disturb what runs") {
		t.Error("a page without such follow-ups says it has some")
	}
}
