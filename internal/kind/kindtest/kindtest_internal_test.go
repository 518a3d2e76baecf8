package kindtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// notes is a T that takes notes of failures instead of failing.
type notes struct {
	ctx   context.Context
	lines *[]string
	path  string
}

type stop struct{}

func (n notes) Helper()                  {}
func (n notes) Context() context.Context { return n.ctx }

func (n notes) Errorf(format string, args ...any) {
	*n.lines = append(*n.lines, n.path+": "+fmt.Sprintf(format, args...))
}

func (n notes) Fatalf(format string, args ...any) {
	n.Errorf(format, args...)
	panic(stop{})
}

func (n notes) Run(name string, f func(T)) {
	defer func() {
		if p := recover(); p != nil && p != any(stop{}) {
			panic(p)
		}
	}()
	f(notes{n.ctx, n.lines, path.Join(n.path, strings.ReplaceAll(name, " ", "_"))})
}

// broken is a driver with something planted in it.
type broken struct {
	kind.Driver
	list  func(context.Context, func(inventory.Resource) error) error
	write func(context.Context, kind.Write) (kind.Result, error)
}

func (d broken) List(ctx context.Context, emit func(inventory.Resource) error) error {
	if d.list != nil {
		return d.list(ctx, emit)
	}
	return d.Driver.List(ctx, emit)
}

func (d broken) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if d.write != nil {
		return d.write(ctx, w)
	}
	return d.Driver.Write(ctx, w)
}

// unsettled never says that a change is under way.
type unsettled struct{ kind.Driver }

func (d unsettled) Read(ctx context.Context, id string) (inventory.Resource, error) {
	r, err := d.Driver.Read(ctx, id)
	r.Settling = false
	return r, err
}

// asker asks AWS otherwise than its kind does whether a write could be undone.
type asker struct {
	kind.Driver
	ask func(context.Context, kind.Write) error
}

func (d asker) CheckUndo(ctx context.Context, w kind.Write) error { return d.ask(ctx, w) }

// plantAsk breaks how an entry's drivers ask.
func plantAsk(e *all.Entry, ask func(context.Context, kind.Driver, kind.Write) error) {
	plantDriver(e, func(d kind.Driver) kind.Driver {
		return asker{d, func(ctx context.Context, w kind.Write) error { return ask(ctx, d, w) }}
	})
}

// runner asks AWS otherwise than its kind does whether it would take a write.
type runner struct {
	kind.Driver
	kind.UndoChecker
	ask func(context.Context, kind.Write) error
}

func (d runner) DryRun(ctx context.Context, w kind.Write) error { return d.ask(ctx, w) }

// plantDryRun breaks how an entry's drivers make a dry run.
func plantDryRun(e *all.Entry, ask func(context.Context, kind.Driver, kind.Write) error) {
	plantDriver(e, func(d kind.Driver) kind.Driver {
		undo, _ := d.(kind.UndoChecker)
		return runner{d, undo, func(ctx context.Context, w kind.Write) error { return ask(ctx, d, w) }}
	})
}

// without makes a dry run that takes errors of a class for yes.
func without(class fleet.ErrorClass) func(context.Context, kind.Driver, kind.Write) error {
	return func(ctx context.Context, d kind.Driver, w kind.Write) error {
		if err := d.(kind.DryRunner).DryRun(ctx, w); fleet.ClassOf(err) != class {
			return err
		}
		return nil
	}
}

// plantDriver breaks the drivers of an entry.
func plantDriver(e *all.Entry, plant func(kind.Driver) kind.Driver) {
	open := e.Open
	e.Open = func(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver { return plant(open(cfg, place, c)) }
}

// plantWrite breaks what a driver is asked to write.
func plantWrite(e *all.Entry, plant func(*kind.Write)) {
	plantDriver(e, func(d kind.Driver) kind.Driver {
		return broken{Driver: d, write: func(ctx context.Context, w kind.Write) (kind.Result, error) {
			w.After = w.After.Clone()
			plant(&w)
			return d.Write(ctx, w)
		}}
	})
}

// onePage is an HTTP client under which every listing seems to have a single page.
type onePage struct{ aws.HTTPClient }

var nextToken = regexp.MustCompile(`(?i)<nextToken>[^<]*</nextToken>`)

func (c onePage) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.HTTPClient.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	body = nextToken.ReplaceAll(body, nil)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, err
}

