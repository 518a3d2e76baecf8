package tracer

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// redacted stands where a secret was.
const redacted = "[redacted]"

// Bounds of a command line as it is kept.
const (
	maxArgs     = 64
	maxArg      = 1024
	maxAllArgs  = 4096
	leftOut     = "…"
	longestWord = 100 // a word so long, mixed of capitals, small letters and digits, is taken for a secret
)

// Redact takes secrets out of a command line: tokens of the metadata service, AWS's keys, values of what is called a password, a token, a
// secret or a key, Authorization headers, cookies, the user part of URLs, and well-known shapes of tokens. It rather hides too much.
// What is left is bounded: 64 arguments of 1 KiB, 4 KiB in all.
func Redact(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	out := make([]string, 0, min(len(args), maxArgs))
	program := path.Base(args[0])
	hide, pair, size := false, false, 0
	for n, arg := range args {
		if n == maxArgs || size > maxAllArgs {
			out = append(out, leftOut)
			break
		}
		shown := argument(arg, program, n)
		switch {
		case hide:
			shown = redacted
		case pair:
			shown = redactPair(shown)
		}
		if len(shown) > maxArg {
			shown = cut(shown, maxArg) + leftOut
		}
		size += len(shown)
		out = append(out, shown)
		hide, pair = n > 0 && namesSecret(arg, program), slices.Contains([]string{"-u", "--user", "-U", "--proxy-user"}, arg)
	}
	return out
}

// argument is one argument without secrets of its own.
func argument(arg, program string, n int) string {
	arg = strings.ToValidUTF8(strings.ReplaceAll(arg, "\x00", " "), "\uFFFD")
	if n > 0 && gluesPassword(program) && strings.HasPrefix(arg, "-p") && len(arg) > 2 && !strings.HasPrefix(arg, "--") {
		return "-p" + redacted
	}
	if n > 0 && strings.HasPrefix(arg, "-u") && !strings.HasPrefix(arg, "--") && strings.Contains(arg, ":") && program == "curl" {
		return redactPair(arg)
	}
	return redactText(arg)
}

// gluesPassword tells the programs to which a password is given as -pPASSWORD.
func gluesPassword(program string) bool {
	return strings.HasPrefix(program, "mysql") || strings.HasPrefix(program, "mariadb") || program == "sshpass" || program == "7z" || program == "unzip"
}

// redactPair hides what follows the colon of "user:password".
func redactPair(arg string) string {
	if user, _, ok := strings.Cut(arg, ":"); ok {
		return user + ":" + redacted
	}
	return arg
}

// namesSecret tells whether an argument is the name of an option whose value, the next argument, is a secret.
func namesSecret(arg, program string) bool {
	if arg == "-p" {
		return gluesPassword(program)
	}
	name, option := strings.CutPrefix(arg, "-")
	if strings.ContainsAny(name, "=: \t\n") {
		return false
	}
	name = strings.NewReplacer("-", "", "_", "", ".", "").Replace(lower(name))
	if strings.HasSuffix(name, "secretaccesskey") || strings.HasSuffix(name, "awssessiontoken") {
		return true // aws configure set aws_secret_access_key …
	}
	return option && slices.ContainsFunc(secretNames(), func(s string) bool { return strings.HasSuffix(name, s) })
}

// secretNames are how the names of secrets end, without what stands between their words.
func secretNames() []string {
	return []string{"password", "passwd", "passphrase", "passwort", "pass", "pwd", "secret", "token", "apikey", "accesskey", "secretkey",
		"privatekey", "authkey", "credential", "credentials", "bearer", "signature", "auth"}
}

// rules are what is looked for within a text, each with what stands in its place.
type rule struct {
	find *regexp.Regexp
	put  string
}

// A value is quoted, or goes to the next blank, quote or separator.
const value = `(?:\\?"(?:[^"\\]|\\.)*\\?"?|'[^']*'?|[^\s"'&;,\\]+)`

// words that end the names of secrets in "name=value" and "name: value".
const secretWord = `(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|credentials?|signature)`

