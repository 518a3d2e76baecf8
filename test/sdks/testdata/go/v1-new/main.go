// Command v1-new prints the access key id that the default chain of the SDK in go.mod finds; exit code 1 where it finds none.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go/aws/session"
)

func main() {
	found, err := session.Must(session.NewSession()).Config.Credentials.Get()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(found.AccessKeyID)
}
