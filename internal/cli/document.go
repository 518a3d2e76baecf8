package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
)

// jsonVersion is the version of all JSON that commands print. Each document says it in its first key.
const jsonVersion = 1

// writeJSON prints one document.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// list prints a document whose last field is a list of any length, one element a line, as they come.
type list struct {
	w     io.Writer
	n     int
	enc   *json.Encoder
	first string
}

// newList begins {"imdsctl_NAME":1,"NAME":[ .
func newList(w io.Writer, name string) *list {
	l := &list{w: w, enc: json.NewEncoder(w), first: fmt.Sprintf("{\"imdsctl_%s\":%d,\"%s\":[\n", name, jsonVersion, name)}
	l.enc.SetEscapeHTML(false)
	return l
}

func (l *list) add(v any) error {
	lead := ","
	if l.n == 0 {
		lead = l.first
	}
	l.n++
	if _, err := io.WriteString(l.w, lead); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	if err := l.enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func (l *list) end() error {
	tail := "]}\n"
	if l.n == 0 {
		tail = l.first + tail
	}
	_, err := io.WriteString(l.w, tail)
	return err
}

// writeCSV prints rows as they come, under a header.
func writeCSV(w io.Writer, columns []string, rows func(yield func([]string, error) bool)) error {
	out := csv.NewWriter(w)
	if err := out.Write(columns); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	for row, err := range rows {
		if err != nil {
			out.Flush()
			return err
		}
		if err := out.Write(row); err != nil {
			return fmt.Errorf("write CSV: %w", err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
