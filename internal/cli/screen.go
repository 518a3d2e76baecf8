package cli

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/imdsctl/imdsctl/internal/report"
)

// A style is a list of SGR parameters; styles add up: red+bold.
type style string

const (
	bold    style = ";1"
	dim     style = ";2"
	red     style = ";31"
	green   style = ";32"
	yellow  style = ";33"
	blue    style = ";34"
	magenta style = ";35"
	cyan    style = ";36"
)

// screen is one output stream: what it can show.
type screen struct {
	out io.Writer
	// terminal tells that a person looks at it; colour, that escape sequences are welcome.
	terminal, colour bool
	// width in columns; 0 is unlimited, which is what a pipe has.
	width int
}

func newScreen(env Env, w io.Writer) *screen {
	s := &screen{out: w, width: env.Width}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.terminal = true
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && s.width == 0 {
			s.width = columns
		}
	}
	s.colour = s.terminal && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"
	return s
}

// sgr are the escape sequences that paint makes.
var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// visible is text for a person to look at, painted or not: names and tags are strangers', and a character in them that would begin a
// line, move the cursor or turn the text around is shown as what it is.
func visible(words string) string {
	if strings.IndexFunc(words, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return words
	}
	var b strings.Builder
	for rest := words; rest != ""; {
		at := sgr.FindStringIndex(rest)
		if at == nil {
			at = []int{len(rest), len(rest)}
		}
		b.WriteString(printable(rest[:at[0]]))
		b.WriteString(rest[at[0]:at[1]])
		rest = rest[at[1]:]
	}
	return b.String()
}

// paint wraps text in a style where the stream shows colours.
func (s *screen) paint(st style, words string) string {
	if !s.colour || st == "" || words == "" {
		return words
	}
	return "\x1b[" + strings.TrimPrefix(string(st), ";") + "m" + words + "\x1b[0m"
}

// column is a column of a table.
type column struct {
	title string
	right bool
	// flexible columns give way, to no less than floor, where the screen is too narrow.
	flexible bool
	floor    int
}

// table lays rows out in aligned columns without lines, no wider than the screen: what does not fit ends in an
// ellipsis.
func (s *screen) table(columns []column, rows [][]string) string {
	widths := make([]int, len(columns))
	rows = slices.Clone(rows)
	for n := range rows {
		rows[n] = slices.Clone(rows[n])
		for i, cell := range rows[n] {
			rows[n][i] = visible(cell)
		}
	}
	for i, c := range columns {
		widths[i] = len(c.title)
		for _, r := range rows {
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(r[i]))
		}
	}
	s.fit(columns, widths)
	t := table.NewWriter()
	look := table.StyleDefault
	look.Options = table.OptionsNoBordersAndSeparators
	look.Box.PaddingLeft, look.Box.PaddingRight = "", "  "
	look.Format.Header, look.Format.HeaderAlign = text.FormatDefault, text.AlignDefault
	t.SetStyle(look)
	header := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, c := range columns {
		header[i] = s.paint(dim, c.title)
		configs[i] = table.ColumnConfig{
			Number: i + 1, WidthMax: widths[i],
			WidthMaxEnforcer: func(words string, n int) string { return text.Snip(words, n, "…") },
		}
		if c.right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(header)
	for _, r := range rows {
		row := make(table.Row, len(r))
		for i, cell := range r {
			row[i] = cell
		}
		t.AppendRow(row)
	}
	lines := strings.Split(t.Render(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// fit takes from flexible columns, the widest first, what is too much for the screen.
func (s *screen) fit(columns []column, widths []int) {
	if s.width == 0 {
		return
	}
	over := -s.width - 2
	for _, w := range widths {
		over += w + 2
	}
	for over > 0 {
		widest := -1
		for i, c := range columns {
			if c.flexible && widths[i] > max(c.floor, len(c.title), 6) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		over--
	}
}

// count writes a number with its thousands apart: "3,812".
func count[N int | int64](n N) string { return report.Count(n) }

// some is count, with a dot for zero, which is easier to read past in a table.
func some[N int | int64](n N) string {
	if n == 0 {
		return "·"
	}
	return count(n)
}

// plural gives "1 stack", "3 stacks".
func plural[N int | int64](n N, noun string) string { return report.Plural(n, noun) }

// bar draws a share of a whole in n columns.
func bar(n int, done, total int) string {
	if total <= 0 {
		return strings.Repeat("░", n)
	}
	full := min(n, done*n/total)
	if done > 0 && full == 0 {
		full = 1
	}
	if done < total && full == n {
		full = n - 1
	}
	return strings.Repeat("█", full) + strings.Repeat("░", n-full)
}

// wrap breaks words at the width of the screen (100 columns where it has none or more), each line after the first
// indented. What the words begin with stays.
func (s *screen) wrap(words, indent string) string {
	lead := words[:len(words)-len(strings.TrimLeft(words, " "))]
	return s.block(lead, words, indent)
}

// labelled is wrap after a label, with all lines under the first word.
func (s *screen) labelled(label, words string) string {
	return s.block(label, words, strings.Repeat(" ", text.StringWidthWithoutEscSequences(label)))
}

func (s *screen) block(lead, words, indent string) string {
	width := s.width
	if width == 0 || width > 100 {
		width = 100
	}
	var b strings.Builder
	b.WriteString(lead)
	at := text.StringWidthWithoutEscSequences(lead)
	for i, w := range strings.Fields(words) {
		w = visible(w)
		n := text.StringWidthWithoutEscSequences(w)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + indent)
			at = text.StringWidthWithoutEscSequences(indent)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(w)
		at += n
	}
	return b.String()
}
