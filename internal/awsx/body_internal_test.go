package awsx

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// A call whose time was over by the time it would have been sent is not sent, however the process was held up before.
func TestACallThatComesTooLateIsNotSent(t *testing.T) {
	sent := 0
	clk := clock.NewManual(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	client := ownBody{next: sender(func(*http.Request) (*http.Response, error) {
		sent++
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}), clock: clk}
	ctx := clock.WithEnd(t.Context(), clk.Now().Add(time.Minute))
	request := func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	}
	if err := request(); err != nil || sent != 1 {
		t.Fatalf("in time: %v, %d sent", err, sent)
	}
	clk.Advance(time.Minute) // the process was stopped, and goes on
	if err := request(); !errors.Is(err, errTooLate) || sent != 1 {
		t.Errorf("late: %v, %d sent", err, sent)
	}
	f := withoutAnswer(fmt.Errorf("operation error: %w", errTooLate))
	if f.class != fleet.ErrLate || !f.unsent || !f.final {
		t.Errorf("understood as %+v: want unsent, and no other attempt", f)
	}
}

type sender func(*http.Request) (*http.Response, error)

func (d sender) Do(r *http.Request) (*http.Response, error) { return d(r) }
