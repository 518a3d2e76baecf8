package ssm

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// The statuses of a command and of its invocations.
const (
	pending    = "Pending"
	inProgress = "InProgress"
	succeeded  = "Success"
	failed     = "Failed"
	timedOut   = "TimedOut"
)

// defaultTimeout is how long a command waits for an agent where nothing is said, in seconds (SendCommand,
// TimeoutSeconds).
const defaultTimeout = 3600

// command is one SendCommand. All but its state is fixed.
type command struct {
	id        string
	serial    int
	document  string
	comment   string
	params    wire.Value
	timeout   int64 // seconds
	requested time.Time
	// state is what became of it; nil while listings do not show it.
	state core.Versioned[*[]invocation]
}

// invocation is a command on one instance.
type invocation struct {
	instance        string
	status, details string
	code            int64 // -1 before it ended
	started, ended  time.Time
}

func (i *invocation) over() bool { return i.status != pending && i.status != inProgress }

func (s *service) sendCommand(c *core.Call) error {
	cmd, instances, err := accept(c)
	if err != nil {
		return err
	}
	st, w := storeOf(c.Place), c.World
	a, b := strings.TrimPrefix(w.NewID("x"), "x0"), strings.TrimPrefix(w.NewID("x"), "x0")
	cmd.id = fmt.Sprintf("%s-%s-4%s-8%s-%s", a[:8], a[8:12], a[13:16], b[1:4], b[4:])
	st.commands = append(st.commands, cmd)
	cmd.serial = len(st.commands)
	st.byID[cmd.id] = cmd
	first := make([]invocation, len(instances))
	for i, id := range instances {
		first[i] = invocation{instance: id, status: pending, details: pending, code: -1}
	}
	cmd.state.Set(c.Now, w.Consistency(), &first)
	for i := range instances {
		c.Place.After(c.Now, w.Settle()/2, func(now time.Time) { s.begin(c.Place, cmd, i, now) })
	}
	c.Mutated(append([]string{cmd.id}, instances...)...)
	c.Out.Struct("Command", func() { writeCommand(c.Out, cmd, first) })
	return nil
}

// accept reads a request, with AWS's refusals.
func accept(c *core.Call) (*command, []string, error) {
	in, st := c.In, storeOf(c.Place)
	name, instances := in.Str("DocumentName"), in.Strings("InstanceIds")
	timeout, set, err := in.Int("TimeoutSeconds")
	if !set {
		timeout = defaultTimeout
	}
	switch {
	case err != nil || timeout < 30 || timeout > 2592000:
		return nil, nil, validation("Value at 'timeoutSeconds' must be between 30 and 2592000")
	case !documentName.MatchString(name):
		return nil, nil, validation("Value '%s' at 'documentName' failed to satisfy constraint", name)
	case len(in.Str("Comment")) > 100:
		return nil, nil, validation("Value at 'comment' must have length less than or equal to 100")
	case in.Has("Targets"):
		return nil, nil, validation("the simulator sends commands to InstanceIds only")
	case len(instances) < 1 || len(instances) > 50:
		return nil, nil, validation("Value at 'instanceIds' must have 1 to 50 elements")
	}
	doc, ok := st.documents[plainName(name)]
	if !ok {
		return nil, nil, wire.Errorf("InvalidDocument", "Document with name %s does not exist.", name)
	}
	if err := doc.check(in.Get("Parameters")); err != nil {
		return nil, nil, err
	}
	for i, id := range instances {
		switch {
		case !instanceID.MatchString(id):
			return nil, nil, validation("Value '%s' at 'instanceIds' failed to satisfy constraint", id)
		case slices.Contains(instances[:i], id):
			return nil, nil, wire.Errorf("DuplicateInstanceId", "Instance %s was given twice.", id)
		case !st.reachable(c.Place, id):
			return nil, nil, wire.Errorf("InvalidInstanceId", "Instances [[%s]] not in a valid state for account %s", id,
				c.Account())
		}
	}
	return &command{
		document: plainName(name), comment: in.Str("Comment"), params: in.Get("Parameters"), timeout: timeout,
		requested: c.Now,
	}, instances, nil
}

