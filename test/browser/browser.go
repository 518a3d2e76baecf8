// Package browser opens pages in the Chromium that `make test` installs, for the tests of what people see in a browser.
//
// It owns where that browser is, how it is started, and what is recorded of a page: its messages, its requests, what axe says of
// its accessibility. It judges nothing. On Linux on x86-64 a missing browser fails the test; elsewhere, where none is pinned, an
// installed Chrome or Chromium is taken, and the test is left out where there is none.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/imdsctl/imdsctl/test/python"
)

// EnvChromium is the environment variable that names another browser than the pinned one.
const EnvChromium = "IMDSCTL_TEST_CHROMIUM"

// View is a way to look at a page.
type View struct {
	Name          string
	Width, Height int64 // in CSS pixels
	Mobile, Dark  bool
	Print         bool // as it is laid out for paper
}

// Page is an open page.
type Page struct {
	ctx     context.Context
	folder  string
	mu      sync.Mutex
	said    []string
	fetched []string
}

// Start starts a browser that ends with the test, and opens an empty page in it.
func Start(t testing.TB) *Page {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short: it needs the browser of `make test`")
	}
	folder, options, err := find()
	if err != nil {
		t.Fatal(err)
	}
	options = append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), options...)
	// The pages are the test's own, and machines of CI allow no sandbox. Names are resolved nowhere: only loopback is reached.
	options = append(options, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("font-render-hinting", "none"),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), chromedp.Flag("no-proxy-server", true),
		chromedp.Env("XDG_CACHE_HOME="+t.TempDir()))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, shut := chromedp.NewContext(ctx, chromedp.WithErrorf(t.Logf), chromedp.WithLogf(t.Logf))
	t.Cleanup(shut)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	p := &Page{ctx: ctx, folder: folder}
	err = chromedp.Do(ctx, chromedp.Navigate("about:blank"))
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("no browser is pinned for %s/%s and none is installed", runtime.GOOS, runtime.GOARCH)
	}
	if err != nil {
		t.Fatalf("starting the browser: %v", err)
	}
	p.record(t)
	return p
}

// find is the folder of what was installed, and the options that name the browser in it.
func find() (folder string, options []chromedp.ExecAllocatorOption, err error) {
	root, err := python.Root()
	if err != nil {
		return "", nil, err
	}
	folder = filepath.Join(root, ".cache", "browser")
	if _, err := os.Stat(filepath.Join(folder, "installed")); err != nil {
		return "", nil, fmt.Errorf("what the browser tests need is not in %s: run `make test`, which installs it, or leave these "+
			"tests out with -short", folder)
	}
	program := filepath.Join(folder, "chromium")
	switch own := os.Getenv(EnvChromium); {
	case own != "":
		return folder, []chromedp.ExecAllocatorOption{chromedp.ExecPath(own)}, nil
	case runtime.GOOS != "linux" || runtime.GOARCH != "amd64":
		return folder, nil, nil
	}
	if _, err := os.Stat(program); err != nil {
		return "", nil, fmt.Errorf("the pinned browser is not there; remove %s and run `make test`: %w", folder, err)
	}
	return folder, []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program),
		chromedp.Env("LD_LIBRARY_PATH="+filepath.Join(folder, "lib"), "FONTCONFIG_FILE="+filepath.Join(folder, "fonts.conf")),
	}, nil
}

// record keeps what the page says on its console, what it throws and what it asks for.
func (p *Page) record(t testing.TB) {
	t.Helper()
	messages := chromedp.Console(p.ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			p.mu.Lock()
			p.said = append(p.said, fmt.Sprintf("%s: %s", m.Type, m.Text))
			p.mu.Unlock()
		}
	}()
	err := chromedp.Listen(p.ctx, func(event any) {
		if e, ok := event.(*network.EventRequestWillBeSent); ok {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fetched = append(p.fetched, e.Request.URL)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(p.ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatalf("watching the page's requests: %v", err)
	}
}

// Open opens an address, in a view.
func (p *Page) Open(t testing.TB, address string, v View) {
	t.Helper()
	p.Show(t, v)
	if err := chromedp.Do(p.ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("opening %s: %v", address, err)
	}
}

// Show changes the view of the page that is open.
func (p *Page) Show(t testing.TB, v View) {
	t.Helper()
	var size []chromedp.EmulateViewportOption
	if v.Mobile {
		size = append(size, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	if err := chromedp.Do(p.ctx, chromedp.EmulateViewport(v.Width, v.Height, size...)); err != nil {
		t.Fatalf("showing the page %s: %v", v.Name, err)
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}}}
	if v.Dark {
		media.Features[0].Value = "dark"
	}
	if v.Print {
		media.Media = "print"
	}
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, media); err != nil {
		t.Fatalf("showing the page %s: %v", v.Name, err)
	}
}

// Said are the messages that the page wrote to the console so far, its exceptions and the browser's own remarks.
func (p *Page) Said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.said)
}