// hasty is an Applier that trusts the plan.
type hasty struct{ reference }

func (h hasty) Apply(
	ctx context.Context, c clock.Clock, d kind.Driver, _ kind.Verb, w kind.Write,
) (kind.Result, error) {
	return h.write(ctx, c, d, w)
}

// forgetful is an Applier that does everything again after a crash, as if nothing had been done.
type forgetful struct{ reference }

func (f forgetful) Resume(
	ctx context.Context, c clock.Clock, d kind.Driver, _ kind.Verb, w kind.Write,
) (kind.Result, error) {
	if err := c.Sleep(ctx, lag); err != nil {
		return kind.Result{}, err
	}
	w.Token += "-again"
	return f.write(ctx, c, d, w)
}

// plantVerdict lets an entry propose for another verdict than the one it was given.
func plantVerdict(e *all.Entry, plant func(*assess.Verdict)) {
	propose := e.Kind.Propose
	e.Kind.Propose = func(c kind.Case) ([]plan.Need, []plan.Manual) {
		v := *c.Verdict
		plant(&v)
		c.Verdict = &v
		return propose(c)
	}
}

type planted struct {
	name, kind string
	plant      func(*suite, *all.Entry, fstest.MapFS)
	// want is part of a failure that must be noted.
	want string
}

