package followup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// ID names a follow-up: the resource, the follow-up's name in the configuration, and when the plan was made, so that the
// follow-up of another plan is another one.
type ID struct {
	// Instance is the resource that is followed up; only Systems Manager insists on an EC2 instance.
	Instance string
	Name     string
	Planned  time.Time
}

// ParseID reads "<instance id>/<name>/<unix seconds>". A name may hold slashes.
func ParseID(s string) (ID, error) {
	instance, rest, _ := strings.Cut(s, "/")
	last := strings.LastIndexByte(rest, '/')
	if instance == "" || last < 1 {
		return ID{}, fmt.Errorf("follow-up %q: want INSTANCE/NAME/SECONDS", s)
	}
	seconds, err := strconv.ParseInt(rest[last+1:], 10, 64)
	if err != nil || seconds < 0 || seconds > maxUnix {
		return ID{}, fmt.Errorf("follow-up %q: %q is no time in seconds since 1970", s, rest[last+1:])
	}
	return ID{Instance: instance, Name: rest[:last], Planned: time.Unix(seconds, 0).UTC()}, nil
}

// maxUnix is the end of the year 9999, after which times cannot be written as AWS reads them.
const maxUnix = 253402300799

func (id ID) String() string {
	return id.Instance + "/" + id.Name + "/" + strconv.FormatInt(id.Planned.Unix(), 10)
}

// Task is what a follow-up's parameters say.
type Task struct {
	Instance, Name string
	// Document and Parameters are for plan.ActionSSM, Run (a program with its arguments) for plan.ActionCommand, Text for
	// plan.ActionManual.
	Document   string
	Parameters map[string][]string
	Run        []string
	Text       string
	// Timeout is how long a program may run, and how long a command may wait for the instance's agent.
	Timeout time.Duration
}

var (
	instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)
	// The pattern of the Systems Manager API reference, SendCommand.
	documentName = regexp.MustCompile(`^[a-zA-Z0-9_\-.:/]{3,128}$`)
)

// Parse reads the parameters of the follow-up with the id, which is of the kind that action tells.
func Parse(action, id string, params map[string]string) (Task, error) {
	t := Task{
		Instance: params[plan.ParamInstance], Name: params[plan.ParamName], Text: params[plan.ParamText],
		Timeout: policy.DefaultFollowUpTimeout,
	}
	if _, err := ParseID(id); err != nil {
		return t, err
	}
	if planned, ok := strings.CutPrefix(id, t.Instance+"/"+t.Name+"/"); !ok || strings.Contains(planned, "/") {
		return t, fmt.Errorf("follow-up %s: its parameters are those of %q of %q", id, t.Name, t.Instance)
	}
	if text := params[plan.ParamTimeout]; text != "" {
		var err error
		if t.Timeout, err = time.ParseDuration(text); err != nil || t.Timeout <= 0 {
			return t, fmt.Errorf("follow-up %s: its timeout %q is no duration above 0", id, text)
		}
	}
	switch action {
	case plan.ActionSSM:
		if err := t.parseSSM(id, params); err != nil {
			return t, err
		}
	case plan.ActionCommand:
		err := decode(params[plan.ParamCommand], &t.Run)
		if err == nil {
			err = checkRun(t.Run)
		}
		if err != nil {
			return t, fmt.Errorf("follow-up %s: its command: %w", id, err)
		}
	case plan.ActionManual:
	default:
		return t, fmt.Errorf("follow-up %s: nothing is known of %q", id, action)
	}
	return t, nil
}

func (t *Task) parseSSM(id string, params map[string]string) error {
	t.Document = params[plan.ParamDocument]
	if !documentName.MatchString(t.Document) {
		return fmt.Errorf("follow-up %s: %q is no name of a Systems Manager document", id, t.Document)
	}
	if !instanceID.MatchString(t.Instance) {
		return fmt.Errorf("follow-up %s: %q is no EC2 instance, and Systems Manager needs one; make it a command", id, t.Instance)
	}
	err := decode(params[plan.ParamParameters], &t.Parameters)
	if err == nil {
		err = checkLists(t.Parameters)
	}
	if err != nil {
		return fmt.Errorf("follow-up %s: its parameters for %s: %w", id, t.Document, err)
	}
	return nil
}

// decode reads one JSON document; nothing is none.
func decode(text string, into any) error {
	if text == "" {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("not as imdsctl writes them: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands behind the JSON document")
	}
	return nil
}

func checkLists(m map[string][]string) error {
	for name, list := range m {
		if name == "" || list == nil {
			return fmt.Errorf("%q: want a name and a list of text", name)
		}
	}
	return nil
}

func checkRun(run []string) error {
	switch {
	case len(run) == 0 || run[0] == "":
		return errors.New("no program is named")
	case slices.ContainsFunc(run, func(s string) bool { return bytes.IndexByte([]byte(s), 0) >= 0 }):
		return errors.New("an argument holds a NUL byte")
	}
	return nil
}

// mark begins the comment of every command that was sent for the follow-up, whatever attempt sent it.
func mark(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "imdsctl " + hex.EncodeToString(sum[:8])
}

// comment marks one attempt. Systems Manager takes 100 characters; a marker has at most 64.
func comment(id, marker string) string {
	if marker == "" {
		return mark(id)
	}
	return mark(id) + " " + marker
}

// marked tells whether a command was sent for the follow-up.
func marked(text, id string) bool {
	rest, ok := strings.CutPrefix(text, mark(id))
	return ok && (rest == "" || rest[0] == ' ')
}
