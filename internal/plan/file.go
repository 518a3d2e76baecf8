package plan

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// A plan file is JSON lines: the header, then one stack, change, manual step or exempt resource a line, then the digest of
// all bytes before that last line. It can be read with any tool and never needs to be held whole.
type line struct {
	Stack  *Stack  `json:"stack,omitempty"`
	Change *Change `json:"change,omitempty"`
	Manual *Manual `json:"manual,omitempty"`
	Exempt *Exempt `json:"exempt,omitempty"`
	Digest string  `json:"digest,omitempty"`
}

// Write writes the plan and sets its digest, which is computed while the lines go by.
func Write(w io.Writer, p *Plan) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<16)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p.Header); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	write := func(l line) error {
		if err := enc.Encode(l); err != nil {
			return fmt.Errorf("write plan: %w", err)
		}
		return nil
	}
	for i := range p.Stacks {
		if err := write(line{Stack: &p.Stacks[i]}); err != nil {
			return err
		}
	}
	for i := range p.Changes {
		if err := write(line{Change: &p.Changes[i]}); err != nil {
			return err
		}
	}
	for i := range p.Manuals {
		if err := write(line{Manual: &p.Manuals[i]}); err != nil {
			return err
		}
	}
	for i := range p.Exempt {
		if err := write(line{Exempt: &p.Exempt[i]}); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	p.Digest = hex.EncodeToString(sum.Sum(nil))
	if _, err := fmt.Fprintf(w, "{\"digest\":%q}\n", p.Digest); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	return nil
}

// ErrEdited is a plan file whose content is not what its digest was computed from.
var ErrEdited = errors.New("the plan was changed after it was made")

// maxLine bounds one line of a plan file, in bytes.
const maxLine = 16 << 20

// Read reads a plan file and checks its digest, its version and that its graph holds together. name is for messages.
func Read(r io.Reader, name string) (*Plan, error) {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 1<<16), maxLine)
	sum := sha256.New()
	p := &Plan{}
	bad := func(n int, remedy, format string, args ...any) error {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: fmt.Sprintf("%s:%d", name, n),
			Summary: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	n := 0
	for in.Scan() {
		n++
		raw := in.Bytes()
		if p.Digest != "" {
			return nil, bad(n, "Remove what follows the digest, or make the plan again.", "text after the plan's digest")
		}
		if n == 1 {
			if err := header(raw, &p.Header); err != nil {
				return nil, bad(n, "Give the file that `imdsctl plan --out` wrote.", "%v", err)
			}
		} else if err := p.take(raw); err != nil {
			return nil, bad(n, "Make the plan again; a plan file is not edited by hand.", "%v", err)
		}
		if p.Digest == "" {
			sum.Write(raw)
			sum.Write([]byte{'\n'})
		}
	}
	if err := in.Err(); err != nil {
		return nil, bad(n+1, "Make the plan again.", "cannot be read: %v", err)
	}
	if p.Digest == "" {
		return nil, bad(n, "Make the plan again: the file was cut off.", "the plan has no digest at its end")
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.Digest {
		return nil, fmt.Errorf("%w: %w", fleet.Diagnostic{Severity: fleet.SeverityError, Where: name,
			Summary: fmt.Sprintf("its digest says %s, its content has %s", p.Digest[:min(12, len(p.Digest))], got[:12]),
			Remedy:  "Make the plan again and have it approved; an approval is for one content only."}, ErrEdited)
	}
	if err := p.check(); err != nil {
		return nil, bad(n, "Make the plan again.", "%v", err)
	}
	return p, nil
}

func header(raw []byte, h *Header) error {
	var version struct {
		Format *int `json:"imdsctl_plan"`
	}
	if err := json.Unmarshal(raw, &version); err != nil || version.Format == nil {
		return errors.New("this is not an imdsctl plan")
	}
	if *version.Format != FormatVersion {
		return fmt.Errorf("the plan has format %d, this imdsctl reads %d", *version.Format, FormatVersion)
	}
	return strict(raw, h)
}

func strict(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more than one value in a line")
	}
	return nil
}

func (p *Plan) take(raw []byte) error {
	var l line
	if err := strict(raw, &l); err != nil {
		return err
	}
	switch {
	case l.Stack != nil:
		p.Stacks = append(p.Stacks, *l.Stack)
	case l.Change != nil:
		p.Changes = append(p.Changes, *l.Change)
	case l.Manual != nil:
		p.Manuals = append(p.Manuals, *l.Manual)
	case l.Exempt != nil:
		p.Exempt = append(p.Exempt, *l.Exempt)
	case l.Digest != "":
		p.Digest = l.Digest
	default:
		return errors.New("an empty line")
	}
	return nil
}

// check makes sure that the graph holds together: every stack, step, needed change and reference exists and comes before.
func (p *Plan) check() error {
	for i, c := range p.Header.Calendars {
		if err := c.Check(); err != nil {
			return fmt.Errorf("calendar %d: %w", i+1, err)
		}
	}
	stacks := make(map[string]*Stack, len(p.Stacks))
	for i := range p.Stacks {
		s := &p.Stacks[i]
		if stacks[s.ID] != nil {
			return fmt.Errorf("stack %s stands twice", s.ID)
		}
		if s.Wave < 0 || s.Wave >= len(p.Header.Waves) {
			return fmt.Errorf("stack %s names wave %d of %d", s.ID, s.Wave, len(p.Header.Waves))
		}
		if len(s.Steps) == 0 {
			return fmt.Errorf("stack %s has no step", s.ID)
		}
		if s.Ring < 0 || s.Ring >= len(p.Stacks) {
			return fmt.Errorf("stack %s is in ring %d of %d stacks", s.ID, s.Ring, len(p.Stacks))
		}
		if s.Calendar < 0 || s.Calendar > len(p.Header.Calendars) {
			return fmt.Errorf("stack %s names calendar %d of %d", s.ID, s.Calendar, len(p.Header.Calendars))
		}
		for _, g := range s.Gates {
			if g < 0 || g >= len(p.Header.Rules.Gates) {
				return fmt.Errorf("stack %s names gate %d of %d", s.ID, g, len(p.Header.Rules.Gates))
			}
		}
		stacks[s.ID] = s
	}
	for _, s := range p.Stacks {
		for _, a := range s.After {
			if stacks[a] == nil {
				return fmt.Errorf("stack %s comes after %s, which is not there", s.ID, a)
			}
		}
	}
	seen := make(map[string]*Change, len(p.Changes))
	for i := range p.Changes {
		c := &p.Changes[i]
		s := stacks[c.Stack]
		if s == nil || c.Step < 0 || c.Step >= len(s.Steps) {
			return fmt.Errorf("change %s names step %d of stack %q, which is not there", c.ID, c.Step, c.Stack)
		}
		if seen[c.ID] != nil {
			return fmt.Errorf("change %s stands twice", c.ID)
		}
		if c.Ref.Place != s.Place {
			return fmt.Errorf("change %s is in another place than its stack", c.ID)
		}
		for _, id := range c.Needs {
			if n := seen[id]; n == nil || n.Stack != c.Stack {
				return fmt.Errorf("change %s needs %s, which does not stand before it in its stack", c.ID, id)
			}
		}
		for _, m := range []map[string]string{c.Before, c.After, c.Params} {
			for k, v := range m {
				for _, id := range References(v) {
					if id != c.ID && seen[id] == nil {
						return fmt.Errorf("change %s: %s refers to %s, which does not stand before it", c.ID, k, id)
					}
				}
			}
		}
		seen[c.ID] = c
	}
	return nil
}
