package software

import (
	"path"
	"slices"
	"strings"
)

// archives are the endings of files that are opened as archives, if they begin as a zip does.
var archives = []string{
	".aar", ".ear", ".egg", ".hpi", ".jar", ".jmod", ".jpi", ".kar", ".lpkg", ".nar", ".nbm", ".nupkg", ".par", ".pex", ".pyz", ".sar",
	".vsix", ".war", ".whl", ".zip",
}

// sealed are the endings of archives that are not opened.
var sealed = []string{".7z", ".cab", ".cpio", ".deb", ".gem", ".msi", ".rar", ".rpm", ".squashfs", ".tar", ".tbz2", ".tgz", ".txz"}

func isArchive(name string) bool { return slices.Contains(archives, strings.ToLower(path.Ext(name))) }

func isSealed(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(sealed, path.Ext(name)) || strings.Contains(path.Base(name), ".tar.")
}