// Fetched are the addresses that the page has asked for so far, itself included.
func (p *Page) Fetched() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.fetched)
}

// Eval is the value of a JavaScript expression in the page; of a promise, what it comes to.
func Eval[T any](t testing.TB, p *Page, expression string) T {
	t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%.80s: %v", expression, err)
	}
	return v
}

// Barrier is a rule of accessibility that the page breaks.
type Barrier struct {
	Rule   string   `json:"id"`
	Impact string   `json:"impact"` // minor, moderate, serious or critical
	Help   string   `json:"help"`
	Where  []string `json:"where"` // the tags concerned
}

// Barriers are the rules of accessibility that the page breaks as it is shown now, by axe. What a selector names is left out.
func (p *Page) Barriers(t testing.TB, without string) []Barrier {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(p.folder, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatalf("axe: %v", err)
	}
	if err := chromedp.Do(p.ctx, chromedp.Evaluate[chromedp.Void](string(source))); err != nil {
		t.Fatalf("axe: %v", err)
	}
	checked := Eval[struct {
		Passes     int
		Violations []Barrier
	}](t, p, `axe.run({include: [["html"]], exclude: [[`+strconv.Quote(without)+`]]}, {resultTypes: ["violations"]}).then(r => ({Passes: r.passes.length, Violations: r.violations.map(v =>
		({id: v.id, impact: v.impact, help: v.help, where: v.nodes.map(n => n.html)}))}))`)
	if checked.Passes == 0 {
		t.Error("axe has checked nothing")
	}
	return checked.Violations
}

// Wider are the elements that reach over the right edge of the page, outermost first, each with by how many pixels.
func (p *Page) Wider(t testing.TB) []string {
	t.Helper()
	return Eval[[]string](t, p, `(() => {
		const edge = document.documentElement.clientWidth, found = [];
		const within = e => { for (let a = e.parentElement; a; a = a.parentElement) {
			if (getComputedStyle(a).overflowX !== "visible" && a !== document.body && a !== document.documentElement) return true } };
		for (const e of document.querySelectorAll("body *")) {
			const over = Math.round(e.getBoundingClientRect().right - edge);
			if (over > 0 && !within(e)) found.push(e.outerHTML.slice(0, 120) + " by " + over);
		}
		if (document.documentElement.scrollWidth > edge) found.push("the page by " + (document.documentElement.scrollWidth - edge));
		return found;
	})()`)
}

// Crushed are the cells of tables that are so narrow that their text stands in them letter by letter.
func (p *Page) Crushed(t testing.TB) []string {
	t.Helper()
	return Eval[[]string](t, p, `[...document.querySelectorAll("td, th, dd")].filter(e => e.innerText.length > 6 && e.clientWidth < 44)
		.map(e => e.outerHTML.slice(0, 120) + " is " + e.clientWidth + " wide")`)
}

// Sheets prints the page as a PDF on a paper, and returns it with the number of its sheets.
func (p *Page) Sheets(t testing.TB, paper chromedp.PaperSize) (pdf []byte, sheets int) {
	t.Helper()
	pdf, err := chromedp.Run(p.ctx, chromedp.PrintToPDF(chromedp.PDFPaper(paper), chromedp.PDFPreferCSSPageSize()))
	if err != nil {
		t.Fatalf("printing: %v", err)
	}
	return pdf, len(sheet.FindAll(pdf, -1))
}

var sheet = regexp.MustCompile(`/Type\s*/Page\b`)

// Picture is a part of a page, from one height to another in pixels.
type Picture struct {
	Top, Bottom float64
	PNG         []byte
}

// Pictures shows the page in parts that a person can look at, from its top and its end: at most so many of each.
func (p *Page) Pictures(t testing.TB, most int) []Picture {
	t.Helper()
	const part = 1500
	size := Eval[[]float64](t, p, "[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
	var found []Picture
	for top := 0.0; top < size[1]; top += part {
		if top >= float64(most)*part && top < size[1]-float64(most)*part {
			continue
		}
		height := min(part, size[1]-top)
		beyond := true
		shot, err := chromedp.Call(p.ctx, cdppage.CaptureScreenshot, cdppage.CaptureScreenshotParams{CaptureBeyondViewport: &beyond,
			Clip: &cdppage.Viewport{Y: top, Width: size[0], Height: height, Scale: 1}})
		if err != nil {
			t.Fatalf("taking a picture: %v", err)
		}
		found = append(found, Picture{Top: top, Bottom: top + height, PNG: shot.Data})
	}
	return found
}

// Keep writes a file into the artifacts of the test, which `go test -artifacts` leaves for a person to look at.
func Keep(t *testing.T, name string, content []byte) {
	t.Helper()
	if len(content) == 0 {
		t.Errorf("%s is empty", name)
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), strings.ReplaceAll(name, " ", "-")), content, 0o600); err != nil {
		t.Fatal(err)
	}
}
