// Package deploy has what it takes to run `imdsctl trace` on many hosts: units of systemd, a document of Systems Manager, a daemon of
// ECS and a DaemonSet of Kubernetes, each with the sending of trace files to S3.
//
// It owns the manifests (templates/) and what may be filled in. It contacts nobody and writes no file: what it gives is text, to be read
// before it is used. None of them is privileged, and each says why it has the capabilities that it has.
package deploy

import (
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"
)

// Options are what is filled in. Empty ones get a default, or a placeholder in capitals to be replaced.
type Options struct {
	// S3 is where trace files go: s3://bucket/prefix.
	S3 string
	// For is how long Systems Manager's command traces; the others trace until they are stopped.
	For time.Duration
	// Every is how often a file is finished, so that it can be sent.
	Every time.Duration
	// Image is that of imdsctl, and AWSImage one with the AWS CLI and a shell.
	Image, AWSImage string
	// Program is where imdsctl is installed on a host.
	Program string
	// Flags are more flags of `imdsctl trace`.
	Flags []string
	// Cluster, TaskRole and ExecutionRole are ECS's.
	Cluster, TaskRole, ExecutionRole string
}

// File is one file of a deployment.
type File struct {
	Name string
	Text string
}

// Deployment is what one sort of deployment consists of: the first file is the main one. Steps say how it is used.
type Deployment struct {
	Files []File
	Steps []string
}

//go:embed templates
var templates embed.FS

// Targets are the sorts of deployment.
func Targets() []string { return []string{"systemd", "ssm", "ecs", "kubernetes"} }

// values are an Options with all filled in.
type values struct {
	S3, For, Every, Image, AWSImage, Program, Cluster, TaskRole, ExecutionRole string

	List []string
}

// Flags are the further flags of a command line.
func (v values) Flags() string {
	if len(v.List) == 0 {
		return ""
	}
	return " " + strings.Join(v.List, " ")
}

// What may be filled in: nothing that a shell, a unit, YAML or JSON would understand as more than a word.
var (
	s3Pattern    = regexp.MustCompile(`^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9._=-]+)*$`)
	imagePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}$`)
	pathPattern  = regexp.MustCompile(`^/[A-Za-z0-9._/-]{1,255}$`)
	wordPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,999}$`)
	flagPattern  = regexp.MustCompile(`^--?[a-z0-9][A-Za-z0-9._:/=@-]*$|^[A-Za-z0-9][A-Za-z0-9._:/=@-]*$`)
)

// Render fills in the manifests of one target. An error names the option that cannot be filled in.
func Render(target string, o Options) (Deployment, error) {
	v, err := o.values(target)
	if err != nil {
		return Deployment{}, err
	}
	var names, steps []string
	switch target {
	case "systemd":
		names = []string{"imdsctl-trace.service", "imdsctl-trace-upload.service", "imdsctl-trace-upload.timer"}
		steps = []string{
			"Install imdsctl as " + v.Program + " and the three units in /etc/systemd/system/.",
			"Give the instance's role s3:PutObject below " + v.S3 + "/, and have the AWS CLI installed; or leave the two upload units out.",
			"systemctl daemon-reload && systemctl enable --now imdsctl-trace.service imdsctl-trace-upload.timer",
		}
	case "ssm":
		names = []string{"ssm.json"}
		steps = []string{
			"aws ssm create-document --name imdsctl-trace --document-type Command --document-format JSON --content file://ssm.json",
			"aws ssm send-command --document-name imdsctl-trace --targets Key=tag:app,Values=billing --max-concurrency 10% " +
				"--parameters Duration=24h,S3Uri=" + v.S3,
			"Where imdsctl is not installed, give ProgramUrl and ProgramSha256 as well; nothing is downloaded otherwise.",
			"Give the instances' role s3:PutObject below " + v.S3 + "/.",
		}
	case "ecs":
		names = []string{"task-definition.json", "service.json"}
		steps = []string{
			"aws ecs register-task-definition --cli-input-json file://task-definition.json",
			"aws ecs create-service --cli-input-json file://service.json",
			"Give the task's role s3:PutObject below " + v.S3 + "/. Fargate has no hosts of yours: there nothing calls an instance's service.",
			"ECS knows no CAP_BPF and no CAP_PERFMON: SYS_ADMIN stands for both. The containers are not privileged.",
			"Hosts before Linux 5.9, such as Amazon Linux 2 with 4.14, have the tier packets alone: add NET_RAW.",
		}
	case "kubernetes":
		names = []string{"kubernetes.yaml"}
		steps = []string{
			"kubectl apply -f kubernetes.yaml",
			"aws eks create-pod-identity-association --cluster-name CLUSTER --namespace imdsctl --service-account imdsctl-trace --role-arn ROLE, " +
				"with a role that has s3:PutObject below " + v.S3 + "/; or annotate the service account for IRSA.",
			"Bottlerocket: add `seLinuxOptions: {type: super_t}` to the security context of the container trace.",
		}
	}
	d := Deployment{Steps: append(steps, "imdsctl evidence import "+v.S3+"/")}
	for _, name := range names {
		text, err := v.fill(name)
		if err != nil {
			return Deployment{}, err
		}
		d.Files = append(d.Files, File{name, text})
	}
	return d, nil
}

