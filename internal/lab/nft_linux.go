package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What golang.org/x/sys does not name, of <linux/netfilter/nf_tables.h>, <linux/netfilter.h> and <linux/netfilter_ipv4.h>.
const (
	tableOwned      = 0x2 // NFT_TABLE_F_OWNER, since Linux 5.12
	hookPostrouting = 4   // NF_INET_POST_ROUTING
	prioritySource  = 100 // NF_IP_PRI_NAT_SRC
	register        = 1   // NFT_REG_1
	networkHeader   = 1   // NFT_PAYLOAD_NETWORK_HEADER
	metaOutName     = 7   // NFT_META_OIFNAME
	compareEqual    = 0   // NFT_CMP_EQ
)

// masquerade lets what comes from a segment leave under the address of the interface that it leaves by; with out, only by that
// interface. It is in force in the calling thread's network namespace until the file is closed: the tables are the file's own, and the
// kernel removes them with it, however this process ends. No program (nft, iptables) takes part.
func masquerade(name string, from segment, out string, ipv6 bool) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("speak to nf_tables: %w", err)
	}
	file := os.NewFile(uintptr(fd), "nf_tables")
	tables := []struct {
		family  byte
		offset  uint32 // of the source's address in the header, in bytes
		address string
	}{{unix.NFPROTO_IPV4, 12, from.far4}}
	if ipv6 {
		tables = append(tables, struct {
			family  byte
			offset  uint32
			address string
		}{unix.NFPROTO_IPV6, 8, from.far6})
	}
	for _, t := range tables {
		prefix, err := netip.ParsePrefix(t.address)
		if err == nil {
			err = batch(fd, masquerading(t.family, name, t.offset, prefix, out))
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			err = fmt.Errorf("%w (Linux 5.12 or newer is needed, with nf_tables and its masquerading)", err)
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("translate addresses by nf_tables: %w", err)
		}
	}
	return file, nil
}

// message is one of nf_tables' messages: its kind and what follows its header.
type message struct {
	kind   int
	family byte
	body   []*nl.RtAttr
}

// masquerading is a table with one chain and one rule.
func masquerading(family byte, name string, offset uint32, from netip.Prefix, out string) []message {
	hook := nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, hookPostrouting), number(unix.NFTA_HOOK_PRIORITY, prioritySource))
	network := from.Addr().AsSlice()[:from.Bits()/8] // the segments' prefixes are of whole bytes
	expressions := []*nl.RtAttr{
		expression("payload", number(unix.NFTA_PAYLOAD_DREG, register), number(unix.NFTA_PAYLOAD_BASE, networkHeader),
			number(unix.NFTA_PAYLOAD_OFFSET, offset), number(unix.NFTA_PAYLOAD_LEN, uint32(len(network)))),
		equals(network),
	}
	if out != "" {
		padded := make([]byte, unix.IFNAMSIZ)
		copy(padded, out)
		expressions = append(expressions,
			expression("meta", number(unix.NFTA_META_DREG, register), number(unix.NFTA_META_KEY, metaOutName)), equals(padded))
	}
	expressions = append(expressions, expression("masq"))
	return []message{
		{unix.NFT_MSG_NEWTABLE, family, []*nl.RtAttr{text(unix.NFTA_TABLE_NAME, name), number(unix.NFTA_TABLE_FLAGS, tableOwned)}},
		{unix.NFT_MSG_NEWCHAIN, family, []*nl.RtAttr{
			text(unix.NFTA_CHAIN_TABLE, name), text(unix.NFTA_CHAIN_NAME, "postrouting"), hook, text(unix.NFTA_CHAIN_TYPE, "nat"),
		}},
		{unix.NFT_MSG_NEWRULE, family, []*nl.RtAttr{
			text(unix.NFTA_RULE_TABLE, name), text(unix.NFTA_RULE_CHAIN, "postrouting"), nested(unix.NFTA_RULE_EXPRESSIONS, expressions...),
		}},
	}
}

func equals(value []byte) *nl.RtAttr {
	return expression("cmp", number(unix.NFTA_CMP_SREG, register), number(unix.NFTA_CMP_OP, compareEqual),
		nested(unix.NFTA_CMP_DATA, nl.NewRtAttr(unix.NFTA_DATA_VALUE, value)))
}

