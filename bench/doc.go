// Package bench measures imdsctl at the sizes it is made for. It holds benchmarks only, and nothing that a command uses.
//
// The simulated AWS, the scan and what they are compared with run in processes of their own (this test binary, started
// again with a role), so that memory and processor time are those of one thing. Times are reported, never asserted, beside
// a floor measured in the same run. What does not depend on the machine is asserted: the number of AWS calls against what
// the page sizes require, the memory against the bar, and that a rollout makes each change once and no call that AWS
// refuses for its rate.
//
//	IMDSCTL_BENCH_INSTANCES=100000  the size; the larger fleet has ten times as many, and is left out with -short
//	IMDSCTL_BENCH_CHANGES=10000     a further size of the rollouts without AWS, and twice the size of those with it
//	IMDSCTL_BENCH_PROFILE=DIR       CPU and heap profiles of each process, for go tool pprof
package bench
