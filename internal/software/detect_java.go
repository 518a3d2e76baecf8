package software

import (
	"encoding/binary"
	"regexp"
	"strings"
)

// Maven's names of AWS's SDKs for Java.
const (
	javaOne = "com.amazonaws:aws-java-sdk-core"
	javaTwo = "software.amazon.awssdk:sdk-core"
)

// pomProperties reads what Maven puts into the archives that it makes, which fat jars carry along, one for each package in them.
func pomProperties(f *file) []pkg {
	values := properties(f.data)
	if values["groupId"] == "" || values["artifactId"] == "" {
		return nil
	}
	return one(pkg{ecosystem: maven, name: values["groupId"] + ":" + values["artifactId"], version: values["version"]})
}

// properties reads the lines of a properties file that have the form key=value.
func properties(data []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			out[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return out
}

// javaVersionInfo reads the file from which the SDK of version 1 makes its user agent. It is there in shaded archives too: those who
// relocate packages take it along, and its path keeps its end.
func javaVersionInfo(f *file) []pkg {
	values := properties(f.data)
	if values["platform"] != "java" {
		return nil
	}
	return one(pkg{ecosystem: maven, name: javaOne, version: values["version"], guessed: true})
}

var javaVersion = regexp.MustCompile(`^2\.\d+\.\d+(?:-[A-Z]+(?:-\d+)?)?$`)

// javaVersionClass reads the version of the SDK of version 2 from the constants of the class that holds it, which relocated archives
// keep as well.
func javaVersionClass(f *file) []pkg {
	for _, text := range classTexts(f.data) {
		if javaVersion.MatchString(text) {
			return []pkg{{ecosystem: maven, name: javaTwo, version: text, guessed: true}}
		}
	}
	return nil
}

// classTexts gives the texts of a class file's constant pool, up to where it ends or is damaged.
// https://docs.oracle.com/javase/specs/jvms/se21/html/jvms-4.html#jvms-4.4
func classTexts(data []byte) []string {
	if len(data) < 10 || binary.BigEndian.Uint32(data) != 0xCAFEBABE {
		return nil
	}
	var out []string
	count, at := int(binary.BigEndian.Uint16(data[8:])), 10
	for i := 1; i < count && at+3 <= len(data); i++ {
		switch data[at] {
		case 1: // Utf8
			size := int(binary.BigEndian.Uint16(data[at+1:]))
			if at+3+size > len(data) {
				return out
			}
			out = append(out, string(data[at+3:at+3+size]))
			at += 3 + size
		case 5, 6: // Long, Double: they take two places
			at, i = at+9, i+1
		case 7, 8, 16, 19, 20: // Class, String, MethodType, Module, Package
			at += 3
		case 15: // MethodHandle
			at += 4
		case 3, 4, 9, 10, 11, 12, 17, 18: // Integer, Float, references, NameAndType, Dynamic, InvokeDynamic
			at += 5
		default:
			return out
		}
	}
	return out
}

// javaName is an AWS archive's name with its version.
var javaName = regexp.MustCompile(`^(aws-java-sdk(?:-[a-z0-9]+)*|sdk-core|aws-core|auth|regions|imds|bundle)-(\d+\.\d+(?:\.\d+)?(?:[-.][\w.]+)?)\.jar$`)

// javaByName names an archive by its file name where it holds classes of an SDK: builds that are not Maven's leave nothing else. Two
// of the names are words that others use, so that the classes decide.
func javaByName(base string, t tree) []pkg {
	m := javaName.FindStringSubmatch(base)
	if m == nil {
		return nil
	}
	group, folder := "software.amazon.awssdk", "software/amazon/awssdk"
	if strings.HasPrefix(m[1], "aws-java-sdk") {
		group, folder = "com.amazonaws", "com/amazonaws"
	}
	if info, err := t.Stat(folder); err != nil || !info.IsDir() {
		return nil
	}
	return []pkg{{ecosystem: maven, name: group + ":" + m[1], version: m[2], guessed: true}}
}
