package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/attention"
)

// Limits of Slack's messages. https://docs.slack.dev/reference/block-kit/blocks/ and .../block-kit/blocks/section-block
const (
	slackBlocks = 50
	slackText   = 3000
	slackHeader = 150
	// slackMost bounds all blocks together, in bytes of their JSON. Slack documents no such limit, and refuses messages of some 13,000
	// characters, at times of fewer, as msg_blocks_too_long: https://github.com/slackapi/bolt-js/issues/2509, and issue 2867 there.
	slackMost = 10_000
)

type block struct {
	Type string     `json:"type"`
	Text *slackWord `json:"text,omitempty"`
	// Elements are those of a context block.
	Elements []slackWord `json:"elements,omitempty"`
}

type slackWord struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// slackMessage writes a message in blocks: a header, one section for each item, and what did not fit.
func slackMessage(m Message) (body []byte, sent []attention.Item, err error) {
	const room = slackBlocks - 3 // header, introduction and what is left out
	title := fmt.Sprintf("IMDSv2: %s for %s", pieces(len(m.Items)), m.Owner)
	doc := struct {
		Text   string  `json:"text"`
		Blocks []block `json:"blocks"`
	}{Text: escape(cut(title, slackHeader))}
	doc.Blocks = append(doc.Blocks,
		block{Type: "header", Text: &slackWord{"plain_text", cut(title, slackHeader)}},
		section("These keep workloads from requiring IMDSv2, or fail where it is required. Found on "+m.At.UTC().Format(time.DateOnly)+"."))
	for i := range m.Items[:min(len(m.Items), room)] {
		doc.Blocks = append(doc.Blocks, section(slackItem(&m.Items[i])))
		all, err := encode(doc.Blocks)
		if err != nil {
			return nil, nil, err
		}
		if len(all) > slackMost && i > 0 {
			doc.Blocks = doc.Blocks[:len(doc.Blocks)-1]
			break
		}
		sent = m.Items[:i+1]
	}
	if left := len(m.Items) - len(sent); left > 0 {
		doc.Blocks = append(doc.Blocks, block{Type: "context", Elements: []slackWord{{"mrkdwn",
			fmt.Sprintf("and %d more: `imdsctl attention --owner '%s'`", left, escape(cut(m.Owner, 80)))}}})
	}
	body, err = encode(doc)
	return body, sent, err
}

func pieces(n int) string {
	if n == 1 {
		return "1 thing to do"
	}
	return fmt.Sprintf("%d things to do", n)
}

func section(text string) block {
	return block{Type: "section", Text: &slackWord{"mrkdwn", text}}
}

// slackItem is an item as a section's text. Each part is cut by itself, so that no escape is cut in two.
func slackItem(i *attention.Item) string {
	w := i.Workload
	var b strings.Builder
	fmt.Fprintf(&b, "*%s* · %s\n", escape(cut(w.Name, 200)), escape(cut(i.Title, 400)))
	fmt.Fprintf(&b, "%s `%s` · account %s%s%s · %s, %s\n", i.Status, i.Cause, w.Account, named(w.AccountName), in(string(w.Region)),
		instances(w.Instances), i.Confidence)
	fmt.Fprintf(&b, "→ %s", escape(cut(i.Fix, 600)))
	if len(i.Links) > 0 && strings.HasPrefix(i.Links[0], "https://") && !strings.ContainsAny(i.Links[0], "<>|") {
		fmt.Fprintf(&b, "\n<%s|more> · `imdsctl attention show %s`", i.Links[0], i.ID)
	}
	if b.Len() > slackText { // only with names that are all escapes
		return fmt.Sprintf("`%s` · `imdsctl attention show %s`", i.Cause, i.ID)
	}
	return b.String()
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return " (" + escape(cut(name, 80)) + ")"
}

func in(region string) string {
	if region == "" {
		return ""
	}
	return ", " + escape(region)
}

func instances(n int) string {
	switch n {
	case 0:
		return "no instance"
	case 1:
		return "1 instance"
	}
	return fmt.Sprintf("%d instances", n)
}

// escape keeps Slack from reading names as markup: https://docs.slack.dev/messaging/formatting-message-text/#escaping
func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

func cut(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

// documentVersion is the version of the JSON document of webhooks.
const documentVersion = 1

// document writes a message for programs.
func document(m Message) ([]byte, error) {
	return encode(struct {
		Version int              `json:"imdsctl_attention"`
		Owner   string           `json:"owner"`
		At      time.Time        `json:"at"`
		Items   []attention.Item `json:"items"`
	}{documentVersion, m.Owner, m.At.UTC(), m.Items})
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("write the message: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
