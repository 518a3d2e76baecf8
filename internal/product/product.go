// Package product knows the software that calls the metadata service: SDKs, command lines, agents, credential proxies and
// appliances; by which names package managers, user agents and marketplaces know it; and which version of it first speaks IMDSv2.
//
// It owns that table (versions.yaml, each entry with its source; docs/products.md is written from it) and the reading of user
// agents. It is pure: it looks at names and versions only, never at files, and imports nothing of ours.
//
// Three questions are answered. What is this package, and does its version speak v2: ByPackage, then Judge. Who made this call:
// ParseAgent names everybody that a user agent mentions, and JudgeAgent says whose version decides. Is this image a vendor's:
// Appliance. What is not known is never guessed: an unknown product, an unreadable version and a product without a documented
// first version are all Unclear.
//
// User agents are read in the forms that AWS's SDKs have used. The old one is a product a word, with comments in parentheses:
// "Boto3/1.9.2 Python/2.7.16 Linux/4.14 Botocore/1.12.2", "aws-sdk-go/1.25.1 (go1.13; linux; amd64) amazon-ssm-agent/2.3.7". The
// new one has pairs in front of which stands what they are: "Boto3/1.28.2 md/Botocore#1.31.2 ua/2.0 os/linux#5.10 app/billing".
// CloudTrail puts brackets around what its own consoles and services sent, and gives services that call for somebody by their
// domain name: "autoscaling.amazonaws.com". Matching ignores case, because SDKs wrote their own names both ways.
package product

import "time"

// ID names a product in findings and in the configuration: "botocore".
type ID string

// Class is what sort of software it is.
type Class string

// Classes.
const (
	ClassSDK       Class = "sdk"
	ClassCLI       Class = "cli"
	ClassAgent     Class = "agent"     // runs beside the workload: SSM agent, Datadog
	ClassTool      Class = "tool"      // terraform, packer, s3cmd: calls with an SDK of its own; also raw HTTP clients, such as curl
	ClassProxy     Class = "proxy"     // stands between containers and the service: kube2iam
	ClassAppliance Class = "appliance" // a vendor's machine image
	ClassSystem    Class = "system"    // of an operating system: cloud-init, ec2-net-utils
	ClassService   Class = "service"   // AWS itself, calling for somebody: no software on an instance
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

// Product is one entry of the table.
type Product struct {
	ID    ID     `json:"id"`
	Name  string `json:"name"` // for people: "AWS SDK for Go v1"
	Class Class  `json:"class"`
	// Packages are its names where packages are managed.
	Packages []Package `json:"packages,omitempty"`
	// Agents are the words by which it calls itself in user agents.
	Agents []Agent `json:"agents,omitempty"`
	// Raw is an HTTP client. SDKs name the one below them, so it is mentioned only where a user agent names nobody else.
	Raw bool `json:"raw,omitempty"`
	// Through are the SDKs that make its calls to the metadata service: where one of them is known as well, its version decides.
	Through []ID `json:"through,omitempty"`
	// Lines are its lines of versions, oldest first. None: no first version is known.
	Lines []Line `json:"lines,omitempty"`
	// Image says how its machine images are told; nil for what is no image.
	Image *Image `json:"image,omitempty"`
	// Fix is what to do about a version that does not speak v2, in a sentence.
	Fix string `json:"fix,omitempty"`
	// Source is the address of what the entry rests on.
	Source string `json:"source,omitempty"`
	// Note is what a reader of the table should know besides.
	Note string `json:"note,omitempty"`
}

// Package is a name in an ecosystem, both as package URLs have them: "pypi" and "boto3", "maven" and "group:artifact".
type Package struct {
	Ecosystem string `json:"ecosystem"`
	Name      string `json:"name"`
}

// Agent is a word of user agents. Products of two generations share one, and are told apart by the version.
type Agent struct {
	// Token is what stands before the version: "aws-sdk-java". It may end in "*", for the rest of a word.
	Token string `json:"token"`
	// From and Below bound the versions that are meant; empty means unbounded.
	From  string `json:"from,omitempty"`
	Below string `json:"below,omitempty"`
}

// Line is a line of versions that goes its own way, such as a major version.
type Line struct {
	// From is where the line begins; empty in the first.
	From string `json:"from,omitempty"`
	// Able is the first version that can speak v2 and does not by itself; empty where there is none such.
	Able string `json:"able,omitempty"`
	// First is the first version that speaks v2 by itself; "0" where all do. Empty: none of the line does.
	First string `json:"first,omitempty"`
	// Unclear: nobody says which version of the line is the first.
	Unclear bool `json:"unclear,omitempty"`
}

// Image tells a vendor's machine images. One of the product codes is enough; without, the owner (where any are given) and the
// name must both fit.
type Image struct {
	Codes []string `json:"product_codes,omitempty"`
	// Owners are account ids or AWS's aliases, such as "amazon" and "aws-marketplace".
	Owners []string `json:"owners,omitempty"`
	// Names are patterns: "*" stands for anything, and "{version}" for the version.
	Names []string `json:"names,omitempty"`
	// OldBefore: images made earlier know only v1, or hold software that does. Zero where nothing is known of age.
	OldBefore time.Time `json:"old_before,omitzero"`
	// OnlyOlder: images made since are not meant, and neither are those of which it is not known when they were made.
	OnlyOlder bool `json:"only_older,omitempty"`
}

// Verdict is what the table says of one version of a product.
type Verdict struct {
	Judgement Judgement `json:"judgement"`
	// First is the first version of its line that speaks v2; empty where there is none or it is not known.
	First string `json:"first,omitempty"`
	// Fix is what to do, in a sentence; Source the address of what the table rests on.
	Fix    string `json:"fix,omitempty"`
	Source string `json:"source,omitempty"`
}

// Mention is one piece of software that a user agent names.
type Mention struct {
	Product ID     `json:"product"`
	Version string `json:"version,omitempty"`
	Token   string `json:"token"` // as it stands there: "Boto3/1.9.2"
}