var rules = []rule{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`), redacted},
	// Headers: all that follows, because schemes and cookies have blanks in them.
	{regexp.MustCompile(`(?i)((?:proxy-)?authorization\\?["']?\s*[:=]\s*\\?["']?)[^"'\r\n]+`), "${1}" + redacted},
	{regexp.MustCompile(`(?i)((?:^|[^a-z])(?:set-)?cookie\\?["']?\s*:\s*\\?["']?)[^"'\r\n]+`), "${1}" + redacted},
	{regexp.MustCompile(`(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}`), "${1}" + redacted},
	// URLs: everything before the @, with a password that has a slash in it too.
	{regexp.MustCompile(`(?i)(\b[a-z][a-z0-9+.-]*://)(?:[^/\s@"':]*:[^\s@"']*|[^/\s@"']+)@`), "${1}" + redacted + "@"},
	{regexp.MustCompile(`(?i)(` + secretWord + `\\?["']?\s*[:=]\s*)` + value), "${1}" + redacted},
	{regexp.MustCompile(`(?i)(--?[a-z0-9_-]*` + secretWord + `\s+)` + value), "${1}" + redacted},
	// Commands within the text that a shell is given: "curl -u name:password", "mysql -ppassword".
	{regexp.MustCompile(`((?:^|\s)(?:-u|-U|--user|--proxy-user)[\s=]\s*\\?["']?[^\s:"'\\]*:)[^\s"'\\]+`), "${1}" + redacted},
	{regexp.MustCompile(`(\b(?:mysql|mariadb|sshpass)[\w-]*\s(?:[^|;&\r\n]*?\s)?-p\s?)` + value), "${1}" + redacted},
	// Shapes. EC2's tokens have 56 characters, of which the last two fill up; the first say what they are.
	{regexp.MustCompile(`[A-Za-z0-9_-]{54}==`), redacted},
	{regexp.MustCompile(`AQA[A-Z][A-Za-z0-9_-]{12,}=*`), redacted},
	{regexp.MustCompile(`\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}`), redacted},
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?`), redacted},
	{regexp.MustCompile(`\b(?:gh[pousr]_|github_pat_|glpat-|sk-)[A-Za-z0-9_-]{16,}`), redacted},
	{regexp.MustCompile(`\bxox[abeprs]-[A-Za-z0-9-]{8,}`), redacted},
}

// redactText takes secrets out of a text.
func redactText(s string) string {
	for _, r := range rules {
		s = r.find.ReplaceAllString(s, r.put)
	}
	return redactWords(s)
}

// redactWords hides words that look like AWS's secret keys (40 characters of base64) and session tokens.
func redactWords(s string) string {
	var b strings.Builder
	start := 0
	end := func(at int) {
		word := s[start:at]
		if len(word) >= longestWord && !pathLike(word) && mixed(word) {
			word = redacted
		}
		b.WriteString(withoutKeys(word))
	}
	for i := range len(s) {
		if c := s[i]; !(digit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("+/=_-", c) >= 0) {
			end(i)
			b.WriteByte(c)
			start = i + 1
		}
	}
	end(len(s))
	return b.String()
}

// withoutKeys hides 40 characters that look like a secret key, between the ends of a word, slashes and equals signs.
func withoutKeys(word string) string {
	const size, slashes = 40, 5
	edge := func(i int) bool { return i < 0 || i >= len(word) || word[i] == '/' || word[i] == '=' }
	for i := 0; i+size <= len(word); i++ {
		if key := word[i : i+size]; edge(i-1) && edge(i+size) && mixed(key) && strings.Count(key, "/") <= slashes {
			return word[:i] + redacted + withoutKeys(word[i+size:])
		}
	}
	return word
}

// mixed tells a word with capitals, small letters and digits, which no hash in hexadecimal digits is.
func mixed(word string) bool {
	var upper, small, digits bool
	for i := range len(word) {
		c := word[i]
		upper, small, digits = upper || 'A' <= c && c <= 'Z', small || 'a' <= c && c <= 'z', digits || digit(c)
	}
	return upper && small && digits
}

// pathLike tells a long word whose parts between slashes are short.
func pathLike(word string) bool {
	for part := range strings.SplitSeq(word, "/") {
		if len(part) >= 40 {
			return false
		}
	}
	return true
}

// pathOf is the path of a request's target: decoded, without query and secrets. Of one that was cut, the last word is left out: it may be
// a part of a token.
func pathOf(target string, isCut bool) string {
	target, _, hasQuery := strings.Cut(target, "?")
	target, _, _ = strings.Cut(target, "#")
	if _, rest, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") {
		if at := strings.IndexByte(rest, '/'); at >= 0 {
			target = rest[at:]
		} else {
			target = "/"
		}
	}
	if isCut && !hasQuery {
		target = strings.TrimRightFunc(target, func(r rune) bool {
			return r < 0x80 && (digit(byte(r)) || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune("_-=%", r))
		})
	}
	if decoded, err := url.PathUnescape(target); err == nil {
		target = decoded
	}
	return cut(redactText(clean(target, keptRequestLine)), 1024)
}

// clean is text of strangers that can be kept anywhere: valid, without NUL, and bounded in bytes.
func clean(s string, n int) string {
	return cut(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD"), n)
}

// cut keeps at most n bytes, and no broken character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
