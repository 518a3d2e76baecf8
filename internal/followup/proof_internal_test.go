package followup

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

func TestJudgeLaunches(t *testing.T) {
	now := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	const fresh, old = "lt-1:5", "lt-1:3"
	good := host{id: "i-1", source: fresh, launched: now.Add(-10 * time.Minute), running: true, closed: true, health: healthPassed}
	with := func(change func(*host)) host {
		h := good
		change(&h)
		return h
	}
	starting := with(func(h *host) { h.health = healthOpen })
	pending := with(func(h *host) { h.running, h.health = false, healthOpen })
	open := with(func(h *host) { h.closed = false })
	changing := with(func(h *host) { h.closed, h.changing = false, true })
	broken := with(func(h *host) { h.health = healthFailed })
	slow := with(func(h *host) { h.health, h.launched = healthOpen, now.Add(-2*time.Hour) })
	brokeLater := with(func(h *host) { h.health, h.launched = healthFailed, now.Add(-2*time.Hour) })
	before := host{id: "i-2", source: old, running: true}
	inPlace := host{id: "i-3", source: old, running: true, closed: true}
	for name, c := range map[string]struct {
		all      bool
		patience time.Duration // of which 20 minutes are over
		hosts    []host
		want     string // begins the status
		note     string
	}{
		"launched":                            {false, time.Hour, []host{before, good}, plan.StatusDone, "seen to require tokens"},
		"nothing yet":                         {false, time.Hour, []host{before}, StatusRunning, ""},
		"nothing in time":                     {false, 10 * time.Minute, []host{before}, plan.StatusDone, "not proven"},
		"nothing, and it does not wait":       {false, 0, nil, plan.StatusDone, "not proven"},
		"it does not wait, but one starts":    {false, 0, []host{starting}, StatusRunning, ""},
		"not running yet":                     {false, 0, []host{pending}, StatusRunning, ""},
		"it allows v1":                        {false, time.Hour, []host{good, open}, StatusFailed + "i-1 was launched from lt-1:5 and does not require tokens", ""},
		"its options are being changed":       {false, 0, []host{changing}, StatusRunning, ""},
		"it fails its checks":                 {false, time.Hour, []host{broken}, StatusFailed + "i-1 was launched from lt-1:5 and fails", ""},
		"it never passes its checks":          {false, time.Hour, []host{slow}, StatusFailed + "i-1 was launched from lt-1:5 and has not passed", ""},
		"replaced":                            {true, 0, []host{good, inPlace}, plan.StatusDone, "1 launched from"},
		"one is left":                         {true, 0, []host{good, before}, StatusRunning, ""},
		"one that replaces another starts":    {true, 0, []host{good, starting}, StatusRunning, ""},
		"one that replaces another allows v1": {true, 0, []host{before, open}, StatusFailed, ""},
		"one broke long after its launch":     {true, 0, []host{good, brokeLater}, plan.StatusDone, ""},
		"nothing runs":                        {true, 0, nil, plan.StatusDone, "not proven"},
		"all were changed in place":           {true, 0, []host{inPlace}, plan.StatusDone, "not proven"},
	} {
		p := proof{from: []string{fresh}, all: c.all, since: now.Add(-20 * time.Minute), patience: c.patience}
		status, note := p.judge(c.hosts, now)
		if !strings.HasPrefix(status, c.want) || !strings.Contains(note, c.note) {
			t.Errorf("%s: %s (%s)", name, status, note)
		}
	}
}

func TestHealth(t *testing.T) {
	summary := func(s types.SummaryStatus) *types.InstanceStatusSummary {
		return &types.InstanceStatusSummary{Status: s}
	}
	for _, c := range []struct {
		one, other *types.InstanceStatusSummary
		want       health
	}{
		{summary("ok"), summary("ok"), healthPassed}, {summary("ok"), summary("not-applicable"), healthPassed},
		{summary("ok"), summary("initializing"), healthOpen}, {summary("insufficient-data"), summary("ok"), healthOpen},
		{summary("initializing"), summary("impaired"), healthFailed}, {nil, summary("ok"), healthOpen},
	} {
		if got := healthOf(c.one, c.other); got != c.want {
			t.Errorf("%+v, %+v: %s", c.one, c.other, got)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	f.Add("web", "aws:autoscaling:groupName", "lt-1:5,lt-2:1", "30m", "2026-03-02T09:00:00Z")
	f.Add("", "", "", "", "")
	f.Add("web", "t", "lt-1:", "-1h", "yesterday")
	f.Fuzz(func(t *testing.T, launcher, tag, from, timeout, since string) {
		p, err := parseProof(kind.Write{ID: "x", Verb: plan.ActionLaunched, Made: map[string]string{outputSince: since},
			Params: map[string]string{plan.ParamInstance: launcher, plan.ParamTag: tag, plan.ParamFrom: from, plan.ParamTimeout: timeout}})
		if err == nil && (p.launcher == "" || p.tag == "" || len(p.from) == 0 || p.patience < 0) {
			t.Errorf("took %+v", p)
		}
	})
}
