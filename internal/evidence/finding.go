package evidence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Sources of findings.
const (
	// SourceCloudTrail is CloudTrail's log files: which calls were made with credentials that v1 delivered.
	SourceCloudTrail Source = "cloudtrail"
	// SourceLookup is CloudTrail's LookupEvents, which gives samples: what it shows is true, what it does not show means nothing.
	SourceLookup Source = "cloudtrail-lookup"
	// SourceSoftware is what was found installed, or written, in a file system, an image or a bill of materials.
	SourceSoftware Source = "software"
	// SourceTrace is a tracer on a host.
	SourceTrace Source = "trace"
	// SourceCertify is a program's run against a local metadata service.
	SourceCertify Source = "certify"
)

// What says what was found.
type What string

// What can be found.
const (
	// WhatV1Call: a program called the metadata service as v1. Count is calls.
	WhatV1Call What = "v1-call"
	// WhatV1Credentials: calls to AWS were made with credentials that v1 delivered. Count is calls to AWS, not to the service.
	WhatV1Credentials What = "v1-credentials"
	// WhatV2Credentials: the same with credentials that v2 delivered.
	WhatV2Credentials What = "v2-credentials"
	// WhatSoftware: software is there. Nothing tells whether it runs.
	WhatSoftware What = "software"
	// WhatRawCall: a script or a program's source calls the service itself, without a token.
	WhatRawCall What = "raw-call"
	// WhatCertified: the program works where only v2 is answered. WhatRefused: it does not.
	WhatCertified What = "certified"
	WhatRefused   What = "not-certified"
)

// Calls tells whether the finding is of v1 calls that were made: what blocks.
func (w What) Calls() bool { return w == WhatV1Call || w == WhatV1Credentials }

// Finding is what a source other than a metric saw of a subject. Findings of calls are counted by day.
type Finding struct {
	Subject Subject `json:"subject,omitzero"`
	Source  Source  `json:"source,omitempty"`
	What    What    `json:"what"`
	// Product is an id of internal/product, and Version what it said of itself; empty where they are not known.
	Product string `json:"product,omitempty"`
	Version string `json:"version,omitempty"`
	// Detail is what a person looks for: a user agent, a path with its line, a process.
	Detail string `json:"detail,omitempty"`
	// Count is calls; 0 for what is not counted.
	Count int64 `json:"count,omitempty"`
	// First and Last bound what was seen, Last at most a day after First where calls are counted.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// HopLimit is, of a certification, the least hop limit with which it passes.
	HopLimit int `json:"hop_limit,omitempty"`
	// Origin says where the finding comes from: a file, a bucket, a host.
	Origin string `json:"origin,omitempty"`
	// Sample: it comes from a sample, or from a source that lost events. It is true, and says nothing of what is not in it.
	Sample bool `json:"sample,omitempty"`
}

