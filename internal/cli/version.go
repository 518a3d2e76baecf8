package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is this build's version: the module's, as the Go tool stamped it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this build", GroupID: groupSetup, Args: cobra.NoArgs,
		Annotations: formats("table json"),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Format   int    `json:"imdsctl_version"`
				Version  string `json:"version"`
				Commit   string `json:"commit,omitempty"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{jsonVersion, Version(), commit(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if s.format == "json" {
				return writeJSON(s.env.Out, v)
			}
			fmt.Fprintf(s.env.Out, "imdsctl %s %s (%s", v.Version, v.Platform, v.Go)
			if v.Commit != "" {
				fmt.Fprintf(s.env.Out, ", commit %s", v.Commit)
			}
			fmt.Fprintln(s.env.Out, ")")
			return nil
		},
	}
}

func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
