package ssm

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// pageSize is the most that a list returns at a time, and what it returns when nothing is said.
const pageSize = 50

// query is what both lists ask for.
type query struct {
	command, instance string
	filters           []func(*command, string) bool
	limit             int
	// before is where the page begins: at the invocation after this one, newest commands first. Zero is the beginning.
	before position
}

// position is one invocation of one command.
type position struct{ serial, index int }

func parseQuery(in wire.Value) (query, error) {
	q := query{command: in.Str("CommandId"), instance: in.Str("InstanceId"), limit: pageSize}
	limit, set, err := in.Int("MaxResults")
	switch {
	case err != nil || set && (limit < 1 || limit > pageSize):
		return q, validation("Value at 'maxResults' must be between 1 and %d", pageSize)
	case in.Has("CommandId") && len(q.command) != 36:
		return q, validation("Value '%s' at 'commandId' must have length 36", q.command)
	case in.Has("InstanceId") && !instanceID.MatchString(q.instance):
		return q, validation("Value '%s' at 'instanceId' failed to satisfy constraint", q.instance)
	case set:
		q.limit = int(limit)
	}
	for _, f := range in.Items("Filters") {
		holds, err := filter(f.Str("key"), f.Str("value"))
		if err != nil {
			return q, err
		}
		q.filters = append(q.filters, holds)
	}
	if token := in.Str("NextToken"); token != "" {
		if q.before, err = readToken(token); err != nil {
			return q, err
		}
	}
	return q, nil
}

func filter(key, value string) (func(cmd *command, status string) bool, error) {
	switch key {
	case "InvokedAfter", "InvokedBefore":
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return nil, validation("Value '%s' of filter %s is no timestamp", value, key)
		}
		return func(c *command, _ string) bool {
			return key == "InvokedAfter" && !c.requested.Before(at) || key == "InvokedBefore" && c.requested.Before(at)
		}, nil
	case "Status":
		return func(_ *command, status string) bool { return status == value }, nil
	case "DocumentName":
		return func(c *command, _ string) bool { return c.document == value }, nil
	}
	return nil, wire.Errorf("InvalidFilterKey", "The filter key %s is not valid.", key)
}

func readToken(token string) (at position, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		_, err = fmt.Sscanf(string(b), "%d.%d", &at.serial, &at.index)
	}
	if err != nil || at.serial < 1 || at.index < 0 {
		return at, wire.Errorf("InvalidNextToken", "The specified token is not valid.")
	}
	return at, nil
}

func (at position) token() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", at.serial, at.index))
}

// commands are those the query asks for, newest first, with their invocations as they are seen now.
func (q query) commands(s *store, now time.Time, yield func(*command, []invocation) bool) {
	for _, cmd := range slices.Backward(s.commands) {
		seen := cmd.state.Seen(now)
		if seen == nil || q.command != "" && cmd.id != q.command || q.before.serial > 0 && cmd.serial > q.before.serial {
			continue
		}
		if q.instance != "" && !slices.ContainsFunc(*seen, func(v invocation) bool { return v.instance == q.instance }) {
			continue
		}
		if !yield(cmd, *seen) {
			return
		}
	}
}

func listCommands(c *core.Call) error {
	q, err := parseQuery(c.In)
	if err != nil {
		return err
	}
	var last position
	more, n := false, 0
	c.Out.List("Commands", func() {
		q.commands(storeOf(c.Place), c.Now, func(cmd *command, seen []invocation) bool {
			if summed, _ := status(seen); cmd.serial == q.before.serial || !q.holds(cmd, summed) {
				return true
			}
			if n == q.limit {
				more = true
				return false
			}
			n, last = n+1, position{cmd.serial, 0}
			c.Out.Struct("", func() { writeCommand(c.Out, cmd, seen) })
			return true
		})
	})
	if more {
		c.Out.Str("NextToken", last.token())
	}
	return nil
}

func (q query) holds(cmd *command, status string) bool {
	return !slices.ContainsFunc(q.filters, func(f func(*command, string) bool) bool { return !f(cmd, status) })
}

func listInvocations(c *core.Call) error {
	q, err := parseQuery(c.In)
	if err != nil {
		return err
	}
	details, _, err := c.In.Bool("Details")
	if err != nil {
		return validation("Value at 'details' is no boolean")
	}
	var last position
	more, n := false, 0
	c.Out.List("CommandInvocations", func() {
		q.commands(storeOf(c.Place), c.Now, func(cmd *command, seen []invocation) bool {
			for i, v := range seen {
				if cmd.serial == q.before.serial && i <= q.before.index || q.instance != "" && v.instance != q.instance ||
					!q.holds(cmd, v.status) {
					continue
				}
				if n == q.limit {
					more = true
					return false
				}
				n, last = n+1, position{cmd.serial, i}
				c.Out.Struct("", func() { writeInvocation(c.Out, cmd, v, details) })
			}
			return true
		})
	})
	if more {
		c.Out.Str("NextToken", last.token())
	}
	return nil
}

