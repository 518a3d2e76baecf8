package athena

import (
	"strings"
	"testing"
)

const question = `SELECT substr(eventtime, 1, 10) AS day, useridentity.accountid AS account, useridentity.arn AS arn, ` +
	`useridentity.principalid AS principal, useridentity.sessioncontext.sessionissuer.username AS role, ` +
	`useridentity.sessioncontext.ec2roledelivery AS delivery, useragent AS agent, count(*) AS calls, ` +
	`min(eventtime) AS first_call, max(eventtime) AS last_call FROM "audit"."logs" ` +
	`WHERE useridentity.sessioncontext.ec2roledelivery IN ('1.0', '2.0') ` +
	`AND eventtime >= '2026-11-01T00:00:00Z' AND eventtime < '2026-11-02T00:00:00Z' GROUP BY 1, 2, 3, 4, 5, 6, 7`

func TestOneQuestionOnly(t *testing.T) {
	got, err := parse(question)
	if err != nil || got.database != "audit" || got.table != "logs" || got.from.Day() != 1 || got.to.Day() != 2 || got.partition != "" {
		t.Errorf("%+v, %v", got, err)
	}
	days := strings.Replace(question, " GROUP BY", ` AND "dt" BETWEEN '2026/11/01' AND '2026/11/03' GROUP BY`, 1)
	if got, err := parse(days); err != nil || got.partition != "dt" || got.first != "2026/11/01" || got.last != "2026/11/03" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, other := range []string{"", "SELECT 1", question + "; DROP TABLE x", strings.Replace(question, "'1.0', ", "", 1),
		strings.Replace(question, "2026-11-01T", "2026-99-01T", 1)} {
		if got, err := parse(other); err == nil {
			t.Errorf("%q is understood: %+v", other, got)
		}
	}
}

// Whatever is asked, it is the one question, or refused.
func FuzzParse(f *testing.F) {
	f.Add(question)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parse(text); err == nil && (got.database == "" || got.table == "" || got.from.IsZero() || got.to.IsZero()) {
			t.Errorf("%q: %+v", text, got)
		}
	})
}
