// Package lab runs a command where 169.254.169.254 is ours: in a network namespace of its own, directly beside the service or behind
// a routed hop as containers are, with or without a way to the outside, as root or as anybody. Linux only.
//
// It owns namespaces, addresses and the command's process tree, and undoes all it made when the command ends. It tells of every
// connection to the service who is at the other end. What is answered is not its business: it hands listeners to whom it is told.
package lab
