package cli_test

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// unwritten fails if imdsctl has changed anything in the simulator, by its call log: unwritten. With a "!" before it, it
// fails if nothing was changed. Callers who are no role stand for other people.
func unwritten(ts *testscript.TestScript, neg bool, _ []string) {
	resp, err := http.Get(ts.Getenv("AWS_ENDPOINT_URL") + "/_sim/calls")
	ts.Check(err)
	defer resp.Body.Close()
	calls := 0
	var written []string
	for lines := json.NewDecoder(resp.Body); lines.More(); calls++ {
		var c struct {
			Service, Action, Principal string
			Mutated                    bool
		}
		ts.Check(lines.Decode(&c))
		if c.Mutated && strings.Contains(c.Principal, ":assumed-role/") {
			written = append(written, c.Service+":"+c.Action)
		}
	}
	if calls == 0 {
		ts.Fatalf("the call log is empty")
	}
	if (len(written) > 0) != neg {
		ts.Fatalf("written: %q", written)
	}
}
