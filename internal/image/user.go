package image

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// User is who a command runs as, in numbers as the image's files have them.
type User struct {
	UID, GID int
	Groups   []int  // the others that the user is in, sorted
	Home     string // as /etc/passwd has it; "/" where it has none
}

// User reads a user as images name it: a name or a number, and perhaps a group behind a colon; empty is root. Names are those of the
// image's own /etc/passwd and /etc/group. A number need not be there; a name must. As with Docker the other groups of a user come from
// /etc/group, unless the group is given.
func (x *Index) User(spec string) (User, error) {
	passwd, err := x.text("etc/passwd")
	if err != nil {
		return User{}, err
	}
	group, err := x.text("etc/group")
	if err != nil {
		return User{}, err
	}
	return findUser(spec, passwd, group)
}

// maxID is the highest number that a user or a group may have here: Docker's limit.
const maxID = 1<<31 - 1

func findUser(spec string, passwd, group []byte) (User, error) {
	who, of, given := strings.Cut(spec, ":")
	if who == "" {
		who = "0"
	}
	u := User{Home: "/"}
	number, known := id(who)
	name := ""
	for fields := range lines(passwd, 6) { // name:password:uid:gid:comment:home:shell
		uid, ok := id(fields[2])
		gid, also := id(fields[3])
		if !ok || !also || fields[0] != who && (!known || uid != number) {
			continue
		}
		u.UID, u.GID, name = uid, gid, fields[0]
		if fields[5] != "" {
			u.Home = fields[5]
		}
		break
	}
	if name == "" {
		if !known {
			return User{}, fmt.Errorf("the image's user %q is not in its /etc/passwd", who)
		}
		u.UID = number
	}
	if given && of != "" {
		gid, err := findGroup(of, group)
		u.GID = gid
		return u, err
	}
	for fields := range lines(group, 4) { // name:password:gid:members
		gid, ok := id(fields[2])
		if ok && name != "" && slices.Contains(strings.Split(fields[3], ","), name) {
			u.Groups = append(u.Groups, gid)
		}
	}
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return u, nil
}

func findGroup(of string, group []byte) (int, error) {
	number, known := id(of)
	for fields := range lines(group, 3) {
		if gid, ok := id(fields[2]); ok && (fields[0] == of || known && gid == number) {
			return gid, nil
		}
	}
	if !known {
		return 0, fmt.Errorf("the image's group %q is not in its /etc/group", of)
	}
	return number, nil
}

func id(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n <= maxID
}

// lines gives the fields of each line that has at least so many.
func lines(data []byte, fields int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(string(data)) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) >= fields && f[0] != "" && !strings.HasPrefix(f[0], "#") && !yield(f) {
				return
			}
		}
	}
}
