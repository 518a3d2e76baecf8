//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only
//
// What programs send to the instance metadata service, and who they are. Every packet passes: nothing here stops or changes one.
//
// see_connect4 and see_connect6 run as a program connects, in its context: what /proc forgets when it exits is read then. see_sent
// runs for each packet that leaves, behind the host's own address translation, so it looks at where the *socket* goes, which is what
// the program asked for, and not at where the packet goes. Requests are put together in user space, by socket and sequence number.
//
// Built twice: as it is, and with NO_PROBE for kernels that do not let eBPF programs read the kernel's memory (lockdown in the mode
// "confidentiality", or no type information): then only the helpers' facts are told.
//
// For the verifier: loops are unrolled; each step of one writes to a slot of its own, so that no index depends on the path taken; and
// a size is made to fit by masking it and then adding one, in that order, behind a barrier that keeps the compiler from undoing it.

#include "kernel.h"

#define PASS 1
#define SERVICE4 net32(0xa9fea9fe) /* 169.254.169.254 */
#define SERVICE6_FIRST net32(0xfd000ec2) /* fd00:ec2::254 */
#define SERVICE6_LAST net32(0x00000254)

#define STREAM 1 /* SOCK_STREAM */
#define TCP 6
#define IPV4 net16(0x0800)
#define IPV6 net16(0x86dd)

// Only measurements have another port than 80: a packet under BPF_PROG_TEST_RUN belongs to a socket that goes to port 0.
const volatile u32 service_port = 80;

enum kind { CONNECTED = 1, SENDER = 2, SENT = 3 };

#define NAME 128   /* bytes of a name, with the zero at its end */
#define STEPS 20   /* names and mounts of a program's path */
#define LEVELS 8   /* names of a cgroup's path */
#define PARENTS 8
#define ARGS 1024
#define SMALL 1024 /* bytes of a piece: what most requests fit in */
#define LARGE 16384
#define PIECES 8   /* large ones of a packet, which holds up to 64 KB, and more where "BIG TCP" is set up */

// Flags of a caller: what is told in full.
#define WHOLE_EXE 1
#define WHOLE_CGROUP2 2
#define WHOLE_CGROUP1 4

// caller_head tells a process by what helpers know.
struct caller_head {
	u32 kind, pid;
	u64 socket, time; // its cookie; nanoseconds of the monotonic clock
	u64 started;      // nanoseconds since boot
	u64 execs;        // how often it, with its forebears, has begun another program: with pid, it names a program that runs
	u64 cgroup_id;
	u32 thread, uid, netns, flags;
	u32 parents, steps, args, args_total; // how many there are of each; bytes of the arguments here, and in all
	u32 levels2, levels1;
	char comm[16];
};

// caller is the whole of it. Names are the innermost first; an empty step is a mount that the path crosses.
struct caller {
	struct caller_head head;
	struct { u32 pid; char comm[16]; } parents[PARENTS];
	char exe[STEPS][NAME];
	char args[ARGS];
	char cgroup2[LEVELS][NAME], cgroup1[LEVELS][NAME];
};

// piece_head begins a piece of what a socket sends.
struct piece_head {
	u32 kind, size;
	u64 socket, time;
	u32 seq, missing;  // of the first byte; how many bytes follow that are not told
	u32 pid, execs;    // who sends; 0 where that is not sure
};

struct small_piece { struct piece_head head; u8 bytes[SMALL]; };
struct large_piece { struct piece_head head; u8 bytes[LARGE]; };

// For the type information of the object, which a test holds the decoder against.
const struct caller *const layout_of_caller __attribute__((used)) = 0;
const struct piece_head *const layout_of_piece __attribute__((used)) = 0;

struct { map_type(RINGBUF); map_entries(1 << 23); } events SEC(".maps");

// lost counts what found no room in events: callers, then pieces.
struct { map_type(ARRAY); map_entries(2); map_key(u32); map_value(u64); } lost SEC(".maps");
enum { LOST_CALLERS, LOST_PIECES };

inline_always void lose(u32 what)
{
	u64 *n = map_lookup(&lost, &what);
	if (n)
		__sync_fetch_and_add(n, 1);
}

#ifdef NO_PROBE

