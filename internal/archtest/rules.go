package archtest

// Rules are all that the checks need to know of this project.
type Rules struct {
	Packages     []Row
	Clocks       []string // packages and files that may read the machine's clock or wait on it
	BannedNames  []string // package names that say nothing
	Undocumented []string // methods that need no comment, because an interface of the standard library tells
	Words        []string // words that no file may hold
	Kinds        string   // the folder of kinds; its "all" must import every other one
}

// Row says what the packages of one pattern may import. A pattern is a path under the module; "*" stands for one
// element, and "/..." at the end for the path itself and everything below.
type Row struct {
	Package string
	// Own are the patterns of this module's packages it may import. Every package may import those below itself.
	Own []string
	// Modules are the import paths, with everything below, of other modules it may import.
	Modules []string
	// Pure packages may not reach a network, a process, a file, SQL or randomness, and have no clock.
	Pure bool
	// NoSQL packages leave databases to others, through an interface.
	NoSQL bool
}

// The groups of the table.
var (
	pure = []string{
		"internal/fleet", "internal/policy", "internal/inventory", "internal/product", "internal/evidence", "internal/assess",
		"internal/plan", "internal/rollout", "internal/guard",
	}
	sdk   = []string{"github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go"}
	yaml  = []string{"go.yaml.in/yaml/v4"}
	sql   = []string{"modernc.org/sqlite", "github.com/pressly/goose/v3", "github.com/jackc/pgx/v5", "github.com/riverqueue/river"}
	faces = []string{
		"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/jedib0t/go-pretty/v6",
		"github.com/schollz/progressbar/v3", "charm.land/bubbletea/v2", "charm.land/lipgloss/v2", "golang.org/x/term",
	}
)

// impure are the packages of the standard library that a pure package does without.
var impure = []string{
	"net", "os", "database/sql", "syscall", "plugin", "log", "crypto/rand", "crypto/tls", "math/rand",
	"math/rand/v2", "runtime/debug", "testing",
}

// netAllowed are the parts of net that only compute.
var netAllowed = []string{"net/netip", "net/url"}