// reachable tells whether a command would get to an instance's agent.
func (s *store) reachable(p *core.Place, id string) bool {
	i := ec2.StoreOf(p).Instance(id)
	return i != nil && i.Newest().State == ec2.StateRunning && !s.unmanaged[id]
}

func (d document) check(params wire.Value) error {
	names := params.Names()
	for _, want := range d.required {
		if !slices.Contains(names, want) {
			return wire.Errorf("InvalidParameters", "Parameter %s is required.", want)
		}
	}
	for _, name := range names {
		if d.known != nil && !slices.Contains(d.known, name) && !slices.Contains(d.required, name) {
			return wire.Errorf("InvalidParameters", "Parameter %s is not defined in the document.", name)
		}
		if params.Get(name).IsScalar() {
			return wire.Errorf("SerializationException", "Parameter %s is not a list.", name)
		}
	}
	return nil
}

// begin has an agent take a command up, or waits for the agent until the command's time is over. An agent that comes
// back meanwhile is not noticed.
func (s *service) begin(p *core.Place, cmd *command, i int, now time.Time) {
	if !storeOf(p).reachable(p, cmd.at(i).instance) {
		p.After(now, cmd.requested.Add(time.Duration(cmd.timeout)*time.Second).Sub(now), func(now time.Time) {
			cmd.update(p, now, i, func(v *invocation) { v.status, v.details, v.ended = timedOut, "DeliveryTimedOut", now })
		})
		return
	}
	cmd.update(p, now, i, func(v *invocation) { v.status, v.details, v.started = inProgress, inProgress, now })
	p.After(now, p.World().Settle()/2, func(now time.Time) { s.finish(p, cmd, i, now) })
}

// finish runs a command on an instance: it restarts the programs there, unless it fails.
func (s *service) finish(p *core.Place, cmd *command, i int, now time.Time) {
	st := storeOf(p)
	id := cmd.at(i).instance
	if !st.reachable(p, id) {
		cmd.update(p, now, i, func(v *invocation) { v.status, v.details, v.ended = failed, "Undeliverable", now })
		return
	}
	code := st.codes[id]
	if code == 0 && st.documents[cmd.document].scripted {
		code = exitCode(cmd.params.Strings("commands"))
	}
	st.runs = append(st.runs, Run{
		Command: cmd.id, Document: cmd.document, Comment: cmd.comment, Instance: id, At: now, Code: code,
	})
	if code == 0 {
		s.hosts.Restart(p, id, now)
	}
	cmd.update(p, now, i, func(v *invocation) {
		v.status, v.details, v.code, v.ended = succeeded, succeeded, int64(code), now
		if code != 0 {
			v.status, v.details = failed, failed
		}
	})
}

var exitLine = regexp.MustCompile(`^\s*exit\s+(\d{1,3})\s*$`)

// exitCode is what a script ends with: the first line that is nothing but an exit decides.
func exitCode(lines []string) int {
	for _, line := range lines {
		if m := exitLine.FindStringSubmatch(line); m != nil {
			code, _ := strconv.Atoi(m[1]) // up to three digits
			return code
		}
	}
	return 0
}

// at is an invocation as the last writer left it.
func (c *command) at(i int) invocation { return (*c.state.Newest())[i] }

func (c *command) update(p *core.Place, now time.Time, i int, change func(*invocation)) {
	next := slices.Clone(*c.state.Newest())
	change(&next[i])
	c.state.Set(now, p.World().Consistency(), &next)
}

// status sums the invocations of a command up.
func status(all []invocation) (status, details string) {
	count := map[string]int{}
	for _, v := range all {
		count[v.status]++
	}
	switch {
	case count[pending] == len(all):
		return pending, pending
	case count[pending]+count[inProgress] > 0:
		return inProgress, inProgress
	}
	for _, want := range []string{failed, timedOut} {
		if i := slices.IndexFunc(all, func(v invocation) bool { return v.status == want }); i >= 0 {
			return want, all[i].details
		}
	}
	return succeeded, succeeded
}

func validation(format string, args ...any) error {
	return wire.Errorf("ValidationException", "1 validation error detected: "+format, args...)
}
