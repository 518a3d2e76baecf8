package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// meter stands between a client and PostgreSQL and counts what it asks for. See
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
type meter struct {
	url  string
	mu   sync.Mutex
	said map[string]int // statements, by their text
	// turns is how often the client waited for the server.
	turns int
}

// newMeter listens before the server of the URL, until the test ends.
func newMeter(tb testing.TB, database string) *meter {
	tb.Helper()
	u, err := url.Parse(database)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() }) // what listens no more needs no closing
	behind := u.Host
	u.Host = l.Addr().String()
	m := &meter{url: u.String(), said: map[string]int{}}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go m.carry(client, behind)
		}
	}()
	return m
}

// carry hands everything on between one client and the server.
func (m *meter) carry(client net.Conn, behind string) {
	defer client.Close()
	server, err := net.Dial("tcp", behind)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer client.Close()
		_, _ = io.Copy(client, server) // ends with either of them
	}()
	in := bufio.NewReader(client)
	prepared := map[string]string{}
	for first := true; ; first = false {
		kind, message, err := readMessage(in, first)
		if err != nil {
			return
		}
		m.count(kind, message, prepared)
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// readMessage reads one whole message of the client. The first of a connection has no type.
func readMessage(in *bufio.Reader, first bool) (kind byte, message []byte, err error) {
	head := make([]byte, 5)
	if first {
		head = head[:4]
	}
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, nil, err
	}
	if !first {
		kind = head[0]
	}
	body := make([]byte, max(4, binary.BigEndian.Uint32(head[len(head)-4:]))-4)
	_, err = io.ReadFull(in, body)
	return kind, append(head, body...), err
}

// count notes a message: a query, a statement that is prepared, or one that is carried out.
func (m *meter) count(kind byte, message []byte, prepared map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	words := bytes.Split(message[min(5, len(message)):], []byte{0})
	switch kind {
	case 'Q':
		m.said[string(words[0])]++
		m.turns++
	case 'P':
		prepared[string(words[0])] = string(words[1])
	case 'B': // every one is followed by its Execute
		m.said[prepared[string(words[1])]]++
	case 'S':
		m.turns++
	}
}

// take gives what was counted, and begins anew.
func (m *meter) take() (said map[string]int, turns int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	said, turns = m.said, m.turns
	m.said, m.turns = map[string]int{}, 0
	return said, turns
}

// statements are counts by text as a table, the most frequent first, with as many of each as there are to a change.
func statements(said map[string]int, changes int) (table string, all, commits int) {
	var b strings.Builder
	texts := slices.SortedFunc(maps.Keys(said), func(x, y string) int { return said[y] - said[x] })
	for _, text := range texts {
		n := said[text]
		all += n
		if strings.EqualFold(text, "commit") {
			commits += n
		}
		line := strings.Join(strings.Fields(text), " ")
		if float64(n) >= 0.02*float64(changes) {
			fmt.Fprintf(&b, "\n%8.2f  %s", float64(n)/float64(changes), line[:min(110, len(line))])
		}
	}
	return b.String(), all, commits
}
