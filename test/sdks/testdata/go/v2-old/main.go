// Command v2-old prints the access key id that the default chain of the SDK in go.mod finds; exit code 1 where it finds none.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/external"
)

func main() {
	found, err := credentials()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(found.AccessKeyID)
}

func credentials() (aws.Credentials, error) {
	config, err := external.LoadDefaultAWSConfig()
	if err != nil {
		return aws.Credentials{}, err
	}
	return config.Credentials.Retrieve()
}
