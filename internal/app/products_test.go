package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// A file of one's own products is read when the App is made, and what is wrong with it is said with its name and line.
func TestProductsOfOnesOwn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "products.yaml")
	made := func(text string) error {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		config := policy.Default()
		config.Evidence.Products = file
		_, err := app.New(app.Options{Config: config})
		return err
	}
	own := "products:\n  - {id: billing-sdk, name: Our SDK, class: sdk, agents: [billing-sdk], lines: [{first: 2.1.0}], source: https://example.com}\n"
	if err := made(own); err != nil {
		t.Error(err)
	}
	if err := made(strings.Replace(own, "class: sdk", "class: spoon", 1)); err == nil || !strings.Contains(err.Error(), "products.yaml:2") {
		t.Errorf("a class that is none: %v", err)
	}
	config := policy.Default()
	config.Evidence.Products = filepath.Join(t.TempDir(), "missing.yaml")
	if _, err := app.New(app.Options{Config: config}); err == nil || !strings.Contains(err.Error(), "evidence.products") {
		t.Errorf("a file that is not there: %v", err)
	}
}
