package app

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// TraceHost is who the traced host is. What is not said is looked for: in the hardware's description, in cloud-init's files, and then in
// the instance identity document, which is asked for with a token before the trace begins, so that the trace has none of its own calls.
type TraceHost struct {
	InstanceID string
	Account    fleet.AccountID
	Region     fleet.Region
	// Root is where this host's files are; "" is "/".
	Root string
	// Metadata is the metadata service's address; "" asks nobody.
	Metadata string
	// ECSAgent is the address of the ECS agent's introspection, which knows the names of tasks; "" asks nobody.
	ECSAgent string
}

// traceHeader says what is known of this host before a trace begins.
func (a *App) traceHeader(ctx context.Context, o TraceOptions) tracer.Header {
	h := tracer.Header{Trace: traceID(), Part: 1, InstanceID: o.Host.InstanceID, Account: o.Host.Account, Region: o.Host.Region,
		Seconds: int64(o.For / time.Second), V1Only: o.V1Only, Program: a.opt.Version}
	if name, err := os.Hostname(); err == nil {
		h.Host = strings.ToValidUTF8(name, "\uFFFD")
	}
	o.Host.kernel(&h)
	for _, look := range []func(*tracer.Header){o.Host.hardware, o.Host.cloudInit} {
		look(&h)
	}
	if o.Host.Metadata != "" && (h.InstanceID == "" || h.Account == "" || h.Region == "") {
		if err := o.Host.identity(ctx, &h); err != nil {
			a.log.Info("the metadata service does not tell whose host this is", "error", err)
		}
	}
	return h
}

func (t TraceHost) read(name string) string {
	const most = 4 << 20
	f, err := os.Open(filepath.Join(cmp.Or(t.Root, "/"), name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "\uFFFD")
}

// kernel tells when this host was started, and with what.
func (t TraceHost) kernel(h *tracer.Header) {
	h.Kernel, h.BootID = t.read("proc/sys/kernel/osrelease"), t.read("proc/sys/kernel/random/boot_id")
	lines := bufio.NewScanner(strings.NewReader(t.read("proc/stat")))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "btime "); ok {
			if seconds, err := strconv.ParseInt(strings.TrimSpace(at), 10, 64); err == nil && seconds > 0 {
				h.Booted = time.Unix(seconds, 0).UTC()
			}
		}
	}
}

// hardware tells the instance's id where Nitro writes it ("Detect whether a host is an EC2 instance", EC2 User Guide).
func (t TraceHost) hardware(h *tracer.Header) {
	take(&h.InstanceID, t.read("sys/devices/virtual/dmi/id/board_asset_tag"), tracer.ValidInstanceID)
}

// cloudInit tells what cloud-init found out when the host was started.
// https://docs.cloud-init.io/en/latest/explanation/instancedata.html
func (t TraceHost) cloudInit(h *tracer.Header) {
	var data struct {
		V1 struct {
			Cloud    string `json:"cloud_name"`
			Instance string `json:"instance_id"`
			Region   string `json:"region"`
		} `json:"v1"`
		Source struct {
			Dynamic struct {
				Identity struct {
					Document json.RawMessage `json:"document"`
				} `json:"instance-identity"`
			} `json:"dynamic"`
		} `json:"ds"`
	}
	if err := json.Unmarshal([]byte(t.read("run/cloud-init/instance-data.json")), &data); err == nil && data.V1.Cloud == "aws" {
		take(&h.InstanceID, data.V1.Instance, tracer.ValidInstanceID)
		if h.InstanceID == data.V1.Instance { // and not left of the machine that the image was made of
			take(&h.Region, fleet.Region(data.V1.Region), tracer.ValidRegion)
			_ = document(data.Source.Dynamic.Identity.Document, h) // it may be redacted there
		}
	}
	take(&h.InstanceID, t.read("var/lib/cloud/data/instance-id"), tracer.ValidInstanceID)
}

// take fills in what is not known yet.
func take[T ~string](to *T, value T, valid func(T) bool) {
	if *to == "" && valid(value) {
		*to = value
	}
}

// document takes what an instance identity document says, if it is of this instance.
func document(text []byte, h *tracer.Header) error {
	var doc struct {
		Instance string          `json:"instanceId"`
		Account  fleet.AccountID `json:"accountId"`
		Region   fleet.Region    `json:"region"`
	}
	var quoted string
	if json.Unmarshal(text, &quoted) == nil { // cloud-init keeps it as a text
		text = []byte(quoted)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("read the instance identity document: %w", err)
	}
	take(&h.InstanceID, doc.Instance, tracer.ValidInstanceID)
	if h.InstanceID != doc.Instance {
		return fmt.Errorf("the instance identity document is of %q", doc.Instance)
	}
	take(&h.Account, doc.Account, fleet.AccountID.Valid)
	take(&h.Region, doc.Region, tracer.ValidRegion)
	return nil
}

