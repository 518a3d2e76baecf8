package software

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/imdsctl/imdsctl/internal/image"
)

// opaque tells whether a file is left unopened for its name.
func opaque(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".a", ".o", ".pyc", ".pyo", ".class", ".png", ".jpg", ".jpeg", ".gif", ".ico", ".webp", ".svg", ".ttf", ".otf", ".woff", ".woff2",
		".mo", ".gmo", ".mp3", ".mp4", ".wav", ".ogg", ".pdf", ".gz", ".xz", ".bz2", ".zst", ".lz4", ".pack", ".idx", ".elc", ".rlib", ".rmeta",
		".db", ".sqlite", ".parquet", ".dat", ".pdb", ".map":
		return true
	}
	return false
}

// headSize is how much of a file is looked at to tell what it is, in bytes.
const headSize = 4096

// content looks at a file that no name says anything of: a program, a script, or data.
func (l *level) content(name string, info fs.FileInfo) {
	f := l.open(name)
	if f == nil {
		return
	}
	defer f.Close()
	first := l.s.part(info.Size())
	n, err := f.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		l.gap(name, "it cannot be read: "+image.Reason(err))
		return
	}
	first = first[:n]
	switch head := first[:min(headSize, n)]; {
	case bytes.HasPrefix(head, []byte("hsqs")): // a squashfs, such as a snap that is not mounted
		l.s.rep.Unopened++
	case isProgram(head):
		l.program(f, name, info)
	case isText(head) && !documentation(name):
		l.text(f, name, info, first)
	}
}

// part is the scan's one buffer, as long as a file of a size needs it; it is good until the next call.
func (s *scan) part(size int64) []byte {
	if s.buffer == nil {
		s.buffer = make([]byte, chunk)
	}
	return s.buffer[:min(chunk, size)]
}

// isProgram knows ELF, PE and Mach-O, 32 and 64 bit, of one architecture and of several.
func isProgram(head []byte) bool {
	for _, magic := range []string{"\x7fELF", "MZ", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	// The magic of a Mach-O of several architectures is that of a Java class as well, whose next word is a version above 44.
	return bytes.HasPrefix(head, []byte("\xca\xfe\xba\xbe")) && len(head) > 8 && head[7] < 40
}

// isText tells whether a file begins as text does: UTF-16 with its mark, or without a zero byte.
func isText(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) || bytes.IndexByte(head, 0) < 0
}

// chunk is how much of a large file is in memory at a time, in bytes; overlap is what two chunks share, so that nothing that is
// looked for lies between them.
const (
	chunk   = 1 << 20
	overlap = 4096
)

// search calls hit with each part of a file, from a place on, that holds one of the needles, until it returns false. Parts overlap.
func (s *scan) search(r io.ReaderAt, at, size int64, needles [][]byte, hit func(part []byte) bool) error {
	buf := s.part(size)
	for ; at < size; at += chunk - overlap {
		n, err := r.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if part := buf[:n]; holds(part, needles) && !hit(part) {
			return nil
		}
		if at+int64(n) >= size || n == 0 {
			return nil
		}
	}
	return nil
}

func holds(part []byte, needles [][]byte) bool {
	return slices.ContainsFunc(needles, func(needle []byte) bool { return bytes.Contains(part, needle) })
}

// program looks for packages in a program: the modules that Go wrote into it, those of cargo auditable, a Windows library's version,
// and traces of libraries that leave no record.
func (l *level) program(f *opened, name string, info fs.FileInfo) {
	before := l.s.rep.Packages
	for _, e := range l.s.binaries {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			l.gap(name, image.Reason(err))
			return
		}
		packages, err := l.guarded(e, f, name, info)
		if err != nil && l.ctx.Err() == nil && l.mentions(f, name) {
			l.gap(name, "the program's modules cannot be read: "+image.Reason(err))
		}
		for _, p := range packages {
			if found, ok := asPackage(p); ok {
				l.add(stamped(f, found), name)
			}
		}
	}
	if l.s.rep.Packages > before {
		return // its modules say what is in it
	}
	traces, err := l.s.traced(f, info.Size(), path.Base(name))
	if err != nil {
		l.gap(name, "it cannot be read: "+image.Reason(err))
	}
	for _, p := range traces {
		l.add(p, name)
	}
}