func faults() []planted {
	entry := func(f func(*all.Entry)) func(*suite, *all.Entry, fstest.MapFS) {
		return func(_ *suite, e *all.Entry, _ fstest.MapFS) { f(e) }
	}
	const instance, template = inventory.KindInstance, inventory.KindLaunchTemplate
	const nodegroup = inventory.KindNodegroup
	const defaults = inventory.KindAccountDefaults
	return []planted{
		{"an unlisted folder", instance, func(_ *suite, _ *all.Entry, fs fstest.MapFS) {
			fs["spotfleet/kind.go"] = &fstest.MapFile{}
		}, "folder kinds/spotfleet is not listed"},
		{"a listed kind without a folder", instance, func(_ *suite, _ *all.Entry, fs fstest.MapFS) {
			delete(fs, "ec2instance/testdata/fixture.json")
		}, "has no folder kinds/ec2instance"},
		{"a kind without a fixture", instance, func(_ *suite, _ *all.Entry, fs fstest.MapFS) {
			fs["ec2instance/kind.go"] = fs["ec2instance/testdata/fixture.json"]
			delete(fs, "ec2instance/testdata/fixture.json")
		}, "a kind must bring its fixture"},
		{"a verb that is not tried", instance, entry(func(e *all.Entry) {
			e.Kind.Verbs = append(e.Kind.Verbs, kind.Verb{Name: "reboot"})
		}), "verb reboot of ec2-instance is not tried"},
		{"a one-page list of instances", instance, entry(func(e *all.Entry) {
			open := e.Open
			e.Open = func(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
				cfg.HTTPClient = onePage{cfg.HTTPClient}
				return open(cfg, place, c)
			}
		}), "list in pages of 5 gave"},
		{"a one-page list of groups", inventory.KindAutoScaling, entry(func(e *all.Entry) {
			open := e.Open
			e.Open = func(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
				cfg.HTTPClient = onePage{cfg.HTTPClient}
				return open(cfg, place, c)
			}
		}), "list in pages of 5 gave"},
		{"a list in no order", template, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver {
				return broken{Driver: d, list: func(ctx context.Context, emit func(inventory.Resource) error) error {
					var found []inventory.Resource
					err := d.List(ctx, func(r inventory.Resource) error { found = append(found, r); return nil })
					for _, r := range slices.Backward(found) {
						if err := emit(r); err != nil {
							return err
						}
					}
					return err
				}}
			})
		}), "list gave"},
		{"a swallowed error", instance, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver {
				return broken{Driver: d, list: func(ctx context.Context, emit func(inventory.Resource) error) error {
					if err := d.List(ctx, emit); fleet.ClassOf(err) != fleet.ErrDenied {
						return err
					}
					return nil
				}}
			})
		}), "the error <nil>, not one of class denied"},
		{"a list that cannot be cancelled", instance, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver {
				return broken{Driver: d, list: func(ctx context.Context, emit func(inventory.Resource) error) error {
					return d.List(context.WithoutCancel(ctx), emit)
				}}
			})
		}), "not context.Canceled"},
		{"a list that writes", defaults, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver {
				return broken{Driver: d, list: func(ctx context.Context, emit func(inventory.Resource) error) error {
					_, err := d.Write(ctx, kind.Write{
						Verb: "set-defaults", ID: "metadata-defaults", After: fleet.State{fleet.FieldTokens: fleet.TokensOptional},
					})
					if err != nil {
						return err
					}
					return d.List(ctx, emit)
				}}
			})
		}), "list wrote"},
		{"a missing re-read", instance, func(s *suite, _ *all.Entry, _ fstest.MapFS) { s.applier = hasty{} },
			"after somebody else's change wrote"},
		{"a resume that does not look", template, func(s *suite, _ *all.Entry, _ fstest.MapFS) { s.applier = forgetful{} },
			"had effects"},
		{"a revert that forgets a field", instance, entry(func(e *all.Entry) {
			plantWrite(e, func(w *kind.Write) {
				if w.Revert {
					delete(w.After, fleet.FieldHopLimit)
				}
			})
		}), "did not reach its target: HttpPutResponseHopLimit"},
		{"a revert that takes absent for unchanged", defaults, entry(func(e *all.Entry) {
			plantWrite(e, func(w *kind.Write) {
				for field, v := range w.Before {
					if _, has := w.After[field]; w.Revert && !has {
						w.After[field] = v
					}
				}
			})
		}), "did not reach its target: HttpTokens"},
		{"a create without its token", template, entry(func(e *all.Entry) {
			n := 0
			plantWrite(e, func(w *kind.Write) {
				n++
				w.Token = fmt.Sprintf("any-%d", n)
			})
		}), "an attempt that is repeated would make a second"},
		{"a start without its token", nodegroup, entry(func(e *all.Entry) {
			n := 0
			plantWrite(e, func(w *kind.Write) {
				n++
				w.Token = fmt.Sprintf("any-%d", n)
			})
		}), "an attempt that is repeated would make a second"},
		{"a start that is taken for done at once", nodegroup, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver { return unsettled{d} })
		}), "did not reach its target: LaunchTemplate.Version"},
		{"a create without its marker", template, entry(func(e *all.Entry) {
			plantWrite(e, func(w *kind.Write) { w.Marker = "any" })
		}), "cannot be found again"},
		{"a failed write that says that nothing was changed", instance, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver {
				return broken{Driver: d, write: func(ctx context.Context, w kind.Write) (kind.Result, error) {
					r, err := d.Write(ctx, w)
					if fleet.ClassOf(err) == fleet.ErrTransient {
						err = kind.Errorf(fleet.ErrConflict, w.Place, w.Verb, "%w", err)
					}
					return r, err
				}}
			})
		}), "says that nothing was changed"},
		{"a call that is not declared", template, entry(func(e *all.Entry) { e.Kind.Reads = e.Kind.Reads[:1] }),
			"DescribeLaunchTemplateVersions"},
		{"a declared call that is never made", instance, entry(func(e *all.Entry) {
			e.Kind.Reads = append(e.Kind.Reads, kind.Action{Name: "ec2:DescribeImages", Resource: "*"})
		}), "ec2:DescribeImages is declared and never called"},
		{"calls counted wrongly", defaults, entry(func(e *all.Entry) {
			e.Kind.Verbs[0].Calls["ec2:ModifyInstanceMetadataDefaults"] = 2
		}), "made the writing calls"},
		{"a proposal for what is not ready", defaults, entry(func(e *all.Entry) {
			plantVerdict(e, func(v *assess.Verdict) { v.Status = assess.Ready })
		}), "not ready"},
		{"required tokens for what is unknown", instance, entry(func(e *all.Entry) {
			plantVerdict(e, func(v *assess.Verdict) {
				if v.Status == assess.Unknown {
					v.Status, v.Want.HopLimit = assess.Ready, 0
				}
			})
		}), "map[HttpTokens:required]), which is unknown, not ready"},
		{"a lower hop limit for what is blocked", instance, entry(func(e *all.Entry) {
			plantVerdict(e, func(v *assess.Verdict) {
				if v.Status == assess.Blocked {
					v.Status, v.Want = assess.Ready, fleet.Options{HopLimit: 1}
				}
			})
		}), "map[HttpPutResponseHopLimit:1]), which is blocked, not ready"},
		{"a higher hop limit for what is exempt", instance, entry(func(e *all.Entry) {
			plantVerdict(e, func(v *assess.Verdict) {
				if v.Status == assess.Exempt {
					v.Status = assess.Unknown
				}
			})
		}), "map[HttpPutResponseHopLimit:2]), which is exempt, not ready"},
		{"an asking that writes", instance, entry(func(e *all.Entry) {
			plantAsk(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				if err := d.(kind.UndoChecker).CheckUndo(ctx, w); err != nil {
					return err
				}
				w.After = w.Before
				_, err := d.Write(ctx, w)
				return err
			})
		}), "could be undone wrote"},
		{"an asking that swallows a denial", template, entry(func(e *all.Entry) {
			plantAsk(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				if err := d.(kind.UndoChecker).CheckUndo(ctx, w); fleet.ClassOf(err) != fleet.ErrDenied {
					return err
				}
				return nil
			})
		}), "could be undone: <nil>, though a service control policy does not allow"},
		{"an asking that takes a fault for yes", instance, entry(func(e *all.Entry) {
			plantAsk(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				if err := d.(kind.UndoChecker).CheckUndo(ctx, w); fleet.ClassOf(err) != fleet.ErrTransient {
					return err
				}
				return nil
			})
		}), "with a fault of the service at call 1: <nil>"},
		{"an asking that overlooks enforcement", instance, entry(func(e *all.Entry) {
			plantAsk(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				if err := d.(kind.UndoChecker).CheckUndo(ctx, w); fleet.ClassOf(err) != fleet.ErrConflict {
					return err
				}
				return nil
			})
		}), "under HttpTokensEnforced: <nil>; the undo meets"},
		{"an asking about the change, not its undo", defaults, entry(func(e *all.Entry) {
			plantAsk(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				w.Before, w.After = w.After, w.Before
				return d.(kind.UndoChecker).CheckUndo(ctx, w)
			})
		}), "and the undo sends"},
		{"an asking of nobody", defaults, entry(func(e *all.Entry) {
			plantAsk(e, func(context.Context, kind.Driver, kind.Write) error { return nil })
		}), "was not asked of ec2:ModifyInstanceMetadataDefaults"},
		{"an asking that is promised and not there", instance, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver { return broken{Driver: d} })
		}), "that the driver has one is false"},
		{"a dry run that writes", instance, entry(func(e *all.Entry) {
			plantDryRun(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				_, err := d.Write(ctx, w)
				return err
			})
		}), "wrote: map[ec2:ModifyInstanceMetadataOptions:1]"},
		{"a dry run that writes and is denied", defaults, entry(func(e *all.Entry) {
			plantDryRun(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				if err := d.(kind.DryRunner).DryRun(ctx, w); err != nil {
					_, err := d.Write(ctx, w)
					return err
				}
				return nil
			})
		}), ", which is denied, called ec2:ModifyInstanceMetadataDefaults without DryRun"},
		{"a dry run that swallows a denial", template, entry(func(e *all.Entry) { plantDryRun(e, without(fleet.ErrDenied)) }),
			": <nil>, though a service control policy does not allow"},
		{"a dry run that takes a fault for yes", instance, entry(func(e *all.Entry) {
			plantDryRun(e, without(fleet.ErrTransient))
		}), "with a fault of the service at call 1: <nil>"},
		{"a dry run that takes a resource that is gone for fine", template, entry(func(e *all.Entry) {
			plantDryRun(e, without(fleet.ErrGone))
		}), "which does not exist, says yes"},
		{"a dry run that overlooks enforcement", instance, entry(func(e *all.Entry) {
			plantDryRun(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				w.After = w.After.With(fleet.State{fleet.FieldTokens: fleet.TokensRequired})
				return d.(kind.DryRunner).DryRun(ctx, w)
			})
		}), "under HttpTokensEnforced: <nil>; the write meets"},
		{"a dry run about something else", defaults, entry(func(e *all.Entry) {
			plantDryRun(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				w.Before, w.After = w.After, w.Before
				return d.(kind.DryRunner).DryRun(ctx, w)
			})
		}), "and the write sends"},
		{"a dry run that asks nobody", template, entry(func(e *all.Entry) {
			plantDryRun(e, func(context.Context, kind.Driver, kind.Write) error { return nil })
		}), "did not ask ec2:CreateLaunchTemplateVersion"},
		{"a dry run that uses the token up", template, entry(func(e *all.Entry) {
			plantDryRun(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				if _, err := d.Write(ctx, w); err != nil {
					return err
				}
				return d.(kind.DryRunner).DryRun(ctx, w)
			})
		}), "after its dry run"},
		{"a dry run that asks twice", instance, entry(func(e *all.Entry) {
			plantDryRun(e, func(ctx context.Context, d kind.Driver, w kind.Write) error {
				return errors.Join(d.(kind.DryRunner).DryRun(ctx, w), d.(kind.DryRunner).DryRun(ctx, w))
			})
		}), "more often than the verb's DryRun says"},
		{"a dry run that is promised and not there", instance, entry(func(e *all.Entry) {
			plantDriver(e, func(d kind.Driver) kind.Driver { return broken{Driver: d} })
		}), "a verb counts the calls of a dry run: true; that the driver has one is false"},
		{"a dry run that is there and not promised", defaults, entry(func(e *all.Entry) { e.Kind.Verbs[0].DryRun = nil }),
			"a verb counts the calls of a dry run: false; that the driver has one is true"},
		{"a dry run for which the role lacks a permission", defaults, entry(func(e *all.Entry) {
			e.Kind.Verbs[0].DryRun["ec2:GetInstanceMetadataDefaults"] = 1
			delete(e.Kind.Verbs[0].Calls, "ec2:GetInstanceMetadataDefaults")
		}), "in a dry run and neither in Calls nor in Checks"},
		{"no command line", instance, entry(func(e *all.Entry) { e.Kind.Commands = nil }), "no commands to do it by hand"},
	}
}

