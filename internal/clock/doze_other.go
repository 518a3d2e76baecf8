//go:build !linux

package clock

import "time"

// doze gives the processor up for a moment.
func doze(d time.Duration) { time.Sleep(d) }
