package cloudtrail

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/s3"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	// slotSeconds is the time that one file covers, delay how long after its end the file is there.
	slotSeconds = 600
	delay       = 300
)

// slot is one file of a trail: a place and the beginning of its ten minutes, in Unix seconds.
type slot struct {
	place fleet.Place
	at    int64
}

// List gives the log files that are delivered by now, in order. See s3.Objects.
func (t *Trail) List(prefix, after string, now time.Time) iter.Seq[*s3.Object] {
	return func(yield func(*s3.Object) bool) {
		for _, p := range t.places() {
			folder := t.folder(p)
			if !strings.HasPrefix(folder, prefix) && !strings.HasPrefix(prefix, folder) || past(folder) <= after {
				continue
			}
			for at := floor(t.from.Unix()); at+slotSeconds+delay <= now.Unix(); at += slotSeconds {
				key := t.key(p, at)
				if key <= after || !strings.HasPrefix(key, prefix) || t.without(at) {
					continue
				}
				if !yield(t.object(p, at, key)) {
					return
				}
			}
		}
	}
}

// past is behind all keys that begin with a folder.
func past(folder string) string { return strings.TrimSuffix(folder, "/") + "0" }

// Get gives one file. See s3.Objects.
func (t *Trail) Get(key string, now time.Time) *s3.Object {
	for _, p := range t.places() {
		rest, ok := strings.CutPrefix(key, t.folder(p))
		if !ok || len(rest) < len("2006/01/02/") {
			continue
		}
		parts := strings.Split(rest[len("2006/01/02/"):], "_")
		if len(parts) != 5 {
			return nil
		}
		delivered, err := time.Parse("20060102T1504Z", parts[3])
		at := delivered.Unix() - delay - slotSeconds
		if err != nil || at != floor(at) || at < floor(t.from.Unix()) || delivered.After(now) || t.without(at) || t.key(p, at) != key {
			return nil
		}
		return t.object(p, at, key)
	}
	return nil
}

func (t *Trail) without(at int64) bool {
	return slices.Contains(t.Without, time.Unix(at+slotSeconds+delay, 0).UTC().Format(time.DateOnly))
}

// key is the file's name: the time in it is that of its delivery, and sixteen characters tell it from others.
func (t *Trail) key(p *core.Place, at int64) string {
	delivered := time.Unix(at+slotSeconds+delay, 0).UTC()
	var unique [12]byte
	binary.BigEndian.PutUint64(unique[:], hash(t.Name, string(p.Account), string(p.Region), at, 0))
	binary.BigEndian.PutUint32(unique[8:], uint32(hash(t.Name, string(p.Account), string(p.Region), at, 1)))
	name := strings.NewReplacer("-", "x", "_", "y").Replace(base64.RawURLEncoding.EncodeToString(unique[:]))
	return t.folder(p) + delivered.Format("2006/01/02/") + string(p.Account) + "_CloudTrail_" + string(p.Region) + "_" +
		delivered.Format("20060102T1504Z") + "_" + name + ".json.gz"
}

// object makes a file. What it holds can no longer change, so it is made once.
func (t *Trail) object(p *core.Place, at int64, key string) *s3.Object {
	s := slot{p.Place, at}
	t.mu.Lock()
	made := t.made[s]
	t.mu.Unlock()
	if made != nil {
		return made
	}
	var file struct {
		Records []json.RawMessage `json:"Records"`
	}
	p.View(func(time.Time) {
		for e := range t.events(p, at, at+slotSeconds) {
			file.Records = append(file.Records, e.JSON())
		}
	})
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	enc := json.NewEncoder(z)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(file); err != nil { // into memory: texts always encode
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	made = &s3.Object{Key: key, Modified: time.Unix(at+slotSeconds+delay, 0).UTC(), Type: "application/json", Encoding: "gzip",
		Body: body.Bytes()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made[s] = made
	return made
}

// events are those of a place that the trail logs, in order. The place is locked at least for reading.
func (t *Trail) events(p *core.Place, from, to int64) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		for _, e := range gather(t.hosts, p, from, to) {
			if (t.DataEvents || e.Management) && !yield(e) {
				return
			}
		}
	}
}

// Events gives the events between two times that are in files delivered by now, by place. No place may be locked.
func (t *Trail) Events(from, to, now time.Time) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		for _, p := range t.places() {
			end := min(to.Unix(), floor(now.Unix()-delay))
			start := max(from.Unix(), floor(t.from.Unix()))
			var events []*Event
			p.View(func(time.Time) {
				for e := range t.events(p, start, end) {
					if !t.without(floor(e.At.Unix())) {
						events = append(events, e)
					}
				}
			})
			for _, e := range events {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// floor is the beginning of the slot of a time, in Unix seconds.
func floor(at int64) int64 { return at - (at%slotSeconds+slotSeconds)%slotSeconds }
