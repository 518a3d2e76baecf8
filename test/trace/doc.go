// Package trace holds the captures of imdsctl against programs that call the metadata service in every form that is known, and in some
// that are made to mislead: each call must be seen, told v1 from v2 rightly, and laid at the right door.
//
// The networks are namespaces that the tests make: a service at 169.254.169.254 and fd00:ec2::254, a host next to it, and a container that
// the host routes for. The captures see the whole machine; what is not of these namespaces is left out.
package trace
