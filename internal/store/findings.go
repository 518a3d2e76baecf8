package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// ErrKnownFile is a file whose findings were taken in before: taken in again, its calls would count twice.
var ErrKnownFile = errors.New("the file was taken in already")

// ErrNoImport is an import that is not on record.
var ErrNoImport = errors.New("there is no such import")

// PutFindings takes findings in, with the digests of the files that they come from, and gives the import back with its id and the
// number of findings kept. It is one transaction: an error, of findings too, leaves nothing.
//
// What is equal but for its times adds up within a day. Of a source that Replaces, what earlier imports of the same origin said of the
// subjects is dropped; other sources refuse a digest that they have (ErrKnownFile). findings is gone through once, before the
// transaction begins, and laid down in a temporary file: so many may come, and slowly, without keeping other writers waiting.
func (s *Store) PutFindings(ctx context.Context, in evidence.Import, files []string, findings iter.Seq2[evidence.Finding, error]) (
	evidence.Import, error) {
	spool, err := newSpool()
	if err != nil {
		return evidence.Import{}, err
	}
	defer spool.close()
	if err := spool.fill(ctx, in, findings); err != nil {
		return evidence.Import{}, fmt.Errorf("take in findings of %s: %w", in.Origin, err)
	}
	err = s.updateAt(ctx, "take in findings of "+in.Origin, "findings", func(tx *txn) error {
		w := &findingWriter{tx: tx, in: in, texts: map[string]int64{}, subjects: map[evidence.Subject]int64{}, said: map[int64]bool{}}
		if err := w.write(ctx, files, spool); err != nil {
			return err
		}
		in = w.in
		return nil
	})
	if err != nil {
		return evidence.Import{}, err
	}
	return in, nil
}

// spool is a temporary file of findings that can be read several times.
type spool struct{ file *os.File }

func newSpool() (*spool, error) {
	file, err := os.CreateTemp("", "imdsctl-findings-*")
	if err != nil {
		return nil, fmt.Errorf("take in findings: %w", err)
	}
	_ = os.Remove(file.Name()) // where the system lets it, so that nothing stays of a killed process; close does it elsewhere
	return &spool{file}, nil
}

func (s *spool) close() {
	_ = s.file.Close() // nothing in it is needed any more
	_ = os.Remove(s.file.Name())
}

