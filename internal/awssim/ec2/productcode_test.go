package ec2_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

// An image of AWS Marketplace shows its product codes, and so does what is launched from it.
func TestProductCodes(t *testing.T) {
	w := calm(t)
	const appliance = "ami-0123456789abcd0ff"
	codes := []string{"6njl1pau431dv1qxipg63mvah", "e9yfvyj3uag5uo5j2hjikv74n"}
	place := w.place(t)
	if err := ec2.StoreOf(place).AddImage(start, ec2.ImageSeed{ID: appliance, ProductCodes: codes}); err != nil {
		t.Fatal(err)
	}
	ids := w.add(t, ec2.InstanceSeed{ImageID: appliance}, ec2.InstanceSeed{ImageID: image1, ProductCodes: codes[1:]},
		ec2.InstanceSeed{ImageID: image1})
	for n, want := range [][]string{codes, codes[1:], nil} {
		if got := codesOf(w.instance(t, ids[n]).ProductCodes); !slices.Equal(got, want) {
			t.Errorf("seeded instance %d has %q, want %q", n, got, want)
		}
	}
	run := must[*api.RunInstancesOutput](t)(w.RunInstances(t.Context(), &api.RunInstancesInput{
		ImageId: aws.String(appliance), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	}))
	if got := codesOf(run.Instances[0].ProductCodes); !slices.Equal(got, codes) {
		t.Errorf("launched with %q", got)
	}
	found := must[*api.DescribeImagesOutput](t)(w.DescribeImages(t.Context(), &api.DescribeImagesInput{
		Filters: []types.Filter{{Name: aws.String("product-code"), Values: codes[:1]}},
	}))
	if len(found.Images) != 1 || *found.Images[0].ImageId != appliance || !slices.Equal(codesOf(found.Images[0].ProductCodes), codes) {
		t.Errorf("found %+v", found.Images)
	}
}

func codesOf(of []types.ProductCode) (out []string) {
	for _, c := range of {
		if c.ProductCodeType == types.ProductCodeValuesMarketplace {
			out = append(out, *c.ProductCodeId)
		}
	}
	return out
}