func getInvocation(c *core.Call) error {
	id, instance := c.In.Str("CommandId"), c.In.Str("InstanceId")
	if len(id) != 36 || !instanceID.MatchString(instance) {
		return validation("CommandId and InstanceId are required")
	}
	if cmd := storeOf(c.Place).byID[id]; cmd != nil && cmd.state.Seen(c.Now) != nil {
		for _, v := range *cmd.state.Seen(c.Now) {
			if v.instance == instance {
				writeResult(c.Out, cmd, v)
				return nil
			}
		}
	}
	return wire.Errorf("InvocationDoesNotExist", "An error occurred: the invocation does not exist.")
}

func writeCommand(w *wire.Writer, cmd *command, all []invocation) {
	summed, details := status(all)
	count := func(is func(invocation) bool) (n int64) {
		for _, v := range all {
			if is(v) {
				n++
			}
		}
		return n
	}
	w.Str("CommandId", cmd.id)
	w.Str("DocumentName", cmd.document)
	w.Str("DocumentVersion", "$DEFAULT")
	w.Str("Comment", cmd.comment)
	w.Time("ExpiresAfter", cmd.requested.Add(2*time.Duration(cmd.timeout)*time.Second))
	w.Struct("Parameters", func() {
		for _, name := range cmd.params.Names() {
			w.Strings(name, cmd.params.Strings(name))
		}
	})
	w.List("InstanceIds", func() {
		for _, v := range all {
			w.Str("", v.instance)
		}
	})
	w.List("Targets", func() {})
	w.Time("RequestedDateTime", cmd.requested)
	w.Str("Status", summed)
	w.Str("StatusDetails", details)
	w.Str("MaxConcurrency", "50")
	w.Str("MaxErrors", "0")
	w.Int("TargetCount", int64(len(all)))
	w.Int("CompletedCount", count(func(v invocation) bool { return v.over() }))
	w.Int("ErrorCount", count(func(v invocation) bool { return v.status == failed }))
	w.Int("DeliveryTimedOutCount", count(func(v invocation) bool { return v.details == "DeliveryTimedOut" }))
	w.Int("TimeoutSeconds", cmd.timeout)
}

func writeInvocation(w *wire.Writer, cmd *command, v invocation, details bool) {
	w.Str("CommandId", cmd.id)
	w.Str("InstanceId", v.instance)
	w.Str("InstanceName", "")
	w.Str("Comment", cmd.comment)
	w.Str("DocumentName", cmd.document)
	w.Str("DocumentVersion", "$DEFAULT")
	w.Time("RequestedDateTime", cmd.requested)
	w.Str("Status", v.status)
	w.Str("StatusDetails", v.details)
	w.List("CommandPlugins", func() {
		if !details {
			return
		}
		w.Struct("", func() {
			w.Str("Name", pluginName)
			w.Str("Status", v.status)
			w.Str("StatusDetails", v.details)
			w.Int("ResponseCode", v.code)
			if !v.started.IsZero() {
				w.Time("ResponseStartDateTime", v.started)
			}
			if !v.ended.IsZero() {
				w.Time("ResponseFinishDateTime", v.ended)
			}
			w.Str("Output", "")
		})
	})
}

// pluginName is the one step that every simulated document has.
const pluginName = "aws:runShellScript"

func writeResult(w *wire.Writer, cmd *command, v invocation) {
	stamp := func(t time.Time) string { // whole seconds, which is what the model's pattern allows
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	w.Str("CommandId", cmd.id)
	w.Str("InstanceId", v.instance)
	w.Str("Comment", cmd.comment)
	w.Str("DocumentName", cmd.document)
	w.Str("DocumentVersion", "$DEFAULT")
	w.Str("PluginName", pluginName)
	w.Int("ResponseCode", v.code)
	w.Str("ExecutionStartDateTime", stamp(v.started))
	w.Str("ExecutionEndDateTime", stamp(v.ended))
	w.Str("Status", v.status)
	w.Str("StatusDetails", v.details)
	w.Str("StandardOutputContent", "")
	w.Str("StandardErrorContent", "")
}