// ldflag is a version that the linker was told.
var ldflag = regexp.MustCompile(`(?i)-X[= ]'?"?[^\s'"=]*\bversion(?:\.(?:version|tag|release|number))?=v?(\d+\.\d+[^\s'"]*)`)

// stamped gives a Go program that was built from a checkout, whose own module has no version, the one that its linker was told.
func stamped(f io.ReaderAt, p pkg) pkg {
	if p.ecosystem != golang || p.version != "(devel)" && p.version != "" {
		return p
	}
	p.version = ""
	info, err := buildinfo.Read(f)
	if err != nil || info.Main.Path != p.name {
		return p
	}
	for _, s := range info.Settings {
		if m := ldflag.FindStringSubmatch(s.Value); s.Key == "-ldflags" && m != nil {
			p.version = m[1]
		}
	}
	return p
}

// Traces that libraries leave in programs without a record of modules: the paths of Rust's sources in messages of panics, the names
// of Go's packages, and versions of agents whose programs hold none that a tool could read.
var (
	traceNeedles = [][]byte{
		[]byte("rusoto_credential-"), []byte("/aws-config-"), []byte("github.com/aws/aws-sdk-go/aws/ec2metadata"),
		[]byte("github.com/aws/amazon-ssm-agent/agent"),
	}
	rustTrace  = regexp.MustCompile(`[/\\](rusoto_credential|aws-config)-(\d+\.\d+\.\d+(?:-[\w.]+)?)[/\\]src`)
	agentTrace = regexp.MustCompile(`[\d.]+`)
	agentForm  = regexp.MustCompile(`^[23]\.\d{1,2}\.\d{1,4}\.\d{1,2}$`)
)

// traced looks for libraries in a program that has no record of them.
func (s *scan) traced(f io.ReaderAt, size int64, base string) ([]pkg, error) {
	found := map[pkg]bool{}
	agent, versions := false, map[string]bool{}
	needles := traceNeedles
	if strings.HasPrefix(base, "amazon-ssm-agent") || strings.HasPrefix(base, "ssm-agent-worker") {
		needles = [][]byte{{'.'}}
	}
	err := s.search(f, 0, size, needles, func(part []byte) bool {
		for _, m := range rustTrace.FindAllSubmatch(part, -1) {
			found[pkg{ecosystem: cargo, name: string(m[1]), version: string(m[2])}] = true
		}
		if bytes.Contains(part, traceNeedles[2]) {
			found[pkg{ecosystem: golang, name: "github.com/aws/aws-sdk-go"}] = true
		}
		if bytes.Contains(part, traceNeedles[3]) {
			agent = true
		}
		if len(needles) == 1 {
			for _, m := range agentTrace.FindAll(part, -1) {
				if agentForm.Match(m) {
					versions[string(m)] = true
				}
			}
		}
		return true
	})
	if agent && len(needles) == 1 {
		p := pkg{ecosystem: golang, name: "github.com/aws/amazon-ssm-agent"}
		for v := range versions {
			if p.version = v; len(versions) > 1 {
				p.version = "" // which of them is the agent's, nothing tells
			}
		}
		found[p] = true
	}
	var out []pkg
	for p := range found {
		out = append(out, p)
	}
	return out, err
}

// plain gives UTF-16 text with its mark as UTF-8, and other text as it is.
func plain(text []byte) []byte {
	var at func(i int) uint16
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		at = func(i int) uint16 { return uint16(text[i]) | uint16(text[i+1])<<8 }
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		at = func(i int) uint16 { return uint16(text[i])<<8 | uint16(text[i+1]) }
	default:
		return text
	}
	var units []uint16
	for i := 2; i+1 < len(text); i += 2 {
		units = append(units, at(i))
	}
	return []byte(string(utf16.Decode(units)))
}
