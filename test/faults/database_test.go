package faults

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// holdVariable names, for a child of the test, the database to hold.
const holdVariable = "IMDSCTL_FAULTS_HOLD"

// holdDatabase is another process that works with the database: it has a write transaction open until its input ends.
func holdDatabase(path string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=20000")
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	fmt.Println("held")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	_, err = conn.ExecContext(context.Background(), "ROLLBACK")
	return err
}

// hold starts such a process, and gives what ends it.
func (w *world) hold(t *testing.T) (release func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+w.db)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "held" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return sync.OnceFunc(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other process: %v", err)
		}
	})
}

// TestDatabaseBusyForAWhile: another process holds the database again and again while changes are under way; they wait for it.
func TestDatabaseBusyForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	seen, held := 0, 0
	w.mustApply(t, app.ApplyOptions{Progress: func(p app.Progress) {
		if p.Phase != app.ChangeVerified {
			return
		}
		if seen++; seen%8 != 1 {
			return
		}
		// This holds up the coordinator, and every lane that has something to record.
		release := w.hold(t)
		defer release()
		held++
		if err := w.clock.Sleep(t.Context(), 15*time.Minute); err != nil {
			t.Error(err)
		}
	}})
	if held < 2 {
		t.Errorf("the database was held %d times", held)
	}
	w.undisturbed(t)
}

// TestDatabaseBusyForTooLong: another process does not let go of the database. The run ends, says why, and the next goes on.
func TestDatabaseBusyForTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{busy: time.Second})
	var release func()
	seen := 0
	result, err := w.apply(t, app.ApplyOptions{Progress: func(p app.Progress) {
		if p.Phase == app.ChangeVerified {
			if seen++; seen == 5 {
				release = w.hold(t)
			}
		}
	}})
	if release == nil {
		t.Fatal("the database was never held")
	}
	d, ok := errors.AsType[fleet.Diagnostic](err)
	if !ok || !strings.Contains(d.Summary, "another process is writing to the database") || d.Remedy == "" {
		t.Errorf("the run ended with %v", err)
	}
	if result.Record.Status != rollout.Running {
		t.Errorf("the rollout is %s", result.Record.Status)
	}
	release()
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
}
