package tracer_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

// secrets are what must not be in a command line any more, by how it comes there. S stands for the secret.
var secretLines = []string{
	"curl -H|X-aws-ec2-metadata-token: S|http://169.254.169.254/",
	"curl -H|x-aws-ec2-metadata-token:S|http://169.254.169.254/",
	"curl --header=X-Aws-Ec2-Metadata-Token: S|x",
	"sh|-c|curl -H 'X-aws-ec2-metadata-token: S' http://169.254.169.254/",
	`sh|-c|curl -H "X-aws-ec2-metadata-token: S" x; echo done`,
	`sh|-c|TOKEN=S; curl -H "X-aws-ec2-metadata-token: $TOKEN" x`,
	"env|x-aws-ec2-metadata-token=S|prog",
	"prog|--password|S", "prog|--password=S", "prog|-password|S", "prog|--db-password|S", "prog|--db_password=S", "prog|--PASSWORD=S",
	"prog|--token|S", "prog|--api-key|S", "prog|--apikey=S", "prog|--client-secret|S", "prog|--secret=S", "prog|--auth-token=S",
	"prog|-Dpassword=S|x", "java|-Ddb.passwd=S|-jar|a.jar", "prog|PGPASSWORD=S", "prog|DB_PASS=S", "prog|pwd=S;x",
	"prog|AWS_SECRET_ACCESS_KEY=S", "prog|AWS_SESSION_TOKEN=S", "aws|configure|set|aws_secret_access_key|S", "aws|configure|set|default.aws_session_token|S",
	"curl -H|Authorization: Basic S|x", "curl -H|authorization: Bearer S|x", "curl -H|Proxy-Authorization: Digest a=b, c=S|x",
	"curl|--oauth2-bearer|S", "curl|-H|Cookie: session=S; theme=dark", "curl|-u|me:S|x", "curl|--user|me:S", "curl|-ume:S|x",
	"psql|postgres://me:S@db/x", "git|clone|https://S@github.com/x", "prog|mongodb+srv://a:S@h/b?c=d", "prog|amqp://u:S/y@h",
	"mysql|-pS|-h|db", "mysqldump|-p|S", "sshpass|-p|S|ssh|x", "/usr/bin/mysql|-pS",
	`prog|{"password": "S", "user": "x"}`, `prog|{"client_secret":"S"}`, `python3|-c|login(password='S')`, `python3|-c|x = dict(token = "a S b")`,
	`prog|{\"password\":\"S\"}`, "prog|x: y\npassword: S\nz: a", "sh|-c|mysql --password S db", "prog|https://h/x?X-Amz-Signature=S&c=d",
	"sh|-c|curl -s -u me:S https://x", "sh|-c|curl --user 'me:S' https://x", "sh|-c|curl --proxy-user=me:S x", "bash|-c|true; mysql -h db -u root -pS shop",
	"sh|-c|mysqldump -pS", "sh|-c|sshpass -p S ssh me@x", `sh|-c|sshpass -p "S" ssh me@x`,
	"prog|-----BEGIN RSA PRIVATE KEY-----\nS\n-----END RSA PRIVATE KEY-----", "prog|-----BEGIN PRIVATE KEY-----\nS",
}

func TestSecretsInCommandLines(t *testing.T) {
	for _, line := range secretLines {
		for _, secret := range []string{"hunter2", tokenText, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "p%C3%A4ss", "a=b", "s3cr3t.with.dots"} {
			args := strings.Split(replaceSecret(line, secret), "|")
			for n, arg := range tracer.Redact(args) {
				if strings.Contains(arg, secret) {
					t.Errorf("%q keeps the secret in argument %d: %q", args, n, arg)
				}
			}
		}
	}
}

