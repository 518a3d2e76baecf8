package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Variables by which this binary tells its children what to do.
const (
	envRole     = "IMDSCTL_BENCH_ROLE"
	envJob      = "IMDSCTL_BENCH_JOB"
	envProfile  = "IMDSCTL_BENCH_PROFILE"
	envSize     = "IMDSCTL_BENCH_INSTANCES"
	envChanges  = "IMDSCTL_BENCH_CHANGES"
	defaultSize = 100_000
)

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := scanned.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// job is what a child is told; each role reads its part.
type job struct {
	Instances int
	Accounts  int
	Endpoint  string
	Database  string
	Plan      string // its file
	// Limited keeps to AWS's limits for calls, by waiting.
	Limited bool
	Fleet   fleetShape
	// Metrics has the floor read CloudWatch as well.
	Metrics bool
	// Changes, StackSize and Store are those of a rollout without AWS; Scratch is a directory on the disk that is measured.
	Changes, StackSize int
	Store, Scratch     string
}

// play is the child's part.
func play(role string) error {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(envJob)), &j); err != nil {
		return err
	}
	parts := map[string]func(job) (any, error){
		"scan": scanFleet, "pages": readPages, "plan": planFleet, "judge": judgeFleet, "store": storeFleet,
		"engine": runEngine, "floor": runFloor, "prepare": prepareRollout, "apply": applyPlan, "work": workOn,
		"rehearse": rehearsePlan,
	}
	if role == "sim" {
		return serveFleet(j)
	}
	stop, err := profile(role)
	if err != nil {
		return err
	}
	result, err := parts[role](j)
	if err := stop(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// profile writes profiles of this process where the environment asks for them.
func profile(role string) (stop func() error, err error) {
	dir := os.Getenv(envProfile)
	if dir == "" {
		return func() error { return nil }, nil
	}
	name := filepath.Join(dir, role+"-"+strconv.Itoa(os.Getpid()))
	cpu, err := os.Create(name + ".cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		if err := cpu.Close(); err != nil {
			return err
		}
		heap, err := os.Create(name + ".heap")
		if err != nil {
			return err
		}
		defer heap.Close()
		return pprof.Lookup("allocs").WriteTo(heap, 0)
	}, nil
}

// usage is what a process has used so far.
type usage struct {
	Wall time.Duration
	CPU  time.Duration // of user and system
	Peak float64       // greatest resident size, MiB; 0 where the system does not tell
}

// child is a role that runs in a process of its own.
func child(tb testing.TB, role string, j job, extra ...string) *exec.Cmd {
	tb.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		tb.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), exe)
	cmd.Env = append(os.Environ(), envRole+"="+role, envJob+"="+string(text))
	cmd.Env = append(cmd.Env, extra...)
	cmd.Stderr = os.Stderr
	return cmd
}

// perform plays a role to its end, and reads what it found.
func perform[T any](tb testing.TB, role string, j job, extra ...string) (T, time.Duration) {
	tb.Helper()
	var out bytes.Buffer
	cmd := child(tb, role, j, extra...)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		tb.Fatalf("%s: %v", role, err)
	}
	var result T
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		tb.Fatalf("%s said %q: %v", role, out.String(), err)
	}
	return result, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// simulator is a simulated AWS in its own process.
type simulator struct {
	fleetShape
	cmd      *exec.Cmd
	stdin    io.Closer
	Endpoint string
	Built    time.Duration
}

// simulate starts a simulated AWS that ends with the test.
func simulate(tb testing.TB, j job) *simulator {
	tb.Helper()
	cmd := child(tb, "sim", j)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	s := &simulator{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, s)
	}
	if err != nil {
		tb.Fatalf("the simulator said %q: %v", line, err)
	}
	return s
}

// stop ends the simulator, and waits until its memory is free again.
func (s *simulator) stop(tb testing.TB) {
	tb.Helper()
	if err := s.stdin.Close(); err != nil {
		tb.Error(err)
	}
	if err := s.cmd.Wait(); err != nil {
		tb.Errorf("the simulator: %v", err)
	}
}

// used is the simulator's processor time so far, and its greatest resident size.
func (s *simulator) used() usage { return usageOf(strconv.Itoa(s.cmd.Process.Pid)) }

// usageOf reads what Linux tells of a process; elsewhere all is zero.
func usageOf(pid string) usage {
	var u usage
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			u.Peak = kb / 1024
		}
	}
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return u
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after) // from the third on; 14 and 15 are user and system time in hundredths of a second
	if len(fields) > 12 {
		for _, f := range fields[11:13] {
			ticks, _ := strconv.Atoi(f)
			u.CPU += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return u
}

// measured tells what this process used since begun.
func measured(begun time.Time) usage {
	u := usageOf("self")
	u.Wall = time.Since(begun)
	return u
}

// size is how many instances the fleets have.
func size(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv(envSize)
	if text == "" {
		return defaultSize
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < accounts*regions {
		tb.Fatalf("%s=%q: want a number of at least %d", envSize, text, accounts*regions)
	}
	return n
}

// machine describes what the numbers were measured on.
func machine() string {
	return fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
