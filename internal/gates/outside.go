package gates

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// question is what commands and webhooks are told: the query, without the other gates.
type question struct {
	Version int    `json:"imdsctl_gate"`
	Gate    string `json:"gate"`
	engine.GateQuery
}

// questionVersion is the version of that document.
const questionVersion = 1

func ask(q engine.GateQuery, g plan.Gate) ([]byte, error) {
	q.Gates, q.Rules.Gates = nil, nil
	return json.Marshal(question{Version: questionVersion, Gate: g.Name, GateQuery: q})
}

var errTimeout = errors.New("it took too long")

// within gives a context that ends with errTimeout as its cause when the time is over. stop must be called.
func within(ctx context.Context, c clock.Clock, d time.Duration) (bounded context.Context, stop func()) {
	bounded, cancel := context.WithCancelCause(ctx)
	go func() {
		if c.Sleep(bounded, d) == nil {
			cancel(errTimeout)
		}
	}()
	return bounded, func() { cancel(nil) }
}

func timeoutOf(g plan.Gate) time.Duration {
	if g.Timeout <= 0 {
		return policy.DefaultGateTimeout
	}
	return g.Timeout
}

// mostText is how many characters of what others say are kept.
const mostText = 200

// oneLine is the first line of text that has one, without what could move a terminal's cursor or forge a log, and cut.
func oneLine(text []byte) string {
	var line string
	for candidate := range strings.Lines(strings.ToValidUTF8(string(text), "\uFFFD")) {
		if line = strings.TrimSpace(strings.Map(printable, candidate)); line != "" {
			break
		}
	}
	if runes := []rune(line); len(runes) > mostText {
		return string(runes[:mostText-1]) + "…"
	}
	return line
}

func printable(r rune) rune {
	if r == '\t' {
		return ' '
	}
	if !unicode.IsPrint(r) {
		return -1
	}
	return r
}
