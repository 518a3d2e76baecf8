package cli_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/cli"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/demo"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/roles"
)

var update = flag.Bool("update", false, "write the golden files of the scripts anew")

// TestMain makes this test binary be imdsctl, and a few helpers, where a script runs them.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"imdsctl": imdsctl, "jsonpath": jsonpath})
}

// timeVariable carries the simulator's clock to the commands: the simulated time at an instant of the machine's, and
// the pace.
const timeVariable = "IMDSCTL_TEST_CLOCK"

// diskVariable makes the disk full once the database has so many pages.
const diskVariable = "IMDSCTL_TEST_DISK_PAGES"

// imdsctl is the command as main runs it, but on the simulator's clock, and with an engine that is told how fast it
// runs.
func imdsctl() {
	env := cli.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	if v := os.Getenv(timeVariable); v != "" {
		var simulated, machine int64
		var pace float64
		if _, err := fmt.Sscanf(v, "%d %d %g", &simulated, &machine, &pace); err != nil {
			panic(err)
		}
		since := time.Duration(float64(time.Since(time.Unix(0, machine))) * pace)
		env.Base.Clock = clock.Scaled(time.Unix(0, simulated).Add(since), pace)
		env.Base.Engine = app.EngineOptions{
			CallTimeout: 12 * time.Hour, VerifyTimeout: 12 * time.Hour, Consistency: time.Minute, PollInterval: time.Minute,
		}
	}
	if v := os.Getenv(diskVariable); v != "" {
		pages, err := strconv.Atoi(v)
		if err != nil {
			panic(err)
		}
		env.Base.DatabasePages = pages
	}
	if v := os.Getenv(traceVariable); v != "" {
		env.Base.Tracer = &scriptTracer{file: v}
	}
	env.Base.Actor = "alice"
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := cli.Run(ctx, env, os.Args[1:])
	stop()
	os.Exit(code)
}

// jsonpath reads JSON on standard input and prints what stands at a path such as .stacks.0.name; it fails on anything
// else than one whole document.
func jsonpath() {
	dec := json.NewDecoder(os.Stdin)
	var v any
	err := dec.Decode(&v)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = fmt.Errorf("more than one document")
		}
	}
	for part := range strings.SplitSeq(strings.Trim(os.Args[1], "."), ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[part]
		case []any:
			if part == "length" {
				v = len(at)
				continue
			}
			i, atoi := strconv.Atoi(part)
			if atoi != nil || i >= len(at) {
				err = fmt.Errorf("no element %s of %d", part, len(at))
				v = nil
				continue
			}
			v = at[i]
		default:
			v = nil
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(v)
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("NO_COLOR", "1")
			env.Setenv("AWS_CONFIG_FILE", filepath.Join(env.WorkDir, "none"))
			env.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(env.WorkDir, "none"))
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			env.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1") // nothing listens: no test may reach AWS
			env.Setenv("AWS_REGION", "eu-west-1")
			config, err := os.ReadFile("testdata/imdsctl.yaml")
			if err != nil {
				return err
			}
			env.Values["seed"], err = os.ReadFile("testdata/seed.json")
			if err != nil {
				return err
			}
			expires := time.Now().AddDate(0, 6, 0).Format(time.DateOnly)
			config = []byte(strings.ReplaceAll(string(config), "EXPIRES", expires))
			return os.WriteFile(filepath.Join(env.WorkDir, "imdsctl.yaml"), config, 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sim": simulate, "serve": serve, "post": post, "exitcode": exitcode, "capture": capture, "wide": wide,
			"change": change, "waitfor": waitfor, "hold": hold, "unwritten": unwritten,
		},
	})
}

// serve starts `imdsctl sim serve` with arguments, compares its first line with what it says, and makes it this
// script's AWS.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	out, in := io.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		env := cli.Env{In: strings.NewReader(""), Out: in, Err: io.Discard, Getenv: func(string) string { return "" }}
		ended <- cli.Run(ctx, env, append([]string{"sim", "serve"}, args...))
	}()
	var said struct {
		Format    int    `json:"imdsctl_sim"`
		Listening string `json:"listening"`
		Key       string `json:"access_key_id"`
		Accounts  int    `json:"accounts"`
	}
	ts.Check(json.NewDecoder(out).Decode(&said))
	if said.Format != 1 || !strings.HasPrefix(said.Listening, "http://127.0.0.1:") || said.Accounts == 0 {
		ts.Fatalf("the simulator says %+v", said)
	}
	ts.Defer(func() {
		stop()
		if code := <-ended; code != cli.ExitDone {
			ts.Fatalf("the simulator ended with %d", code)
		}
	})
	ts.Setenv("AWS_ENDPOINT_URL", said.Listening)
	ts.Setenv("AWS_ACCESS_KEY_ID", said.Key)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "dummy")
}