static __attribute__((noinline)) void tell(u32 kind, u64 socket)
{
	struct caller_head *e = ring_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lose(LOST_CALLERS);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	u64 id = current_pid_tgid();
	e->kind = kind;
	e->socket = socket;
	e->time = ktime_ns();
	e->pid = id >> 32;
	e->thread = id;
	e->uid = current_uid_gid();
	e->cgroup_id = current_cgroup_id();
	current_comm(e->comm, sizeof(e->comm));
	ring_submit(e, 0);
}

inline_always int on_connect(struct bpf_sock_addr *a)
{
	tell(CONNECTED, socket_cookie(a));
	return PASS;
}

#else

struct identity { u64 pid, execs; };

// told remembers for each socket which program was told last.
struct { map_type(LRU_HASH); map_entries(16384); map_key(u64); map_value(struct identity); } told SEC(".maps");

// read_parents tells the processes above a task.
inline_always void read_parents(struct caller *e, struct task_struct *t)
{
	struct task_struct *p = get(t, real_parent);
	e->head.parents = 0;
#pragma unroll
	for (u32 i = 0; i < PARENTS; i++) {
		struct task_struct *leader = get(p, group_leader);
		u32 pid = get(p, tgid);
		if (pid <= 1)
			break;
		e->parents[i].pid = pid;
		read_kernel_string(e->parents[i].comm, sizeof(e->parents[i].comm), &leader->comm);
		e->head.parents = i + 1;
		p = get(leader, real_parent);
	}
}

// read_exe walks from a program's file up to the root of its process, across mounts.
inline_always void read_exe(struct caller *e, struct task_struct *t, struct mm_struct *mm)
{
	struct fs_struct *fs = get(t, fs);
	struct dentry *top = get(fs, root.dentry);
	struct vfsmount *top_mount = get(fs, root.mnt);
	struct file *f = get(mm, exe_file);
	struct dentry *d = get(f, f_path.dentry);
	struct vfsmount *m = get(f, f_path.mnt);
	u64 in_mount = offset_of_member((struct mount *)0, mnt);
	e->head.steps = 0;
#pragma nounroll
	for (u32 i = 0; i < STEPS; i++) {
		if (!d)
			return;
		if (d == top && m == top_mount) {
			e->head.flags |= WHOLE_EXE;
			return;
		}
		e->exe[i][0] = 0;
		e->head.steps = i + 1;
		if (d == get(m, mnt_root)) {
			struct mount *here = (void *)m - in_mount, *above = get(here, mnt_parent);
			if (above == here) { // the root of all mounts: the process was moved elsewhere
				e->head.flags |= WHOLE_EXE;
				return;
			}
			d = get(here, mnt_mountpoint);
			m = (void *)above + in_mount;
			continue;
		}
		if (read_kernel_string(e->exe[i], NAME, get(d, d_name.name)) >= NAME)
			return;
		struct dentry *up = get(d, d_parent);
		if (up == d)
			return; // in no directory, such as a file in memory
		d = up;
	}
}

// read_args copies the arguments, as far as they are in memory.
inline_always void read_args(struct caller *e, struct mm_struct *mm)
{
	u64 from = get(mm, arg_start), to = get(mm, arg_end), n = to - from;
	e->head.args = e->head.args_total = 0;
	if (!from || from >= to)
		return;
	e->head.args_total = n;
	if (n > ARGS)
		n = ARGS;
	n = (n - 1) & (ARGS - 1);
	asm volatile("" : "+r"(n));
	n++;
	if (!read_user(e->args, n, (void *)from)) {
		e->head.args = n;
		return;
	}
	u64 page = 4096 - (from & 4095); // the next one may not be there
	if (page >= n)
		return;
	page = (page - 1) & (ARGS - 1);
	asm volatile("" : "+r"(page));
	page++;
	if (!read_user(e->args, page, (void *)from))
		e->head.args = page;
}

inline_always struct kernfs_node *above(struct kernfs_node *n)
{
	if (has_member(n, __parent))
		return get(n, __parent);
	struct kernfs_node___before_6_15 *before = (void *)n;
	return (void *)get(before, parent);
}

// read_cgroup tells a cgroup's names up to the root's, and whether it came that far.
inline_always u32 read_cgroup(struct kernfs_node *n, char (*names)[NAME], u32 *levels)
{
	*levels = 0;
#pragma unroll
	for (u32 i = 0; i < LEVELS; i++) {
		if (!n)
			return 0;
		struct kernfs_node *up = above(n);
		if (!up)
			return 1;
		if (read_kernel_string(names[i], NAME, get(n, name)) >= NAME)
			return 0;
		*levels = i + 1;
		n = up;
	}
	return n && !above(n);
}