// replaceSecret puts a secret where a capital S stands alone.
func replaceSecret(line, secret string) string {
	var b strings.Builder
	for i := range len(line) {
		alone := line[i] == 'S' && (i == 0 || !letter(line[i-1]) || strings.HasSuffix(line[:i], "-p") || strings.HasSuffix(line[:i], "\n")) &&
			(i+1 == len(line) || !letter(line[i+1]))
		if alone {
			b.WriteString(secret)
			continue
		}
		b.WriteByte(line[i])
	}
	return b.String()
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

// TestShapes: what looks like a secret is hidden wherever it stands.
func TestShapes(t *testing.T) {
	for _, secret := range []string{
		tokenText, "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"IQoJb3JpZ2luX2VjEAoaCXVzLWVhc3QtMSJHMEUCIQD" + strings.Repeat("a9B/", 60), "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123_-",
		"ghp_0123456789abcdefABCDEF0123456789abcd", "xoxb-1234567890-abcdefgh",
	} {
		for _, around := range []string{"%", "x %", "% y", "'%'", "a=%", "/run/%", "(%)", "%,b", `"%"`, "--opt %"} {
			arg := strings.ReplaceAll(around, "%", secret)
			if got := tracer.Redact([]string{"prog", arg})[1]; strings.Contains(got, secret) {
				t.Errorf("%q is kept: %q", arg, got)
			}
		}
	}
}

// TestWhatIsNoSecret stays, because people need it to find the program.
func TestWhatIsNoSecret(t *testing.T) {
	for _, line := range []string{
		"python3|/opt/app/billing.py|--region|eu-west-1|--verbose", "java|-Xmx2g|-cp|/usr/share/java/a.jar:/usr/share/java/b.jar|com.example.Main",
		"curl|-s|http://169.254.169.254/latest/meta-data/iam/security-credentials/", "curl|-X|PUT|-H|X-aws-ec2-metadata-token-ttl-seconds: 21600|x",
		"git|checkout|2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", "vault|token|lookup", "aws|secretsmanager|get-secret-value|--secret-id|prod/db",
		"docker|run|--name|web|0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "prog|--token-file|/run/token", "prog|--passive",
		"aws|ec2|modify-instance-metadata-options|--http-tokens|required", "prog|-p|8080", "ssh|-u|me", "prog|arn:aws:iam::111122223333:role/app",
		"/usr/lib/systemd/systemd|--switched-root|--system|--deserialize=31", "sh|-c|sleep 1; echo $HOME",
		"prog|/opt/Very/Long/Path/With/Capitals/And/Digits123/And/So/On/And/So/Forth/Until/It/Is/Longer/Than/A/Hundred/Characters/In/All",
	} {
		args := strings.Split(line, "|")
		if got := tracer.Redact(args); !slices.Equal(got, args) {
			t.Errorf("%q became %q", args, got)
		}
	}
}

// TestRedactProperties: any arguments stay bounded and valid, a token among them is gone, and doing it again changes nothing.
func TestRedactProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"--password", "-u", "a:b", "mysql", "-pabc", `password="a b`, "Cookie: a",
			"token:'x y'", "https://a:b@c", `\"secret\": \"x`, "AQAEA" + strings.Repeat("b", 3000), "key=[redacted]"})), 0, 90).Draw(t, "args")
		at := rapid.IntRange(0, len(args)).Draw(t, "at")
		before := rapid.SampledFrom([]string{"", " ", "x=", "/", "é", "%"}).Draw(t, "before")
		args = slices.Insert(args, at, before+tokenText)
		out := tracer.Redact(args)
		size := 0
		for _, a := range out {
			size += len(a)
			if len(a) > 1024+3 || !utf8.ValidString(a) || strings.ContainsRune(a, 0) || strings.Contains(a, tokenText) {
				t.Fatalf("%q", a)
			}
		}
		if len(out) > 65 || size > 6000 {
			t.Fatalf("%d arguments of %d bytes", len(out), size)
		}
		if again := tracer.Redact(out); !slices.Equal(again, out) {
			t.Fatalf("%q became %q", out, again)
		}
	})
	if tracer.Redact(nil) != nil {
		t.Error("nothing became something")
	}
}

// FuzzRedact sends any argument through.
func FuzzRedact(f *testing.F) {
	for _, l := range secretLines {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out := tracer.Redact([]string{"prog", text, tokenText})
		for _, a := range out {
			if len(a) > 1100 || !utf8.ValidString(a) || strings.Contains(a, tokenText) {
				t.Fatalf("%q became %q", text, out)
			}
		}
	})
}
