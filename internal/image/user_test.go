package image

import (
	"fmt"
	"slices"
	"testing"
)

const (
	testPasswd = "# a comment\nroot:x:0:0:root:/root:/bin/sh\nbroken:x\napp:x:1000:1001:App,,,:/srv/app:/bin/false\r\n" +
		"bare:x:1002:1002::\n77:x:1003:1003::/n:\n+::::::\nneg:x:-1:0::/:\nhuge:x:4294967296:0::/:\nhome:x:1004:1004:::\n"
	testGroup = "root:x:0:\nweb:x:2000:app,other\nlogs:x:2001:app\nlogs2:x:2001:app\nbad:x:x:app\ntools:x:7:root\n"
)

// TestUser: Docker's rules. https://docs.docker.com/reference/dockerfile/#user
func TestUser(t *testing.T) {
	for spec, want := range map[string]string{
		"": "0:0 [7] /root", "root": "0:0 [7] /root", "0": "0:0 [7] /root", "app": "1000:1001 [2000 2001] /srv/app", "1000": "1000:1001 [2000 2001] /srv/app",
		"app:web": "1000:2000 [] /srv/app", "1000:5": "1000:5 [] /srv/app", "app:": "1000:1001 [2000 2001] /srv/app", "4711": "4711:0 [] /",
		"4711:web": "4711:2000 [] /", ":web": "0:2000 [] /root", "77": "1003:1003 [] /n", "home": "1004:1004 [] /",
		"bare": "1002:1002 [] /", "nobody": "", "app:none": "", "neg": "", "huge": "", "4294967296": "", "-1": "", "app:-1": "", "broken": "", "+": "",
	} {
		u, err := findUser(spec, []byte(testPasswd), []byte(testGroup))
		have := fmt.Sprintf("%d:%d %v %s", u.UID, u.GID, u.Groups, u.Home)
		if want == "" && err == nil || want != "" && (err != nil || have != want) {
			t.Errorf("%q is %s, %v; want %s", spec, have, err, want)
		}
	}
}

func FuzzUser(f *testing.F) {
	f.Add("app:web", testPasswd, testGroup)
	f.Add("0", "", "")
	f.Fuzz(func(t *testing.T, spec, passwd, group string) {
		u, err := findUser(spec, []byte(passwd), []byte(group))
		if err != nil {
			return
		}
		for _, id := range append([]int{u.UID, u.GID}, u.Groups...) {
			if id < 0 || id > maxID {
				t.Errorf("%q has the number %d", spec, id)
			}
		}
		if u.Home == "" || !slices.IsSorted(u.Groups) {
			t.Errorf("%+v", u)
		}
	})
}
