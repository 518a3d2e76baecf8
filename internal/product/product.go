// Package product knows the software that calls the metadata service: SDKs, command lines, agents, credential proxies and
// appliances; by which names package managers, user agents and marketplaces know it; and which version of it first speaks IMDSv2.
//
// It owns that table (versions.yaml, each entry with its source) and the reading of user agents. It is pure: it looks at names and
// versions only, never at files.
package product

// ID names a product in findings and in the configuration: "botocore".
type ID string

// Class is what sort of software it is.
type Class string

// Classes.
const (
	ClassSDK       Class = "sdk"
	ClassCLI       Class = "cli"
	ClassAgent     Class = "agent"     // runs beside the workload: SSM agent, Datadog
	ClassTool      Class = "tool"      // terraform, packer, s3cmd: calls with an SDK of its own
	ClassProxy     Class = "proxy"     // stands between containers and the service: kube2iam
	ClassAppliance Class = "appliance" // a vendor's machine image
	ClassSystem    Class = "system"    // of an operating system: cloud-init, ec2-net-utils
)

// Judgement says whether a version speaks v2.
type Judgement string

// Judgements.
const (
	// Speaks: it asks for tokens, and falls back to v1 only where it gets none.
	Speaks Judgement = "speaks-v2"
	// Able: it can, and tries v1 first or has to be told: the calls that it makes are v1.
	Able Judgement = "able"
	// Old: it knows only v1, and a later version speaks v2.
	Old Judgement = "old"
	// NoFix: no version of it speaks v2.
	NoFix Judgement = "no-fixed-version"
	// Unclear: its version is not known, or the table does not know the product.
	Unclear Judgement = "unclear"
)

// Verdict is what the table says of one version of a product.
type Verdict struct {
	Judgement Judgement `json:"judgement"`
	// First is the first version of its line that speaks v2; empty where there is none or it is not known.
	First string `json:"first,omitempty"`
	// Fix is what to do, in a sentence; Source the address of what the table rests on.
	Fix    string `json:"fix,omitempty"`
	Source string `json:"source,omitempty"`
}
