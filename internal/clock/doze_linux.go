package clock

import (
	"syscall"
	"time"
)

// doze gives the processor up for a moment. Go's own timers are a millisecond late in an idle program, because that is what
// epoll_wait counts in; the kernel's are not.
func doze(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // one that is interrupted was long enough
}
