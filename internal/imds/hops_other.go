//go:build !linux

package imds

import "net"

// HopLimits tells whether this system lets the hop limit of an answer be set. Here it does not: a token travels as far as it can.
const HopLimits = false

func setHopLimit(net.Conn, int) error { return nil }

func unconfirmed(net.Conn) (bool, error) { return false, nil }