// patienceOfIdentity is how long the metadata service and the ECS agent may take, each time.
const patienceOfIdentity = 2 * time.Second

// localClient asks services of this host: never through a proxy, and with no connection left behind.
func localClient() *http.Client {
	return &http.Client{Timeout: patienceOfIdentity, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// identity asks the metadata service, by version 2.
func (t TraceHost) identity(ctx context.Context, h *tracer.Header) error {
	base := strings.TrimRight(t.Metadata, "/")
	token, err := askLocal(ctx, http.MethodPut, base+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil {
		return err
	}
	doc, err := askLocal(ctx, http.MethodGet, base+"/latest/dynamic/instance-identity/document", "X-aws-ec2-metadata-token", strings.TrimSpace(string(token)))
	if err != nil {
		return err
	}
	return document(doc, h)
}

// askLocal makes one request of a service of this host.
func askLocal(ctx context.Context, method, address, header, value string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	if header != "" {
		r.Header.Set(header, value)
	}
	r.Header.Set("User-Agent", "imdsctl")
	resp, err := localClient().Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, address, resp.Status)
	}
	return body, err
}

// againAfter is how long a name that was not found is not looked for again, by the times of calls.
const againAfter = 10 * time.Second

// maxNames bounds the names that are remembered.
const maxNames = 10_000

// traceNames finds the names of pods and tasks, where this host can know them: in the folders of the kubelet's logs, and from the ECS
// agent, if it may be asked.
type traceNames struct {
	host  TraceHost
	pods  map[string]string
	tasks map[string]string
	tried map[string]time.Time // when a name was looked for in vain
	asked time.Time            // when the ECS agent was
}

func newTraceNames(host TraceHost) *traceNames {
	return &traceNames{host: host, pods: map[string]string{}, tasks: map[string]string{}, tried: map[string]time.Time{}}
}

// name fills in the names of a call's place.
func (n *traceNames) name(c *tracer.Call) {
	p := &c.Place
	if p.Pod != "" && p.PodName == "" {
		p.PodName = n.pod(p.Pod, c.Time)
	}
	if p.Task != "" && p.TaskName == "" && n.host.ECSAgent != "" {
		p.TaskName = n.task(p.Task, c.Time)
	}
}

// podUID is what may stand in the name of a folder: no pattern, no path.
var podUID = regexp.MustCompile(`^[0-9a-f-]+$`)

// pod looks for /var/log/pods/NAMESPACE_NAME_UID, which the kubelet makes before it starts a pod.
func (n *traceNames) pod(id string, now time.Time) string {
	if name, ok := n.pods[id]; ok {
		return name
	}
	if !podUID.MatchString(id) || n.soon("pod "+id, now) {
		return ""
	}
	found, err := filepath.Glob(filepath.Join(cmp.Or(n.host.Root, "/"), "var/log/pods", "*_*_"+id))
	if err != nil || len(found) != 1 {
		return ""
	}
	namespace, name, ok := strings.Cut(strings.TrimSuffix(filepath.Base(found[0]), "_"+id), "_")
	if !ok {
		return ""
	}
	name = strings.ToValidUTF8(namespace+"/"+name, "\uFFFD")
	remember(n.pods, id, name)
	return name
}

// soon tells whether a name was looked for a moment ago, and notes that it is now.
func (n *traceNames) soon(what string, now time.Time) bool {
	if last, ok := n.tried[what]; ok && now.Sub(last).Abs() < againAfter {
		return true
	}
	remember(n.tried, what, now)
	return false
}

func remember[V any](m map[string]V, key string, value V) {
	if len(m) >= maxNames {
		clear(m)
	}
	m[key] = value
}

// task asks the ECS agent for all tasks of this host.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-introspection.html
func (n *traceNames) task(id string, now time.Time) string {
	if name, ok := n.tasks[id]; ok {
		return name
	}
	if !n.asked.IsZero() && now.Sub(n.asked).Abs() < againAfter {
		return ""
	}
	n.asked = now
	body, err := askLocal(context.Background(), http.MethodGet, strings.TrimRight(n.host.ECSAgent, "/")+"/v1/tasks", "", "")
	if err != nil {
		return ""
	}
	var all struct {
		Tasks []struct{ Arn, Family, Version string }
	}
	if json.NewDecoder(bytes.NewReader(body)).Decode(&all) != nil {
		return ""
	}
	for _, t := range all.Tasks {
		if at := strings.LastIndexByte(t.Arn, '/'); at >= 0 && t.Family != "" && len(t.Family)+len(t.Version) < 512 {
			remember(n.tasks, t.Arn[at+1:], t.Family+":"+t.Version)
		}
	}
	return n.tasks[id]
}