// CompareFindings orders findings by all that tells them apart, so that a judgement does not depend on how they were gathered.
func CompareFindings(a, b Finding) int {
	sample := func(f Finding) int {
		if f.Sample {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(a.Subject.Kind, b.Subject.Kind), cmp.Compare(a.Subject.ID, b.Subject.ID),
		cmp.Compare(a.Subject.Account, b.Subject.Account), cmp.Compare(a.Subject.Region, b.Subject.Region),
		cmp.Compare(a.Source, b.Source), cmp.Compare(a.What, b.What), cmp.Compare(a.Product, b.Product),
		cmp.Compare(a.Version, b.Version), cmp.Compare(a.Detail, b.Detail), cmp.Compare(a.Origin, b.Origin),
		cmp.Compare(a.HopLimit, b.HopLimit), a.First.Compare(b.First), a.Last.Compare(b.Last), cmp.Compare(a.Count, b.Count), sample(a)-sample(b))
}

// Subject is what a finding is about: a resource of the inventory by its kind and id, or all that have something in common.
type Subject struct {
	// Account and Region restrict it; empty means any.
	Account fleet.AccountID `json:"account,omitempty"`
	Region  fleet.Region    `json:"region,omitempty"`
	// Kind is a kind of the inventory, or one of the Subject kinds below.
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Kinds of subjects that are no kinds of the inventory.
const (
	SubjectRole    = "role"    // ID is the role's name, the instance profile's, or the ARN of either
	SubjectTag     = "tag"     // ID is "key=value"
	SubjectAccount = "account" // ID is the account's
	SubjectFleet   = "fleet"   // everything; ID is "*"
)

// subjectWords are short words for kinds, for people.
var subjectWords = map[string]string{
	"instance": inventory.KindInstance, "image": inventory.KindImage, "group": inventory.KindAutoScaling,
	"template": inventory.KindLaunchTemplate,
}

// ParseSubject reads "instance/i-0abc", "ami/ami-0abc", "group/web", "template/lt-0abc", "role/name", "tag/app=billing" or
// "account/111122223333"; a kind of the inventory may stand before the slash as well. An id alone is recognised by its prefix.
func ParseSubject(text string) (Subject, error) {
	kind, id, ok := strings.Cut(text, "/")
	if strings.HasPrefix(text, "arn:") {
		kind, id, ok = SubjectRole, text, true
	}
	if !ok {
		switch {
		case strings.HasPrefix(text, "i-"):
			kind, id = inventory.KindInstance, text
		case strings.HasPrefix(text, "ami-"):
			kind, id = inventory.KindImage, text
		case strings.HasPrefix(text, "lt-"):
			kind, id = inventory.KindLaunchTemplate, text
		default:
			return Subject{}, fmt.Errorf("%q names no subject: write kind/id, such as instance/i-0123456789abcdef0, group/web, "+
				"ami/ami-0123456789abcdef0, role/name, tag/key=value or account/111122223333", text)
		}
	}
	if word, short := subjectWords[kind]; short {
		kind = word
	}
	s := Subject{Kind: kind, ID: id}
	switch {
	case kind == "" || id == "":
		return Subject{}, fmt.Errorf("%q names no subject: both the kind and the id are needed", text)
	case kind == SubjectTag && !strings.Contains(id, "="):
		return Subject{}, fmt.Errorf("%q names no subject: a tag is written tag/key=value", text)
	case kind == SubjectAccount:
		s.Account = fleet.AccountID(id)
	}
	return s, nil
}

// String is what ParseSubject reads, without account and region.
func (s Subject) String() string {
	if s.Kind == SubjectRole && strings.HasPrefix(s.ID, "arn:") {
		return s.ID
	}
	return s.Kind + "/" + s.ID
}

// Covers tells whether a resource is the subject, or one of those that it is about. roles gives the names and ARNs of a resource's
// role and instance profile; it may be nil.
func (s Subject) Covers(r *inventory.Resource, roles func(*inventory.Resource) []string) bool {
	if s.Account != "" && s.Account != r.Ref.Place.Account || s.Region != "" && s.Region != r.Ref.Place.Region {
		return false
	}
	switch s.Kind {
	case SubjectFleet, SubjectAccount:
		return true
	case SubjectTag:
		key, value, _ := strings.Cut(s.ID, "=")
		have, ok := r.Tags[key]
		return ok && have == value
	case SubjectRole:
		return roles != nil && slices.Contains(roles(r), s.ID)
	case r.Ref.Kind:
		if r.Ref.ID == s.ID || r.Name == s.ID {
			return true
		}
	case inventory.KindImage:
		for key, image := range r.Attrs {
			if image == s.ID && (key == inventory.AttrImage || strings.HasPrefix(key, inventory.AttrImage+"/")) {
				return true
			}
		}
	}
	return slices.ContainsFunc(r.Links, func(l inventory.Link) bool {
		switch l.Relation {
		case inventory.MemberOf, inventory.LaunchedFrom, inventory.LaunchesFrom:
			return l.To.Kind == s.Kind && l.To.ID == s.ID
		}
		return false
	})
}

// Import is one taking-in of findings from outside.
type Import struct {
	ID int64 `json:"id"`
	// At is when it was taken in, Made when its source was read.
	At     time.Time `json:"at"`
	Made   time.Time `json:"made,omitzero"`
	Source Source    `json:"source"`
	// Origin is where it came from: a path or an address. Of two imports of a source's software or certifications with one origin
	// and subject, only the later holds.
	Origin string `json:"origin"`
	// Subject is what it tells of, where that is one thing: an import of software without findings says that there is nothing.
	Subject Subject `json:"subject,omitzero"`
	// By is who took it in.
	By string `json:"by,omitempty"`
	// From and To bound the time that the source tells of; zero where it tells of a moment.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Files were read, Known were left out because an earlier import had them, Records were read of them, Skipped is what could not
	// be understood, and Findings were kept.
	Files    int64 `json:"files"`
	Known    int64 `json:"known_files"`
	Records  int64 `json:"records"`
	Skipped  int64 `json:"skipped"`
	Findings int64 `json:"findings"`
	// Sample: what it does not show means nothing.
	Sample bool `json:"sample,omitempty"`
	// Lost says that the source lost events, and why; such an import never says that nothing was there.
	Lost string `json:"lost,omitempty"`
	// Notes are for people: what was skipped, and where.
	Notes []string `json:"notes,omitempty"`
	// ReplacedBy is the later import that holds in place of all of this one; 0 where this one holds.
	ReplacedBy int64 `json:"replaced_by,omitempty"`
}
