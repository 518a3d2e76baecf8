// Command v2-new is a program that asks the metadata service through the SDK that is pinned in go.mod.
// The tests of software scan look for that version in the program that `make test` builds of it.
package main

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws/ec2metadata"
	"github.com/aws/aws-sdk-go-v2/aws/external"
)

func main() {
	config, err := external.LoadDefaultAWSConfig()
	fmt.Println(ec2metadata.New(config), err)
}