inline_always void read_cgroups(struct caller *e, struct task_struct *t)
{
	struct css_set *set = get(t, cgroups);
	struct cgroup *group = get(set, dfl_cgrp);
	if (read_cgroup(get(group, kn), e->cgroup2, &e->head.levels2))
		e->head.flags |= WHOLE_CGROUP2;
	e->head.levels1 = 0;
	if (!has_value(enum cgroup_subsys_id, pids_cgrp_id))
		return;
	u64 at = offset_of_member(set, subsys) + enum_value(enum cgroup_subsys_id, pids_cgrp_id) * 8;
	struct cgroup_subsys_state *state = 0;
	read_kernel(&state, sizeof(state), (void *)set + at);
	struct cgroup *pids = get(state, cgroup);
	if (pids == group)
		return; // one hierarchy for all
	if (read_cgroup(get(pids, kn), e->cgroup1, &e->head.levels1))
		e->head.flags |= WHOLE_CGROUP1;
}

// tell tells who the current process is.
static __attribute__((noinline)) void tell(u32 kind, u64 socket)
{
	struct caller *e = ring_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lose(LOST_CALLERS);
		return;
	}
	struct task_struct *t = (void *)current_task(), *leader = get(t, group_leader);
	struct cred *cred = get(t, cred);
	struct nsproxy *spaces = get(t, nsproxy);
	struct net *net = get(spaces, net_ns);
	struct mm_struct *mm = get(t, mm);
	e->head.kind = kind;
	e->head.socket = socket;
	e->head.time = ktime_ns();
	e->head.pid = get(t, tgid);
	e->head.thread = get(t, pid);
	e->head.started = get(leader, start_boottime);
	e->head.execs = get(t, self_exec_id);
	e->head.cgroup_id = 0;
	e->head.uid = get(cred, uid.val);
	e->head.netns = get(net, ns.inum);
	e->head.flags = 0;
	read_kernel_string(e->head.comm, sizeof(e->head.comm), &t->comm);
	read_parents(e, t);
	read_exe(e, t, mm);
	read_args(e, mm);
	read_cgroups(e, t);
	ring_submit(e, 0);
}

inline_always int on_connect(struct bpf_sock_addr *a)
{
	u64 socket = socket_cookie(a);
	struct task_struct *t = (void *)current_task();
	struct identity who = {get(t, tgid), get(t, self_exec_id)};
	map_update(&told, &socket, &who, 0);
	tell(CONNECTED, socket);
	return PASS;
}

// sender is who sends, if that is sure, and tells a process that is not the one told last for this socket.
//
// The current process may be a bystander, on whose processor the network stack happens to run. It is not while the socket is locked by
// a process: then the stack leaves the socket alone, and only that process sends on it.
inline_always struct identity sender(struct bpf_sock *sk, u64 socket)
{
	struct identity who = {};
	struct sock *tcp = (void *)to_tcp_sock(sk);
	if (!tcp || !get(tcp, sk_lock.owned))
		return who;
	struct task_struct *t = (void *)current_task();
	const u32 kernel_thread = 0x00200000; // PF_KTHREAD
	if (get(t, flags) & kernel_thread || !get(t, mm))
		return who;
	who.pid = get(t, tgid);
	who.execs = get(t, self_exec_id);
	struct identity *last = map_lookup(&told, &socket);
	if (!last || last->pid != who.pid || last->execs != who.execs) {
		map_update(&told, &socket, &who, 0);
		tell(SENDER, socket);
	}
	return who;
}

#endif

SEC("cgroup/connect4") int see_connect4(struct bpf_sock_addr *a)
{
	if (a->user_ip4 != SERVICE4 || a->user_port != net16(service_port) || a->type != STREAM)
		return PASS;
	return on_connect(a);
}

// see_connect6 also looks at IPv4 in IPv6 (::ffff:169.254.169.254), as Java and .NET have it: see_connect4 does not run for that.
SEC("cgroup/connect6") int see_connect6(struct bpf_sock_addr *a)
{
	u32 first = a->user_ip6[0], second = a->user_ip6[1], third = a->user_ip6[2], last = a->user_ip6[3];
	if (a->user_port != net16(service_port) || a->type != STREAM || second)
		return PASS;
	if (first == SERVICE6_FIRST && !third && last == SERVICE6_LAST)
		return on_connect(a);
	if (!first && third == net32(0xffff) && last == SERVICE4)
		return on_connect(a);
	return PASS;
}

