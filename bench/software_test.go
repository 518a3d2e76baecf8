package bench

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/software"
)

// softwareFiles is how many files the scanned folder has, and softwareSize how large each is on average, in bytes.
const (
	softwareFiles = 12_000
	softwareSize  = 20 << 10
)

// BenchmarkSoftware scans a folder of sources, scripts, packages and archives, and the same as an image that docker save wrote, each
// beside its floor in the same run: walking the folder and reading every file, and reading the tar from its start to its end.
func BenchmarkSoftware(b *testing.B) {
	dir := b.TempDir()
	total := makeSoftware(b, dir)
	saved := filepath.Join(b.TempDir(), "image.tar")
	saveImage(b, dir, saved)
	b.Run("folder", func(b *testing.B) { againstFloor(b, dir, total, func() error { return readFiles(dir) }) })
	b.Run("image", func(b *testing.B) { againstFloor(b, saved, total, func() error { return readImage(saved) }) })
}

// againstFloor measures both, the floor first, after one reading that brings the files into the system's memory.
func againstFloor(b *testing.B, path string, total int64, floor func() error) {
	if err := floor(); err != nil {
		b.Fatal(err)
	}
	var read, scanned time.Duration
	for b.Loop() {
		begun := time.Now()
		if err := floor(); err != nil {
			b.Fatal(err)
		}
		read += time.Since(begun)
		begun = time.Now()
		reports, err := software.Scan(context.Background(), path, software.Options{Temp: b.TempDir()})
		scanned += time.Since(begun)
		if err != nil || len(reports) != 1 {
			b.Fatal(len(reports), err)
		}
		r := reports[0]
		if r.GapCount != 0 || r.RawCount != softwareFiles/100 || len(r.Items) != 2 || r.Archives != softwareFiles/100 {
			b.Fatalf("found %d products, %d calls, %d archives and %d gaps", len(r.Items), r.RawCount, r.Archives, r.GapCount)
		}
	}
	b.ReportMetric(float64(total)/1e6*float64(b.N)/scanned.Seconds(), "MB/s")
	b.ReportMetric(scanned.Seconds()/read.Seconds(), "x-floor")
	b.ReportMetric(0, "ns/op")
}

// makeSoftware fills a folder, the same each time, and says how many bytes that is: of a hundred files one calls the metadata
// service, one is an archive of Java with an old SDK in it, one a package's document, ten are programs, and the others are sources.
func makeSoftware(b *testing.B, dir string) (total int64) {
	b.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("return if else for func var import class def self this null true false value name list of get set make new read " +
		"write open close error result config session client request response metadata token region account instance")
	source := func(size int) []byte {
		var out bytes.Buffer
		for out.Len() < size {
			for range 4 + random.IntN(10) {
				out.WriteString(words[random.IntN(len(words))])
				out.WriteByte(' ')
			}
			out.WriteByte('\n')
		}
		return out.Bytes()
	}
	for i := range softwareFiles {
		size := softwareSize/2 + random.IntN(softwareSize)
		name := fmt.Sprintf("src/%d/%d.py", i%97, i)
		var data []byte
		switch i % 100 {
		case 0:
			name, data = fmt.Sprintf("bin/%d", i), append(source(size), "curl http://169.254.169.254/latest/meta-data/instance-id\n"...)
		case 1:
			name, data = fmt.Sprintf("lib/%d.jar", i), javaArchive(b, source(size))
		case 2:
			name, data = fmt.Sprintf("node_modules/%d/package.json", i), []byte(`{"name":"aws-sdk","version":"2.721.0"}`)
		case 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
			name, data = fmt.Sprintf("bin/%d", i), append([]byte("\x7fELF\x02\x01\x01\x00"), source(size*4)...)
		default:
			data = source(size)
		}
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(at, data, 0o644); err != nil {
			b.Fatal(err)
		}
		total += int64(len(data))
	}
	return total
}

// jarOf is an archive of classes and Maven's record of the SDK.
func javaArchive(b *testing.B, class []byte) []byte {
	b.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, data := range map[string][]byte{
		"META-INF/maven/com.amazonaws/aws-java-sdk-core/pom.properties": []byte("groupId=com.amazonaws\nartifactId=aws-java-sdk-core\nversion=1.11.677\n"),
		"org/example/Main.class": class,
	} {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// saveImage writes a folder as an image of one layer.
func saveImage(b *testing.B, dir, file string) {
	b.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	outer := tar.NewWriter(f)
	for name, data := range map[string][]byte{
		"layer.tar": layer.Bytes(), "c.json": []byte("{}"),
		"manifest.json": []byte(`[{"Config":"c.json","RepoTags":["bench:1"],"Layers":["layer.tar"]}]`),
	} {
		err := outer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))})
		if err == nil {
			_, err = outer.Write(data)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := outer.Close(); err != nil {
		b.Fatal(err)
	}
}

func readFiles(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	})
}

func readImage(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}