// fill fills in one manifest.
func (v values) fill(name string) (string, error) {
	t := template.New(name).Option("missingkey=error")
	if name == "ssm.json" { // in which {{ }} is Systems Manager's
		t = t.Delims("[[", "]]")
	}
	t, err := t.ParseFS(templates, "templates/"+name)
	if err != nil {
		return "", fmt.Errorf("manifest %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, v); err != nil {
		return "", fmt.Errorf("manifest %s: %w", name, err)
	}
	return b.String(), nil
}

// values checks the options.
func (o Options) values(target string) (values, error) {
	if !slices.Contains(Targets(), target) {
		return values{}, fmt.Errorf("%q is nothing that imdsctl can be deployed to: want %s", target, strings.Join(Targets(), ", "))
	}
	v := values{S3: strings.TrimRight(o.S3, "/"), For: "24h", Every: "1h", Image: o.Image, AWSImage: o.AWSImage, Program: o.Program, Cluster: o.Cluster,
		TaskRole: o.TaskRole, ExecutionRole: o.ExecutionRole, List: o.Flags}
	for _, d := range []struct {
		to            *string
		what, instead string
		pattern       *regexp.Regexp
	}{
		{&v.S3, "an address in S3", "s3://example-bucket/traces", s3Pattern},
		{&v.Image, "an image", "REGISTRY/imdsctl:VERSION", imagePattern},
		{&v.AWSImage, "an image", "public.ecr.aws/aws-cli/aws-cli:latest", imagePattern},
		{&v.Program, "the path of a program", "/usr/local/bin/imdsctl", pathPattern},
		{&v.Cluster, "a cluster", "CLUSTER", wordPattern},
		{&v.TaskRole, "a role", "arn:aws:iam::ACCOUNT:role/imdsctl-trace", wordPattern},
		{&v.ExecutionRole, "a role", "arn:aws:iam::ACCOUNT:role/ecsTaskExecutionRole", wordPattern},
	} {
		if *d.to == "" {
			*d.to = d.instead
		} else if !d.pattern.MatchString(*d.to) {
			return values{}, fmt.Errorf("%q is not %s", *d.to, d.what)
		}
	}
	for _, f := range o.Flags {
		if !flagPattern.MatchString(f) {
			return values{}, fmt.Errorf("%q is no flag that can be written into a manifest", f)
		}
	}
	for _, d := range []struct {
		to   *string
		from time.Duration
	}{{&v.For, o.For}, {&v.Every, o.Every}} {
		if d.from != 0 {
			if d.from < time.Minute || d.from%time.Minute != 0 {
				return values{}, fmt.Errorf("%s is no number of minutes", d.from)
			}
			*d.to = fmt.Sprintf("%dm", d.from/time.Minute)
			if d.from%time.Hour == 0 {
				*d.to = fmt.Sprintf("%dh", d.from/time.Hour)
			}
		}
	}
	return v, nil
}
