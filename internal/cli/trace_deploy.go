package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/tracer/deploy"
)

func (s *session) traceDeployCommand() *cobra.Command {
	var o deploy.Options
	var dir, length, every string
	var v1Only bool
	cmd := &cobra.Command{
		Use: "deploy systemd|ssm|ecs|kubernetes", Short: "Print what runs the tracer on many hosts: units, an SSM document, a daemon", Args: cobra.ExactArgs(1),
		Long: `Prints a systemd unit, a document of Systems Manager, a task definition of ECS, or a DaemonSet of Kubernetes, none of
them privileged, each with the sending of finished trace files to S3 by the AWS CLI. How it is used is told on standard
error. With --out all files are written, such as units for the sending and the ECS service. Nothing is installed, and no
AWS call is made.`,
		Example: `  imdsctl trace deploy systemd --s3 s3://example-bucket/traces --out units
  imdsctl trace deploy kubernetes --image REGISTRY/imdsctl:1.0 --s3 s3://example-bucket/traces | kubectl apply -f -`,
		ValidArgs: deploy.Targets(),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			if o.For, err = lasting("--for", length); err != nil {
				return err
			}
			if o.Every, err = lasting("--every", every); err != nil {
				return err
			}
			if v1Only {
				o.Flags = append(o.Flags, "--v1-only")
			}
			d, err := deploy.Render(args[0], o)
			if err != nil {
				return misuse("", "See `imdsctl trace deploy --help`.", "%v", err)
			}
			return s.traceDeploy(d, dir)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.S3, "s3", "", "where trace files go: `s3://bucket/prefix`")
	f.StringVar(&length, "for", "", "how `long` the SSM command traces (24h)")
	f.StringVar(&every, "every", "", "how `often` a file is finished, to be sent (1h)")
	f.StringVar(&o.Image, "image", "", "the `image` with imdsctl, for ECS and Kubernetes")
	f.StringVar(&o.AWSImage, "aws-image", "", "an `image` with the AWS CLI and a shell")
	f.StringVar(&o.Program, "program", "", "the `path` of imdsctl on the hosts (/usr/local/bin/imdsctl)")
	f.StringVar(&o.Cluster, "cluster", "", "the ECS `cluster`")
	f.StringVar(&o.TaskRole, "task-role", "", "`ARN` of the ECS task's role")
	f.StringVar(&o.ExecutionRole, "execution-role", "", "`ARN` of the ECS agent's role for the task")
	f.BoolVar(&v1Only, "v1-only", false, "write no lines of calls of version 2")
	f.StringVar(&dir, "out", "", "write all files into this new `folder`")
	return cmd
}

func (s *session) traceDeploy(d deploy.Deployment, dir string) error {
	if dir != "" {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write manifests: %w", err)
		}
		for _, f := range d.Files {
			if err := writeNew(filepath.Join(dir, f.Name), f.Text); err != nil {
				return err
			}
			fmt.Fprintln(s.env.Out, filepath.Join(dir, f.Name))
		}
	} else {
		fmt.Fprint(s.env.Out, d.Files[0].Text)
	}
	if s.quiet {
		return nil
	}
	if rest := d.Files[1:]; dir == "" && len(rest) > 0 {
		var names []string
		for _, f := range rest {
			names = append(names, f.Name)
		}
		fmt.Fprintln(s.env.Err, s.err.wrap("With --out FOLDER there are also "+strings.Join(names, " and ")+".", ""))
	}
	for i, step := range d.Steps {
		fmt.Fprintln(s.env.Err, s.err.labelled(fmt.Sprintf("%d. ", i+1), step))
	}
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
