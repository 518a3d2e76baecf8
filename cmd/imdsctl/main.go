// Command imdsctl takes an AWS organization from IMDSv1 to IMDSv2 and keeps it there.
//
// This file holds signals, streams and the exit code; everything else is internal/cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the time zones of maintenance windows, for machines that have none, such as Windows

	"github.com/imdsctl/imdsctl/internal/cli"
)

func main() {
	cli.Inside()
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel() // cli says so, where it does not disturb what is on the screen
		<-signals
		os.Exit(cli.ExitFailed)
	}()
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
