package attention

import "slices"

// Cause is why a workload needs work, as a code for filters and tests.
type Cause string

// Causes, in the order in which they are listed.
const (
	OldSDK          Cause = "old-sdk"
	FallsBack       Cause = "falls-back"
	HopLimitLow     Cause = "hop-limit-low"
	RawCall         Cause = "raw-call"
	CredentialProxy Cause = "credential-proxy"
	Appliance       Cause = "appliance"
	OldImage        Cause = "old-image"
	NotCertified    Cause = "not-certified"
	ScheduledCaller Cause = "scheduled-caller"
	BootCaller      Cause = "boot-caller"
	UnknownCaller   Cause = "unknown-caller"
	SSMAgent        Cause = "ssm-agent"
	OtherAgent      Cause = "other-agent"
	LaunchRefused   Cause = "launch-refused"
	LaunchAllowsV1  Cause = "launch-allows-v1"
	ExceptionOver   Cause = "exception-expired"
	ExceptionEnding Cause = "exception-expiring"
	Managed         Cause = "managed"
	HopLimitHigh    Cause = "hop-limit-high"
	NoMetric        Cause = "no-metric"
	NoDatapoint     Cause = "no-datapoint"
	NotCovered      Cause = "not-covered"
	NoBoot          Cause = "no-boot"
	ScheduleOpen    Cause = "schedule-not-seen"
	Unresolved      Cause = "unresolved-source"
	Gap             Cause = "gap"
	CodeDrift       Cause = "code-drift"
)

// Causes lists all causes in order, each with what it means.
func Causes() []CauseInfo {
	return []CauseInfo{
		{OldSDK, "an SDK, a command line or a tool that knows only IMDSv1, or tries it first"},
		{FallsBack, "an SDK that speaks IMDSv2 and still got its credentials by IMDSv1"},
		{HopLimitLow, "containers whose token does not reach them, because the hop limit is too low"},
		{RawCall, "a script or a program that calls the metadata service by hand, without a token"},
		{CredentialProxy, "a proxy between containers and the metadata service (kube2iam, kiam) that speaks IMDSv1"},
		{Appliance, "a vendor's machine image whose software calls IMDSv1"},
		{OldImage, "an image so old that its own tools may call IMDSv1"},
		{NotCertified, "a program that did not pass where only IMDSv2 is answered"},
		{ScheduledCaller, "a caller that nobody named, at set times"},
		{BootCaller, "a caller that nobody named, when instances boot"},
		{UnknownCaller, "a caller that nobody named"},
		{SSMAgent, "calls of an old SSM agent, apart from those of the application"},
		{OtherAgent, "calls of another agent that runs beside the application"},
		{LaunchRefused, "launches that EC2 refuses, because they would allow IMDSv1 where that is forbidden"},
		{LaunchAllowsV1, "instances that require tokens, in a group whose next launch would not"},
		{ExceptionOver, "an exception that has expired"},
		{ExceptionEnding, "an exception that expires soon"},
		{Managed, "a setting that belongs to a service, and is changed there"},
		{HopLimitHigh, "a hop limit above what the containers on the host need, which nobody lowers"},
		{NoMetric, "hosts whose IMDSv1 calls AWS does not count"},
		{NoDatapoint, "hosts of which the metric shows nothing"},
		{NotCovered, "hosts of which too little of the window was seen"},
		{NoBoot, "hosts that did not boot inside the evidence"},
		{ScheduleOpen, "hosts whose calls come by a schedule of which no full period was quiet yet"},
		{Unresolved, "a launch whose source is not known"},
		{Gap, "something that could not be read"},
		{CodeDrift, "infrastructure as code that would change a setting back"},
	}
}

// CauseInfo is a cause with what it means.
type CauseInfo struct {
	Cause   Cause
	Meaning string
}

// ParseCause finds a cause by its code.
func ParseCause(code string) (Cause, bool) {
	return Cause(code), Cause(code).rank() >= 0
}

// rank is a cause's place in the list; below 0 for what is none.
func (c Cause) rank() int {
	return slices.IndexFunc(Causes(), func(i CauseInfo) bool { return i.Cause == c })
}

// noise tells agents that run beside the workload from the workload itself.
func (c Cause) noise() bool { return c == SSMAgent || c == OtherAgent }
