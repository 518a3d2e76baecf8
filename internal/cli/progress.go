package cli

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/imdsctl/imdsctl/internal/app"
)

// scanProgress draws a scan's progress on standard error while a person looks at it. stop takes it away.
func (s *session) scanProgress() (show func(app.ScanProgress), stop func()) {
	if s.quiet || !s.err.terminal {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(1,
		progressbar.OptionSetWriter(s.env.Err), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(16),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "", BarEnd: ""}),
		progressbar.OptionEnableColorCodes(false),
	)
	return func(p app.ScanProgress) {
		done, total := p.PlacesDone, p.Places
		if p.Phase == "evidence" {
			done, total = p.InstancesDone, p.Instances
		}
		bar.ChangeMax(max(total, 1) + 1) // never full, so that the bar is not taken away before the end
		bar.Describe(scanLine(p))
		_ = bar.Set(done) // a bar that cannot be drawn is no failure of the scan
	}, func() { _ = bar.Clear() }
}

func scanLine(p app.ScanProgress) string {
	what := map[string]string{
		"accounts": "accounts", "inventory": "inventory", "evidence": "IMDSv1 calls", "posture": "judging", "done": "done",
	}[p.Phase]
	if p.Accounts == 0 {
		return fmt.Sprintf("listing the accounts, %s", plural(p.Calls, "call"))
	}
	line := fmt.Sprintf("%-12s %d/%d accounts %s resources %s calls", what, p.AccountsDone, p.Accounts,
		count(p.Resources), count(p.Calls))
	if p.Throttles > 0 {
		line += fmt.Sprintf(" %s throttled", count(p.Throttles))
	}
	if p.Gaps > 0 {
		line += fmt.Sprintf(" %s", plural(p.Gaps, "gap"))
	}
	return line
}