// tcp_at is where the TCP header of a packet begins, or 0 if its socket does not go to the service.
inline_always u32 tcp_at(struct __sk_buff *skb, struct bpf_sock *sk)
{
	u8 h[10];
	if (skb->protocol == IPV4) {
		if (sk->dst_ip4 != SERVICE4 || skb_load(skb, 0, h, 10) || h[9] != TCP)
			return 0;
		return (h[0] & 15) * 4;
	}
	if (skb->protocol != IPV6 || sk->dst_ip6[0] != SERVICE6_FIRST || sk->dst_ip6[1] || sk->dst_ip6[2] || sk->dst_ip6[3] != SERVICE6_LAST)
		return 0;
	if (skb_load(skb, 0, h, 10))
		return 0;
	if (h[6] == TCP)
		return 40;
	// A packet of more than 64 KB has its length in a header between ("hop-by-hop options").
	if (h[6] != 0 || skb_load(skb, 40, h, 2) || h[0] != TCP)
		return 0;
	return 40 + (h[1] + 1) * 8;
}

// piece is what all pieces of a packet have in common, and where the next one begins.
struct piece {
	u64 socket, time;
	u32 at, left, seq, pid, execs;
};

// begin tells where a stream begins, by a piece without bytes.
inline_always void begin(struct piece *p)
{
	struct piece_head *e = ring_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lose(LOST_PIECES);
		return;
	}
	*e = (struct piece_head){.kind = SENT, .socket = p->socket, .time = p->time, .seq = p->seq, .pid = p->pid, .execs = p->execs};
	ring_submit(e, 0);
}

// copy hands the next bytes on, where room is SMALL or LARGE, and tells whether it went well.
#define copy(skb, p, type, room) ({ \
	struct type *e_ = ring_reserve(&events, sizeof(*e_), 0); \
	if (e_) { \
		u64 n_ = (p).left > (room) ? (room) : (p).left; \
		n_ = (n_ - 1) & ((room) - 1); \
		asm volatile("" : "+r"(n_)); \
		n_++; \
		e_->head.kind = SENT; \
		e_->head.socket = (p).socket; \
		e_->head.time = (p).time; \
		e_->head.seq = (p).seq; \
		e_->head.pid = (p).pid; \
		e_->head.execs = (p).execs; \
		e_->head.size = 0; \
		e_->head.missing = (p).left; \
		if (!skb_load(skb, (p).at, e_->bytes, n_)) { \
			(p).at += n_; \
			(p).seq += n_; \
			(p).left -= n_; \
			e_->head.size = n_; \
			e_->head.missing = last_ ? (p).left : 0; \
		} \
		ring_submit(e_, 0); \
	} else { \
		lose(LOST_PIECES); \
	} \
	e_ != 0; \
})

SEC("cgroup_skb/egress") int see_sent(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk || sk->dst_port != net16(service_port))
		return PASS;
	u32 at = tcp_at(skb, sk);
	u8 tcp[20];
	if (!at || skb_load(skb, at, tcp, sizeof(tcp)))
		return PASS;
	struct piece p = {.at = at + (tcp[12] >> 4) * 4};
	u32 syn = tcp[13] >> 1 & 1; // takes a number of its own, before the bytes that "fast open" sends with it
	if (skb->len < p.at || (skb->len == p.at && !syn))
		return PASS;
	p.left = skb->len - p.at;
	p.seq = net32(*(u32 *)(tcp + 4)) + syn;
	p.socket = socket_cookie(skb);
	p.time = ktime_ns();
#ifndef NO_PROBE
	struct identity who = sender(sk, p.socket);
	p.pid = who.pid;
	p.execs = who.execs;
#endif
	if (!p.left) {
		begin(&p);
		return PASS;
	}
	if (p.left <= SMALL) {
		const int last_ = 1;
		copy(skb, p, small_piece, SMALL);
		return PASS;
	}
#pragma unroll
	for (int i = 0; i < PIECES; i++) {
		const int last_ = i == PIECES - 1;
		u32 before = p.left;
		if (!copy(skb, p, large_piece, LARGE) || !p.left || p.left == before)
			break;
	}
	return PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
