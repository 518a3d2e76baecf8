package bench

import (
	"context"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
)

// TestScanMakesTheCallsThatPagesRequire is the benchmark's bound at a size that every test run can bear.
func TestScanMakesTheCallsThatPagesRequire(t *testing.T) {
	const instances, accounts, regions = 2000, 4, 2
	w, shape, err := newFleet(instances, accounts, regions, false)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	a, err := app.New(app.Options{
		Config: configuration(shape.Regions, false), DBPath: filepath.Join(t.TempDir(), "imdsctl.db"), Version: "bench", Actor: "bench",
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{
				Region: string(shape.Regions[0]), BaseEndpoint: aws.String(server.URL),
				Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: string(shape.Accounts[0]), SecretAccessKey: "sim"}, nil
				}),
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	sum, err := a.Scan(t.Context(), app.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(sum.Gaps) > 0 || sum.Instances != shape.Instances+shape.Past {
		t.Fatalf("%d instances of %d and %d past ones, gaps %v", sum.Instances, shape.Instances, shape.Past, sum.Gaps)
	}
	made, _ := count(t, server.URL, 0)
	compare(t, made, required(instances, accounts, regions))
}
