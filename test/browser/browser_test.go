package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/imdsctl/imdsctl/test/browser"
)

// wrong is a page with one of each fault that the tests of pages look for.
const wrong = `<!DOCTYPE html><html lang="en"><head><title>Wrong</title><style>
@media (prefers-color-scheme: dark) { body { background: rgb(1, 2, 3) } }
@media print { body { background: rgb(4, 5, 6) } p { break-after: page } }
</style></head><body><main><h1>Wrong</h1><p style="width: 2000px">wide</p><img src="%s/picture.png">
<table><tr><td style="max-width: 10px; overflow-wrap: anywhere">letter by letter</td></tr></table>
<p style="color: #eee; background: #fff">pale</p></main><script>console.error("a fault"); throw new Error("thrown")</script></body></html>`

// What the other tests hold pages against is seen where it is: faults on the console, requests, overflow, barriers, sheets.
func TestFaultsAreSeen(t *testing.T) {
	page := browser.Start(t)
	var asked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(elsewhere.Close)
	path := filepath.Join(t.TempDir(), "wrong.html")
	if err := os.WriteFile(path, fmt.Appendf(nil, wrong, elsewhere.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	page.Open(t, "file://"+path, browser.View{Name: "phone", Width: 360, Height: 700, Dark: true})
	if found := page.Wider(t); !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, "wide</p>") }) {
		t.Errorf("what reaches over the edge is not seen, but %q", found)
	}
	if found := page.Crushed(t); len(found) != 1 {
		t.Errorf("crushed: %q", found)
	}
	rules := map[string]bool{}
	for _, b := range page.Barriers(t, ".none") {
		rules[b.Rule] = true
	}
	if !rules["image-alt"] || !rules["color-contrast"] {
		t.Errorf("a picture without words and a pale text are not seen, but %v", rules)
	}
	ground := func(v browser.View, want string) {
		page.Show(t, v)
		if got := browser.Eval[string](t, page, "getComputedStyle(document.body).backgroundColor"); got != want {
			t.Errorf("%s: the ground is %s, want %s", v.Name, got, want)
		}
	}
	ground(browser.View{Name: "dark", Width: 800, Height: 600, Dark: true}, "rgb(1, 2, 3)")
	ground(browser.View{Name: "light", Width: 800, Height: 600}, "rgba(0, 0, 0, 0)")
	ground(browser.View{Name: "print", Width: 800, Height: 600, Print: true}, "rgb(4, 5, 6)")
	if _, sheets := page.Sheets(t, chromedp.PaperA4); sheets != 2 && sheets != 3 {
		t.Errorf("printed on %d sheets", sheets)
	}
	if said := strings.Join(page.Said(), "; "); !strings.Contains(said, "a fault") || !strings.Contains(said, "thrown") {
		t.Errorf("the faults of the page are not heard, but %q", said)
	}
	if asked.Load() == 0 || !slices.Contains(page.Fetched(), elsewhere.URL+"/picture.png") {
		t.Errorf("the request for the picture is not seen, but %q", page.Fetched())
	}
}