// simulate starts a simulator for the script: sim [pace N] [at MINUTE] [closed ACCOUNT] [seed FILE]. Its clock begins at the machine's
// time, or so many minutes after the full hour.
func simulate(ts *testscript.TestScript, _ bool, args []string) {
	pace, closed, seed := 1.0, "", ts.Value("seed").([]byte)
	start := time.Now().UTC() // AWS clients compare the server's clock with the machine's
	for len(args) > 1 {
		switch args[0] {
		case "pace":
			var err error
			pace, err = strconv.ParseFloat(args[1], 64)
			ts.Check(err)
		case "at":
			minute, err := strconv.Atoi(args[1])
			ts.Check(err)
			start = start.Truncate(time.Hour).Add(time.Duration(minute) * time.Minute)
		case "closed":
			closed = args[1]
		case "seed":
			seed = []byte(ts.ReadFile(args[1]))
		default:
			ts.Fatalf("sim: unknown option %s", args[0])
		}
		args = args[2:]
	}
	stage, err := demo.FromSeed(seed, start, pace)
	ts.Check(err)
	start, began := stage.Clock.Now(), time.Now() // on a busy machine its clock has begun a while ago
	for _, account := range stage.Summary.Accounts {
		if string(account) != closed {
			ts.Check(putRoles(stage, account))
		}
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() { defer close(served); _ = stage.Serve(ctx, l) }()
	ts.Defer(func() { stop(); <-served })
	ts.Setenv("AWS_ENDPOINT_URL", "http://"+l.Addr().String())
	ts.Setenv("AWS_ACCESS_KEY_ID", string(stage.Summary.Management))
	ts.Setenv("AWS_SECRET_ACCESS_KEY", "dummy")
	ts.Setenv(timeVariable, fmt.Sprintf("%d %d %g", start.UnixNano(), began.UnixNano(), pace))
}

// putRoles puts the roles that `imdsctl roles` prints into an account.
func putRoles(stage *demo.Stage, account fleet.AccountID) error {
	o := roles.Options{Principal: string(stage.Summary.Management), ExternalID: "secret-1",
		Management: account == stage.Summary.Management}
	list, err := roles.Build(app.Kinds(), o, roles.Read, roles.Write)
	if err != nil {
		return err
	}
	printed, err := roles.JSON(list, o, account)
	if err != nil {
		return err
	}
	for _, r := range printed.Roles {
		if err := stage.World.PutRole(account, r.Name, string(r.Trust), string(r.Policy)); err != nil {
			return err
		}
	}
	return nil
}

// change sets the hop limit of an instance of shop-prod behind imdsctl's back: change INSTANCE HOPS.
func change(ts *testscript.TestScript, _ bool, args []string) {
	body := "Action=ModifyInstanceMetadataOptions&Version=2016-11-15&InstanceId=" + args[0] + "&HttpEndpoint=enabled&HttpPutResponseHopLimit=" + args[1]
	req, err := http.NewRequest(http.MethodPost, ts.Getenv("AWS_ENDPOINT_URL"), strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=222222222222/20260101/eu-west-1/ec2/aws4_request, "+
		"SignedHeaders=host, Signature=0")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		ts.Fatalf("%s: %s", resp.Status, b)
	}
}

// waitfor waits until a command succeeds and its output matches: waitfor PATTERN imdsctl status.
func waitfor(ts *testscript.TestScript, _ bool, args []string) {
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err := ts.Exec(args[1], args[2:]...); err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s never said %s", strings.Join(args[1:], " "), args[0])
}

// post sends a body to a control of the simulator: post /_sim/faults BODY.
func post(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: post PATH BODY")
	}
	resp, err := http.Post(ts.Getenv("AWS_ENDPOINT_URL")+args[0], "application/json", strings.NewReader(args[1]))
	ts.Check(err)
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		b, _ := io.ReadAll(resp.Body)
		ts.Fatalf("%s: %s %s", args[0], resp.Status, b)
	}
}

// exitcode runs a command and compares its exit code: exitcode 3 imdsctl scan.
func exitcode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(interface{ ExitCode() int }); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s ended with exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// hold runs a command while another process, so to say, keeps a database in a transaction: hold FILE CODE imdsctl scan.
func hold(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	ts.Check(err)
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	ts.Check(err)
	exitcode(ts, false, args[1:])
	_, err = conn.ExecContext(ctx, "ROLLBACK")
	ts.Check(err)
}

// capture puts what a file holds into a variable: capture VARIABLE FILE.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// wide fails if a line of a file is longer than so many columns, or ends in a blank: wide 100 FILE.
func wide(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for line := range strings.SplitSeq(ts.ReadFile(args[1]), "\n") {
		if len([]rune(line)) > n || strings.TrimRight(line, " ") != line || strings.ContainsRune(line, '\x1b') {
			ts.Fatalf("%d columns, a blank at the end or an escape sequence: %q", len([]rune(line)), line)
		}
	}
}
