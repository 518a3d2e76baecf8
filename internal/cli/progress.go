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

// rehearsalProgress draws a rehearsal's progress on standard error while a person looks at it. stop takes it away.
func (s *session) rehearsalProgress() (show func(app.RehearsalProgress), stop func()) {
	if s.quiet || !s.err.terminal {
		return nil, func() {}
	}
	last := time.Time{}
	return func(p app.RehearsalProgress) {
		if time.Since(last) < 100*time.Millisecond {
			return
		}
		last = time.Now()
		line := fmt.Sprintf("loading %d/%d places", p.Loaded, p.Places)
		if p.Stacks > 0 {
			line = fmt.Sprintf("%s %d/%d stacks, at %s", bar(16, p.Ended, p.Stacks), p.Ended, p.Stacks, p.Now.UTC().Format("2006-01-02 15:04"))
		}
		fmt.Fprintf(s.env.Err, "\r\x1b[K%s", line)
	}, func() { fmt.Fprint(s.env.Err, "\r\x1b[K") }
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
