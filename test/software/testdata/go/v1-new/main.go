// Command v1-new is a program that asks the metadata service through the SDK that is pinned in go.mod.
// The tests of software scan look for that version in the program that `make test` builds of it.
package main

import (
	"fmt"

	"github.com/aws/aws-sdk-go/aws/ec2metadata"
	"github.com/aws/aws-sdk-go/aws/session"
)

func main() { fmt.Println(ec2metadata.New(session.Must(session.NewSession())).Region()) }