func expression(name string, data ...*nl.RtAttr) *nl.RtAttr {
	return nested(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nested(unix.NFTA_EXPR_DATA, data...))
}

func number(kind int, n uint32) *nl.RtAttr {
	return nl.NewRtAttr(kind, binary.BigEndian.AppendUint32(nil, n))
}

func text(kind int, s string) *nl.RtAttr { return nl.NewRtAttr(kind, append([]byte(s), 0)) }

func nested(kind int, children ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	for _, c := range children {
		a.AddChild(c)
	}
	return a
}

// batch sends messages that take effect all or not at all, and reads what the kernel says to each.
func batch(fd int, messages []message) error {
	const create = unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_ACK
	out := header(nil, unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	for i, m := range messages {
		var body []byte
		for _, a := range m.body {
			body = append(body, a.Serialize()...)
		}
		out = header(out, uint16(unix.NFNL_SUBSYS_NFTABLES<<8|m.kind), create, uint32(i+1), m.family, 0, body)
	}
	out = header(out, unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, uint32(len(messages)+1), 0, unix.NFNL_SUBSYS_NFTABLES, nil)
	if err := unix.Sendto(fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, 1<<16)
	for acknowledged := 0; acknowledged < len(messages); {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		acks, err := answers(buffer[:n])
		if err != nil {
			return err
		}
		acknowledged += acks
	}
	return nil
}

// header appends a message of nfnetlink.
func header(to []byte, kind uint16, flags int, sequence uint32, family byte, resource uint16, body []byte) []byte {
	const length = unix.NLMSG_HDRLEN + 4
	to = binary.NativeEndian.AppendUint32(to, uint32(length+len(body)))
	to = binary.NativeEndian.AppendUint16(to, kind)
	to = binary.NativeEndian.AppendUint16(to, uint16(flags))
	to = binary.NativeEndian.AppendUint32(to, sequence)
	to = binary.NativeEndian.AppendUint32(to, 0)
	to = append(to, family, 0)
	to = binary.BigEndian.AppendUint16(to, resource)
	to = append(to, body...)
	for len(to)%unix.NLMSG_ALIGNTO != 0 {
		to = append(to, 0)
	}
	return to
}

// answers counts the acknowledgements among the kernel's answers; an error is the first that it tells.
func answers(b []byte) (acknowledged int, err error) {
	for len(b) >= unix.NLMSG_HDRLEN+4 {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN+4 || length > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
			if code := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); code != 0 {
				return acknowledged, unix.Errno(-code)
			}
			acknowledged++
		}
		b = b[min(len(b), (length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return acknowledged, nil
}

// firewallDrops tells that the calling thread's network namespace has a chain that drops what is forwarded and not accepted by a rule.
// It sees nf_tables, which iptables speaks too on today's distributions; the older kind of iptables stays unseen.
func firewallDrops() bool {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	ask := header(nil, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 1, unix.NFPROTO_UNSPEC, 0, nil)
	if unix.Sendto(fd, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return false
	}
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		messages, malformed := syscall.ParseNetlinkMessage(buffer[:max(n, 0)])
		if err != nil || malformed != nil {
			return false
		}
		for _, m := range messages {
			switch {
			case m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR:
				return false
			case len(m.Data) > 4 && dropsForwarded(m.Data[4:]):
				return true
			}
		}
	}
}

// dropsForwarded tells that a chain, as the kernel lists it, is such a one.
func dropsForwarded(chain []byte) bool {
	const hookForward, drop = 2, 0
	forward, drops := false, false
	attributes, err := nl.ParseRouteAttr(chain)
	if err != nil {
		return false
	}
	for _, a := range attributes {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.NFTA_CHAIN_POLICY:
			drops = len(a.Value) == 4 && binary.BigEndian.Uint32(a.Value) == drop
		case unix.NFTA_CHAIN_HOOK:
			inner, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return false
			}
			for _, h := range inner {
				if h.Attr.Type == unix.NFTA_HOOK_HOOKNUM && len(h.Value) == 4 {
					forward = binary.BigEndian.Uint32(h.Value) == hookForward
				}
			}
		}
	}
	return forward && drops
}