// fill lays the findings down as they will be kept.
func (s *spool) fill(ctx context.Context, in evidence.Import, findings iter.Seq2[evidence.Finding, error]) error {
	buffer := bufio.NewWriter(s.file)
	encoder := gob.NewEncoder(buffer)
	moment := in.Made
	if moment.IsZero() {
		moment = in.At
	}
	for f, err := range findings {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if f.Source == "" {
			f.Source = in.Source
		}
		if f.Origin == "" {
			f.Origin = in.Origin
		}
		if f.Subject == (evidence.Subject{}) {
			f.Subject = in.Subject
		}
		if f.First.IsZero() {
			f.First = moment
		}
		if f.Last.IsZero() {
			f.Last = f.First
		}
		f.Detail, f.Origin = words(f.Detail), words(f.Origin)
		if err := f.Check(); err != nil {
			return fmt.Errorf("%s of %s: %w", f.What, f.Subject, err)
		}
		if f.Source != in.Source {
			return fmt.Errorf("%s of %s comes from %s, and the import from %s", f.What, f.Subject, f.Source.Title(), in.Source.Title())
		}
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	return buffer.Flush()
}

// chunks gives the findings in pieces that one statement takes.
func (s *spool) chunks(yield func([]evidence.Finding, error) bool) {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		yield(nil, err)
		return
	}
	decoder := gob.NewDecoder(s.file)
	chunk := make([]evidence.Finding, 0, batch)
	for {
		var f evidence.Finding
		err := decoder.Decode(&f)
		if err == nil {
			chunk = append(chunk, f)
		}
		if len(chunk) == batch || errors.Is(err, io.EOF) && len(chunk) > 0 {
			if !yield(chunk, nil) {
				return
			}
			chunk = chunk[:0]
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
	}
}

// internedTexts bounds what a writer remembers of texts and of subjects, at about 150 bytes each.
const internedTexts = 50_000

// findingWriter takes one import in within one transaction.
type findingWriter struct {
	tx       *txn
	in       evidence.Import
	texts    map[string]int64
	subjects map[evidence.Subject]int64
	said     map[int64]bool // subjects of which nothing older stands any more
}

func (w *findingWriter) write(ctx context.Context, files []string, spool *spool) error {
	subject, sample := "", 0
	if w.in.Subject != (evidence.Subject{}) {
		b, err := json.Marshal(w.in.Subject)
		if err != nil {
			return err
		}
		subject = string(b)
	}
	if w.in.Sample || w.in.Lost != "" {
		sample = 1
	}
	err := w.tx.QueryRowContext(ctx, sqlAddImport, string(w.in.Source), words(w.in.Origin), words(subject), sample).Scan(&w.in.ID)
	if err != nil {
		return err
	}
	if err := w.files(ctx, files); err != nil {
		return err
	}
	if w.in.Subject != (evidence.Subject{}) {
		if err := w.replace(ctx, []evidence.Subject{w.in.Subject}); err != nil {
			return err
		}
	}
	for chunk, err := range spool.chunks {
		if err != nil {
			return err
		}
		if err := w.chunk(ctx, chunk); err != nil {
			return err
		}
	}
	return w.close(ctx, subject)
}

// files notes which files were taken in.
func (w *findingWriter) files(ctx context.Context, files []string) error {
	files = slices.Compact(slices.Sorted(slices.Values(files)))
	for chunk := range slices.Chunk(files, batch) {
		args := []any{string(w.in.Source)}
		var rows []any
		for _, digest := range chunk {
			args = append(args, digest)
			rows = append(rows, string(w.in.Source), digest, w.in.ID)
		}
		if w.in.Source.Replaces() {
			if _, err := w.tx.ExecContext(ctx, sqlForgetFiles+list(len(chunk)), args...); err != nil {
				return err
			}
		}
		var known int
		if err := w.tx.QueryRowContext(ctx, sqlKnownFiles+list(len(chunk)), args...).Scan(&known); err != nil {
			return err
		}
		if known > 0 {
			return fmt.Errorf("%w, %d of the files", ErrKnownFile, known)
		}
		if _, err := w.tx.ExecContext(ctx, sqlAddFiles+tuples(len(chunk), 3), rows...); err != nil {
			return err
		}
	}
	return nil
}

// chunk writes some findings.
func (w *findingWriter) chunk(ctx context.Context, chunk []evidence.Finding) error {
	if err := w.intern(ctx, chunk); err != nil {
		return err
	}
	if w.in.Source.Replaces() {
		subjects := make([]evidence.Subject, len(chunk))
		for i, f := range chunk {
			subjects[i] = f.Subject
		}
		if err := w.replace(ctx, subjects); err != nil {
			return err
		}
	}
	rows := map[findingKey]*findingCount{}
	var order []findingKey // so that equal imports are written alike
	for i := range chunk {
		f := &chunk[i]
		k := findingKey{w.subjects[f.Subject], w.texts[string(f.What)], w.texts[f.Product], w.texts[f.Version], w.texts[f.Detail],
			w.texts[f.Origin], int64(f.HopLimit), day(f.First)}
		c := rows[k]
		if c == nil {
			c = &findingCount{first: milliseconds(f.First), last: milliseconds(f.Last)}
			rows[k] = c
			order = append(order, k)
		}
		c.calls += f.Count
		c.first, c.last = min(c.first, milliseconds(f.First)), max(c.last, milliseconds(f.Last))
	}
	args := make([]any, 0, len(order)*12)
	for _, k := range order {
		c := rows[k]
		args = append(args, k.subject, w.in.ID, k.what, k.product, k.version, k.detail, k.origin, k.hops, k.day, c.calls, c.first, c.last)
	}
	_, err := w.tx.ExecContext(ctx, sqlPutFindings+tuples(len(order), 12)+sqlAddUp, args...)
	return err
}

// findingKey is what equal findings of one day have in common; all but hops and day are ids.
type findingKey struct{ subject, what, product, version, detail, origin, hops, day int64 }

type findingCount struct{ calls, first, last int64 }

// day counts days since 1970.
func day(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix() / int64(24*time.Hour/time.Second)
}

// replace drops what earlier imports of this origin said of the subjects.
func (w *findingWriter) replace(ctx context.Context, subjects []evidence.Subject) error {
	if !w.in.Source.Replaces() {
		return nil
	}
	for _, subject := range subjects {
		if _, ok := w.subjects[subject]; !ok {
			if err := w.intern(ctx, []evidence.Finding{{Subject: subject}}); err != nil {
				return err
			}
		}
		id := w.subjects[subject]
		if w.said[id] {
			continue
		}
		w.said[id] = true
		if _, err := w.tx.ExecContext(ctx, sqlReplaceFindings, id, string(w.in.Source), words(w.in.Origin), w.in.ID); err != nil {
			return err
		}
	}
	return nil
}

// intern sees to it that all texts and subjects of the findings have ids.
func (w *findingWriter) intern(ctx context.Context, chunk []evidence.Finding) error {
	if len(w.texts)+5*len(chunk) > internedTexts {
		clear(w.texts)
	}
	if len(w.subjects)+len(chunk) > internedTexts {
		clear(w.subjects)
	}
	w.texts[""] = 0
	var missing []string
	for _, f := range chunk {
		for _, text := range []string{f.Subject.ID, string(f.What), f.Product, f.Version, f.Detail, f.Origin} {
			if _, ok := w.texts[text]; !ok {
				w.texts[text] = 0
				missing = append(missing, text)
			}
		}
	}
	for texts := range slices.Chunk(missing, batch) {
		if err := w.internTexts(ctx, texts); err != nil {
			return err
		}
	}
	for _, f := range chunk {
		if _, ok := w.subjects[f.Subject]; ok {
			continue
		}
		s := f.Subject
		id, err := intern(ctx, w.tx, sqlSubjectID, sqlAddSubject, string(s.Account), string(s.Region), s.Kind, w.texts[s.ID])
		if err != nil {
			return err
		}
		w.subjects[s] = id
	}
	return nil
}

func (w *findingWriter) internTexts(ctx context.Context, texts []string) error {
	byHash := make(map[[16]byte]string, len(texts))
	var rows, hashes []any
	for _, text := range texts {
		sum := sha256.Sum256([]byte(text))
		hash := [16]byte(sum[:16])
		byHash[hash] = text
		rows, hashes = append(rows, hash[:], text), append(hashes, hash[:])
	}
	if _, err := w.tx.ExecContext(ctx, sqlAddTexts+tuples(len(texts), 2)+` ON CONFLICT DO NOTHING`, rows...); err != nil {
		return err
	}
	return query(ctx, w.tx, sqlTextIDs+list(len(texts)), hashes, func(rows *sql.Rows) error {
		var hash []byte
		var id int64
		if err := rows.Scan(&hash, &id); err != nil {
			return err
		}
		if len(hash) != 16 {
			return errors.New("the hash of a text is damaged")
		}
		w.texts[byHash[[16]byte(hash)]] = id
		return nil
	})
}

// close records the import as it ended, and which earlier ones have nothing left that holds.
func (w *findingWriter) close(ctx context.Context, subject string) error {
	if err := w.tx.QueryRowContext(ctx, sqlCountFindings, w.in.ID).Scan(&w.in.Findings); err != nil {
		return err
	}
	body, err := json.Marshal(w.in)
	if err != nil {
		return err
	}
	if err := one(w.tx.ExecContext(ctx, sqlCloseImport, w.in.ID, w.in.Findings, string(body))); err != nil {
		return err
	}
	if !w.in.Source.Replaces() {
		return nil
	}
	_, err = w.tx.ExecContext(ctx, sqlReplacedImports, w.in.ID, string(w.in.Source), words(w.in.Origin), words(subject))
	if err == nil {
		_, err = w.tx.ExecContext(ctx, sqlReplacedFiles, w.in.ID)
	}
	return err
}

// HasFile tells whether the findings of a file, by its digest, are here already.
func (s *Store) HasFile(ctx context.Context, source evidence.Source, digest string) (bool, error) {
	var n int
	err := s.view(ctx, "look for a file of "+source.Title(), func(tx *txn) error {
		return tx.QueryRowContext(ctx, sqlKnownFiles+list(1), string(source), digest).Scan(&n)
	})
	return n > 0, err
}

// Imports lists what was taken in, oldest first.
func (s *Store) Imports(ctx context.Context) (out []evidence.Import, err error) {
	err = s.view(ctx, "read imports", func(tx *txn) error {
		out = nil
		return query(ctx, tx, sqlImports, nil, func(rows *sql.Rows) error {
			var id, replaced int64
			var body string
			if err := rows.Scan(&id, &replaced, &body); err != nil {
				return err
			}
			var in evidence.Import
			if err := json.Unmarshal([]byte(body), &in); err != nil {
				return fmt.Errorf("import %d: %w", id, err)
			}
			in.ID, in.ReplacedBy = id, replaced
			out = append(out, in)
			return nil
		})
	})
	return out, err
}

// DropImport forgets an import with its findings and files; ErrNoImport where there is none. What it had replaced does not come back.
func (s *Store) DropImport(ctx context.Context, id int64) error {
	return s.update(ctx, fmt.Sprintf("forget import %d", id), func(tx *txn) error {
		for _, statement := range []string{sqlDropFindings, sqlDropFiles} {
			if _, err := tx.ExecContext(ctx, statement, id); err != nil {
				return err
			}
		}
		err := one(tx.ExecContext(ctx, sqlDropImport, id))
		if errors.Is(err, errNoRow) {
			return fmt.Errorf("%w: %d", ErrNoImport, id)
		}
		return err
	})
}

// Findings gives what was found of an account and of what belongs to any, in a stable order. Those that are equal but for
// their times are one for each day, with the calls of all imports.
func (s *Store) Findings(ctx context.Context, account fleet.AccountID) (out []evidence.Finding, err error) {
	err = s.view(ctx, "read findings of "+string(account), func(tx *txn) error {
		out = nil
		texts := map[string]string{} // findings share theirs, here too
		shared := func(t string) string {
			if have, ok := texts[t]; ok {
				return have
			}
			texts[t] = t
			return t
		}
		return query(ctx, tx, sqlFindings, []any{string(account)}, func(rows *sql.Rows) error {
			f, err := scanFinding(rows, shared)
			out = append(out, f)
			return err
		})
	})
	slices.SortStableFunc(out, evidence.CompareFindings)
	return out, err
}

func scanFinding(rows *sql.Rows, shared func(string) string) (evidence.Finding, error) {
	var f evidence.Finding
	var account, region, kind, id, source, what, product, version, detail, origin string
	var first, last int64
	err := rows.Scan(&account, &region, &kind, &id, &source, &what, &product, &version, &detail, &origin, &f.HopLimit, &f.Count, &first,
		&last, &f.Sample)
	if err != nil {
		return f, err
	}
	f.Subject = evidence.Subject{Account: fleet.AccountID(shared(account)), Region: fleet.Region(shared(region)), Kind: shared(kind),
		ID: shared(id)}
	f.Source, f.What = evidence.Source(shared(source)), evidence.What(shared(what))
	f.Product, f.Version, f.Detail, f.Origin = shared(product), shared(version), shared(detail), shared(origin)
	f.First, f.Last = fromMilliseconds(first), fromMilliseconds(last)
	return f, nil
}