// House is the table of this module. It says what docs/architecture.md says; the two change together.
func House() Rules {
	return Rules{
		Packages: []Row{
			// The flow: each imports only those before it.
			{Package: "internal/fleet", Pure: true},
			{Package: "internal/policy", Own: pure[:1], Modules: yaml, Pure: true},
			{Package: "internal/inventory", Own: pure[:2], Pure: true},
			{Package: "internal/product", Modules: yaml, Pure: true},
			{Package: "internal/evidence", Own: with(pure[:4], "internal/jsonlines"), Pure: true},
			{Package: "internal/assess", Own: pure[:5], Pure: true},
			{Package: "internal/plan", Own: pure[:6], Pure: true},
			{Package: "internal/rollout", Own: pure[:7], Pure: true},
			{Package: "internal/guard", Own: pure[:8], Pure: true},

			// How files of one JSON document a line are read.
			{Package: "internal/jsonlines", Pure: true},

			// Verdicts as work for people.
			{Package: "internal/attention", Own: pure[:6], Pure: true},

			// What infrastructure as code says it manages.
			{Package: "internal/owners", Own: []string{"internal/fleet", "internal/inventory"}, Pure: true},

			// What a role may do, from the policies that it has.
			{Package: "internal/access", Pure: true},

			// The contract of kinds, and what carries it out.
			{Package: "internal/clock"},
			{Package: "internal/kind", Own: pure, Pure: true},
			{
				Package: "internal/kind/kindtest",
				Own: with(pure, "internal/kind", "internal/clock", "internal/awsx", "internal/awssim/...", "internal/engine",
					"internal/store", "internal/kinds/all", "internal/rehearse"),
				Modules: sdk,
			},
			{Package: "internal/engine", Own: with(pure, "internal/kind", "internal/clock"), NoSQL: true},
			{Package: "internal/engine/inmemory", Own: with(pure, "internal/engine"), NoSQL: true},
			{
				Package: "internal/engine/enginetest",
				Own:     with(pure, "internal/engine", "internal/engine/inmemory", "internal/kind", "internal/clock"),
			},
			{Package: "internal/scan", Own: with(pure, "internal/kind", "internal/clock", "internal/owners"), NoSQL: true},
			{Package: "internal/roles", Own: with(pure, "internal/kind"), Pure: true},
			{
				Package: "internal/store/storetest",
				Own:     with(pure, "internal/store", "internal/engine", "internal/kind", "internal/clock"),
				Modules: []string{"pgregory.net/rapid"},
			},
			{Package: "internal/store", Own: with(pure, "internal/engine", "internal/kind", "internal/clock"), Modules: sql},

			// The edge of AWS: the only ones that know the SDK.
			{Package: "internal/awsx", Own: []string{"internal/fleet", "internal/clock"}, Modules: sdk, NoSQL: true},
			{
				Package: "internal/kinds/all",
				Own:     with(pure, "internal/kinds/*", "internal/access", "internal/kind", "internal/awsx", "internal/clock"),
				Modules: sdk, NoSQL: true,
			},
			{
				Package: "internal/kinds/*",
				Own:     with(pure, "internal/access", "internal/kind", "internal/awsx", "internal/clock"), Modules: sdk, NoSQL: true,
			},
			{
				Package: "internal/cloudwatch",
				Own:     with(pure, "internal/awsx", "internal/clock"), Modules: sdk, NoSQL: true,
			},
			{
				// What is installed where: it reads files, and knows no AWS.
				Package: "internal/software",
				Own:     []string{"internal/fleet", "internal/inventory", "internal/product", "internal/evidence", "internal/image"},
				Modules: []string{"github.com/google/osv-scalibr"}, NoSQL: true,
			},

			{
				Package: "internal/cloudtrail",
				Own:     with(pure, "internal/awsx", "internal/clock"), Modules: with(sdk, "github.com/tidwall/gjson"), NoSQL: true,
			},
			{
				Package: "internal/cloudformation",
				Own:     []string{"internal/fleet", "internal/owners", "internal/awsx"}, Modules: sdk, NoSQL: true,
			},

			{
				Package: "internal/gates",
				Own:     with(pure, "internal/kind", "internal/engine", "internal/awsx", "internal/cloudwatch", "internal/clock", "internal/program"),
				Modules: sdk, NoSQL: true,
			},

			{
				Package: "internal/followup",
				Own:     with(pure, "internal/kind", "internal/awsx", "internal/clock", "internal/program"), Modules: sdk, NoSQL: true,
			},
			{Package: "internal/program", Own: []string{"internal/clock"}, NoSQL: true},

			// Telling owners: HTTP, signed as gates sign.
			{Package: "internal/notify", Own: with(pure[:6], "internal/attention", "internal/clock", "internal/gates"), NoSQL: true},

			// Many processes on one rollout: the engine's loops, called by River.
			{
				Package: "internal/worker",
				Own:     []string{"internal/fleet", "internal/clock", "internal/engine"},
				Modules: []string{"github.com/riverqueue/river", "github.com/jackc/pgx/v5"},
			},

			// The metadata service: the protocol as a server. It knows no AWS.
			{Package: "internal/imds", Own: []string{"internal/fleet"}, Modules: with(yaml, "golang.org/x/sys"), NoSQL: true},

			// On a host: who calls the metadata service, and whether a command lives with version 2 alone.
			{Package: "internal/procfs", Modules: []string{"github.com/prometheus/procfs", "golang.org/x/sys"}, NoSQL: true},
			{Package: "internal/tracer", Own: []string{"internal/jsonlines", "internal/fleet", "internal/inventory", "internal/product", "internal/evidence"}, Pure: true},
			{Package: "internal/tracer/deploy", Pure: true},
			{
				Package: "internal/tracer/capture/...",
				Own:     []string{"internal/tracer", "internal/procfs", "internal/tracer/capture/..."},
				Modules: []string{
					"github.com/cilium/ebpf", "github.com/vishvananda/netlink", "github.com/vishvananda/netns", "golang.org/x/net/bpf",
					"golang.org/x/sys",
				}, NoSQL: true,
			},
			{
				Package: "internal/lab", Own: []string{"internal/fleet", "internal/clock", "internal/procfs"},
				Modules: []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "golang.org/x/sys"}, NoSQL: true,
			},
			{
				Package: "internal/certify",
				Own: []string{"internal/fleet", "internal/inventory", "internal/product", "internal/evidence", "internal/imds",
					"internal/tracer"},
				NoSQL: true,
			},
			{Package: "internal/image", Modules: []string{"github.com/klauspost/compress/zstd", "github.com/ulikunitz/xz"}, NoSQL: true},
			{Package: "internal/image/imagetest", NoSQL: true},

			// The simulator: it shares nothing with what it tests but the vocabulary and the clock.
			{
				Package: "internal/awssim/...",
				Own:     []string{"internal/fleet", "internal/clock", "internal/awssim/..."},
				Modules: []string{"github.com/fxamacker/cbor/v2"}, NoSQL: true,
			},

			{
				Package: "internal/demo",
				Own:     []string{"internal/fleet", "internal/clock", "internal/kind", "internal/roles", "internal/awssim/..."},
				Modules: sdk, NoSQL: true,
			},

			// A rehearsal is the real engine in a simulated AWS.
			{
				Package: "internal/rehearse",
				Own: with(pure, "internal/kind", "internal/kinds/all", "internal/clock", "internal/awsx", "internal/cloudwatch",
					"internal/gates", "internal/followup", "internal/engine", "internal/engine/inmemory", "internal/awssim", "internal/awssim/..."),
				Modules: sdk, NoSQL: true,
			},

			// The faces and the wiring.
			{Package: "internal/report", Own: pure, Pure: true},
			{Package: "internal/app/...", Own: []string{"internal/..."}, Modules: with(sdk, yaml...)},
			{
				Package: "internal/cli/...",
				Own: with(pure, "internal/app/...", "internal/cli/...", "internal/clock", "internal/demo", "internal/roles",
					"internal/kind", "internal/report", "internal/attention", "internal/software", "internal/imds",
					"internal/tracer", "internal/tracer/deploy", "internal/certify"),
				Modules: faces, NoSQL: true,
			},
			{Package: "cmd/imdsctl", Own: []string{"internal/cli"}, NoSQL: true},

			// Tests that are no package of the product.
			{Package: "internal/archtest"},
			{Package: "test/postgres", Own: []string{"test/python"}, Modules: []string{"github.com/jackc/pgx/v5"}},
			{
				Package: "test/browser", Own: []string{"internal/...", "test/python"},
				Modules: with(sdk, "github.com/chromedp/chromedp", "github.com/chromedp/cdproto"),
			},
			{Package: "test/...", Own: []string{"internal/...", "test/..."}, Modules: sdk},
			{
				Package: "bench/...", Own: []string{"internal/...", "bench/...", "test/postgres"},
				Modules: with(sdk, "github.com/cilium/ebpf"),
			},
		},
		Clocks: []string{
			"internal/clock", "internal/cli/...", "cmd/...", "test/...", "bench/...",
			"internal/engine/enginetest",    // a fault that strikes late, beside the engine's own clock
			"internal/store/store.go",       // waits for another process to let go of the file; tells the time to others
			"internal/store/postgres.go",    // waits before it connects again
			"internal/awssim/core/serve.go", // waits for the client's socket, which knows no simulated time
			"internal/tracer/capture/...",   // the kernel tells when something was sent by the machine's clocks
		},
		BannedNames: []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared", "base", "lib"},
		Undocumented: []string{
			"String", "Error", "Unwrap", "Is", "As", "Len", "Less", "Swap", "Push", "Pop", "Close", "Read", "Write",
			"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "Scan", "Value", "ServeHTTP", "RoundTrip",
			"LogValue", "GoString", "Header", "WriteHeader",
			"Helper", "Errorf", "Fatalf", "Context", "Run", // of testing.T
		},
		// In two parts, so that this file keeps the rule.
		Words: []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "not " + "implemented"},
		Kinds: "internal/kinds",
	}
}

func with(a []string, b ...string) []string { return append(append([]string(nil), a...), b...) }