// noted runs the suite over one kind of the list, with what was planted, and gives the failures it noted.
func noted(t *testing.T, name string, plant func(*suite, *all.Entry, fstest.MapFS)) []string {
	e, ok := all.Find(name)
	if !ok {
		t.Fatalf("kind %s is not in the list", name)
	}
	fixture := path.Join(e.Kind.Folder(), "testdata", "fixture.json")
	b, err := os.ReadFile(path.Join("..", "..", "kinds", fixture))
	if err != nil {
		t.Fatal(err)
	}
	folders := fstest.MapFS{fixture: {Data: b}}
	s := suite{folders: folders, applier: Reference()}
	if plant != nil {
		plant(&s, &e, folders)
	}
	s.entries = []all.Entry{e}
	var lines []string
	notes{ctx: t.Context(), lines: &lines}.Run("", func(n T) { s.run(n) })
	return lines
}

func TestSuitePassesWithoutFault(t *testing.T) {
	for _, e := range all.List() {
		t.Run(e.Kind.Name, func(t *testing.T) {
			if lines := noted(t, e.Kind.Name, nil); len(lines) > 0 {
				t.Errorf("the suite failed %d times; first: %s", len(lines), lines[0])
			}
		})
	}
}

func TestSuiteFailsForEachPlantedFault(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			lines := noted(t, f.kind, f.plant)
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, f.want) }) {
				t.Errorf("the suite noted %d failures, none with %q:\n%s", len(lines), f.want,
					strings.Join(lines[:min(len(lines), 5)], "\n"))
			}
		})
	}
}
