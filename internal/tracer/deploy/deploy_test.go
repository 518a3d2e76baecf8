package deploy_test

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"go.yaml.in/yaml/v4"

	"github.com/imdsctl/imdsctl/internal/tracer/deploy"
)

func render(t *testing.T, target string, o deploy.Options) map[string]string {
	t.Helper()
	d, err := deploy.Render(target, o)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range d.Files {
		files[f.Name] = f.Text
		if strings.Contains(f.Text, "<no value>") || !strings.HasSuffix(f.Text, "\n") || strings.Contains(f.Text, "[[") && f.Name == "ssm.json" {
			t.Errorf("%s is not filled in: %s", f.Name, f.Text)
		}
	}
	if len(d.Steps) < 3 || !strings.Contains(d.Steps[len(d.Steps)-1], "imdsctl evidence import s3://") {
		t.Errorf("%s: steps %q", target, d.Steps)
	}
	return files
}

var mine = deploy.Options{S3: "s3://logs.example/traces/", Every: 90 * time.Minute, For: 2 * time.Hour, Image: "registry.example/imdsctl:1.0",
	Program: "/opt/imdsctl", Flags: []string{"--v1-only"}, Cluster: "blue"}

// unit reads a unit of systemd: sections with settings, which may come several times.
func unit(t *testing.T, text string) map[string]map[string][]string {
	t.Helper()
	out := map[string]map[string][]string{}
	section := ""
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		name, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
			out[section] = map[string][]string{}
		case !ok || section == "" || !regexp.MustCompile(`^[A-Z][A-Za-z]+$`).MatchString(name) || strings.HasSuffix(line, `\`):
			t.Errorf("this is no line of a unit: %q", line)
		default:
			out[section][name] = append(out[section][name], value)
		}
	}
	return out
}

func TestSystemd(t *testing.T) {
	files := render(t, "systemd", mine)
	main := unit(t, files["imdsctl-trace.service"])
	want := "/opt/imdsctl trace --out /var/lib/imdsctl-trace/trace.imds.jsonl --max-size 64MB --every 90m --keep 168 --quiet --v1-only"
	if got := main["Service"]["ExecStart"]; !slices.Equal(got, []string{want}) {
		t.Errorf("ExecStart %q", got)
	}
	if got := main["Service"]["CapabilityBoundingSet"]; !slices.Equal(got, []string{"CAP_BPF CAP_NET_ADMIN CAP_PERFMON CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"}) {
		t.Errorf("capabilities %q", got)
	}
	for _, name := range []string{"NoNewPrivileges", "ProtectSystem", "StateDirectory", "SystemCallFilter"} {
		if len(main["Service"][name]) != 1 {
			t.Errorf("%s is not set once", name)
		}
	}
	if len(main["Install"]["WantedBy"]) != 1 {
		t.Error("it cannot be enabled")
	}
	upload := unit(t, files["imdsctl-trace-upload.service"])
	if got := upload["Service"]["ExecStart"][0]; !strings.Contains(got, " s3://logs.example/traces/%H/ --recursive --exclude * --include *.imds.jsonl") {
		t.Errorf("upload: %s", got)
	}
	if unit(t, files["imdsctl-trace-upload.timer"])["Timer"]["OnCalendar"] == nil {
		t.Error("the timer has no time")
	}
}

func TestSystemsManager(t *testing.T) {
	var doc struct {
		SchemaVersion string `json:"schemaVersion"`
		Parameters    map[string]struct{ Type, Default, AllowedPattern string }
		MainSteps     []struct {
			Action       string
			Precondition map[string][]string
			Inputs       struct {
				TimeoutSeconds string
				RunCommand     []string
			}
		} `json:"mainSteps"`
	}
	text := render(t, "ssm", mine)["ssm.json"]
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.SchemaVersion != "2.2" || len(doc.MainSteps) != 1 || doc.MainSteps[0].Action != "aws:runShellScript" ||
		!slices.Equal(doc.MainSteps[0].Precondition["StringEquals"], []string{"platformType", "Linux"}) {
		t.Fatalf("%+v", doc)
	}
	script := strings.Join(doc.MainSteps[0].Inputs.RunCommand, "\n")
	filled := script
	for name, p := range doc.Parameters {
		filled = strings.ReplaceAll(filled, "{{ "+name+" }}", p.Default)
	}
	if sh, err := exec.LookPath("sh"); err == nil {
		check := exec.CommandContext(t.Context(), sh, "-n")
		check.Stdin = strings.NewReader(filled)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("the script: %v: %s", err, out)
		}
	}
	used := regexp.MustCompile(`\{\{ (\w+) \}\}`).FindAllStringSubmatch(script+doc.MainSteps[0].Inputs.TimeoutSeconds, -1)
	seen := map[string]bool{}
	for _, u := range used {
		seen[u[1]] = true
		if _, ok := doc.Parameters[u[1]]; !ok {
			t.Errorf("%s is no parameter", u[1])
		}
	}
	for name, p := range doc.Parameters {
		pattern, err := regexp.Compile(p.AllowedPattern)
		if err != nil || !pattern.MatchString(p.Default) || !seen[name] {
			t.Errorf("%s: %v, default %q, used %v", name, err, p.Default, seen[name])
			continue
		}
		// What a shell would run never gets into the script.
		for _, evil := range []string{`"; reboot; "`, "$(reboot)", "`reboot`", "a b", "s3://a/b\nreboot", "'", `\`} {
			if pattern.MatchString(evil) {
				t.Errorf("%s takes %q", name, evil)
			}
		}
	}
	if doc.Parameters["Duration"].Default != "2h" || doc.Parameters["S3Uri"].Default != "s3://logs.example/traces" || doc.Parameters["ProgramUrl"].Default != "" {
		t.Errorf("%+v", doc.Parameters)
	}
}

func TestECS(t *testing.T) {
	files := render(t, "ecs", mine)
	var task struct {
		NetworkMode, PidMode string
		ContainerDefinitions []struct {
			Name, Image, User string
			Privileged        bool
			Command           []string
			LinuxParameters   struct{ Capabilities struct{ Add, Drop []string } }
			MountPoints       []struct{ SourceVolume string }
		}
		Volumes []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(files["task-definition.json"]), &task); err != nil {
		t.Fatal(err)
	}
	if task.NetworkMode != "host" || task.PidMode != "host" || len(task.ContainerDefinitions) != 2 || task.ContainerDefinitions[0].Image != mine.Image {
		t.Errorf("%+v", task)
	}
	for _, c := range task.ContainerDefinitions {
		if c.Privileged || !slices.Equal(c.LinuxParameters.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s has more than it needs", c.Name)
		}
		for _, m := range c.MountPoints {
			if !slices.ContainsFunc(task.Volumes, func(v struct{ Name string }) bool { return v.Name == m.SourceVolume }) {
				t.Errorf("%s is no volume", m.SourceVolume)
			}
		}
	}
	if got := task.ContainerDefinitions[0]; !slices.Equal(got.LinuxParameters.Capabilities.Add, []string{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"}) ||
		got.Command[len(got.Command)-1] != "--v1-only" {
		t.Errorf("%+v", got)
	}
	var service map[string]any
	if err := json.Unmarshal([]byte(files["service.json"]), &service); err != nil || service["schedulingStrategy"] != "DAEMON" || service["cluster"] != "blue" {
		t.Errorf("%v %v", service, err)
	}
}

// TestECSTakesIt: the AWS CLI refuses a field that the API does not have, and ECS a capability that it does not know.
func TestECSTakesIt(t *testing.T) {
	files := render(t, "ecs", deploy.Options{})
	var task ecs.RegisterTaskDefinitionInput
	var service ecs.CreateServiceInput
	for name, into := range map[string]any{"task-definition.json": &task, "service.json": &service} {
		d := json.NewDecoder(strings.NewReader(files[name]))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// "KernelCapabilities", Amazon ECS API Reference.
	known := strings.Fields("ALL AUDIT_CONTROL AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE " +
		"LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT " +
		"SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM")
	for _, c := range task.ContainerDefinitions {
		for _, name := range append(c.LinuxParameters.Capabilities.Add, c.LinuxParameters.Capabilities.Drop...) {
			if !slices.Contains(known, name) {
				t.Errorf("%s: ECS knows no capability %s", *c.Name, name)
			}
		}
	}
	if !slices.Contains(service.LaunchType.Values(), service.LaunchType) || !slices.Contains(service.SchedulingStrategy.Values(), service.SchedulingStrategy) ||
		!slices.Contains(task.NetworkMode.Values(), task.NetworkMode) || !slices.Contains(task.PidMode.Values(), task.PidMode) || *service.TaskDefinition != *task.Family {
		t.Errorf("%+v, %+v", task, service)
	}
}

func TestKubernetes(t *testing.T) {
	text := render(t, "kubernetes", mine)["kubernetes.yaml"]
	kinds := map[string]yaml.Node{}
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var doc yaml.Node
		if d.Decode(&doc) != nil {
			break
		}
		var head struct{ Kind string }
		if err := doc.Decode(&head); err != nil {
			t.Fatal(err)
		}
		kinds[head.Kind] = doc
	}
	if len(kinds) != 3 {
		t.Fatalf("%d documents", len(kinds))
	}
	var set struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					HostPID     bool `yaml:"hostPID"`
					HostNetwork bool `yaml:"hostNetwork"`
					Containers  []struct {
						Name, Image     string
						Args            []string
						SecurityContext struct {
							Privileged               *bool
							AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
							Capabilities             struct{ Add, Drop []string }
						} `yaml:"securityContext"`
						VolumeMounts []struct{ Name string } `yaml:"volumeMounts"`
					}
					Volumes []struct{ Name string }
				}
			}
		}
	}
	doc := kinds["DaemonSet"]
	if err := doc.Decode(&set); err != nil {
		t.Fatal(err)
	}
	pod := set.Spec.Template
	if !pod.Spec.HostPID || !pod.Spec.HostNetwork || len(pod.Spec.Containers) != 2 {
		t.Errorf("%+v", pod.Spec)
	}
	for k, v := range set.Spec.Selector.MatchLabels {
		if pod.Metadata.Labels[k] != v {
			t.Errorf("label %s=%s selects nothing", k, v)
		}
	}
	for _, c := range pod.Spec.Containers {
		s := c.SecurityContext
		if s.Privileged == nil || *s.Privileged || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s has more than it needs: %+v", c.Name, s)
		}
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Spec.Volumes, func(v struct{ Name string }) bool { return v.Name == m.Name }) {
				t.Errorf("%s is no volume", m.Name)
			}
		}
	}
	trace := pod.Spec.Containers[0]
	if trace.Image != mine.Image || trace.Args[0] != "trace" || trace.Args[len(trace.Args)-1] != "--v1-only" || !slices.Contains(trace.Args, "90m") ||
		!slices.Equal(trace.SecurityContext.Capabilities.Add, []string{"BPF", "NET_ADMIN", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"}) {
		t.Errorf("%+v", trace)
	}
	if upload := pod.Spec.Containers[1]; len(upload.SecurityContext.Capabilities.Add) != 0 || !strings.Contains(upload.Args[0], `"s3://logs.example/traces/$NODE_NAME/"`) {
		t.Errorf("%+v", upload)
	}
}

// TestNothingIsSmuggledIn: what is filled in is a word, and nothing more, in every format.
func TestNothingIsSmuggledIn(t *testing.T) {
	for _, evil := range []string{"x\ny", `"x`, "x; reboot", "$(x)", "`x`", "{{x}}", "x y", "'x'", "", "../x"} {
		for _, target := range deploy.Targets() {
			for n, o := range []deploy.Options{{S3: evil}, {S3: "s3://b/" + evil}, {Image: evil + " "}, {Program: "/x " + evil}, {Cluster: "-" + evil}, {TaskRole: " " + evil},
				{Flags: []string{evil}}, {Every: 61 * time.Second}, {For: time.Second}} {
				if evil == "" && (n == 0 || n == 1) || evil == "../x" && n == 1 {
					continue // empty is a placeholder, and a key may have dots
				}
				if _, err := deploy.Render(target, o); err == nil {
					t.Errorf("%s takes %q in option %d", target, evil, n)
				}
			}
		}
	}
	if _, err := deploy.Render("windows", deploy.Options{}); err == nil || !strings.Contains(err.Error(), "systemd, ssm, ecs, kubernetes") {
		t.Errorf("windows: %v", err)
	}
	for _, target := range deploy.Targets() {
		render(t, target, deploy.Options{})
	}
}
