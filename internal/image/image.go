// Package image reads container images and archives of file systems without a container engine: docker save's form, OCI layouts
// and plain tars, compressed or not, their layers merged into one file system that can be read or unpacked.
//
// It owns those formats and their dangers: names that lead out, links, whiteouts, sizes without end. It runs nothing.
package image
