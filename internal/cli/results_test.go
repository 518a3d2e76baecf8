package cli_test

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/cli"
)

// brim is a file on a disk that is full after some bytes.
type brim struct{ left int }

func (b *brim) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// TestOutputThatIsCutOffIsNoSuccess prints to a full disk what ends with 0, and what ends with 3, where there is room.
func TestOutputThatIsCutOffIsNoSuccess(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "imdsctl.db")
	for args, want := range map[string]int{"version": cli.ExitDone, "help scan": cli.ExitDone, "status": cli.ExitAttention} {
		run := func(out io.Writer) (int, string) {
			var said strings.Builder
			env := cli.Env{In: strings.NewReader(""), Out: out, Err: &said, Getenv: func(string) string { return "" }}
			return cli.Run(t.Context(), env, append(strings.Fields(args), "--db", db)), said.String()
		}
		if code, said := run(io.Discard); code != want {
			t.Errorf("%s: exit code %d with room, want %d: %s", args, code, want, said)
		}
		if code, said := run(&brim{left: 5}); code != cli.ExitFailed || !strings.Contains(said, "standard output: no space left on device") {
			t.Errorf("%s: exit code %d on a full disk: %s", args, code, said)
		}
	}
}
