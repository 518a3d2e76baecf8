// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only
//
// The few declarations that the programs need of the kernel, so that neither its headers nor libbpf's are needed to build them.
// What programs are given (section 1 and 2) is stable; of the kernel's own structures (section 3) only names matter: the loader
// finds where a member is on the running kernel, by its type information.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define inline_always static inline __attribute__((always_inline))
#define offset_of(type, member) __builtin_offsetof(type, member)

// A number as the network has it, on a machine whose lowest byte comes first, which is what the object is made for.
#define net16(n) ((u16)(((n) & 0xff) << 8 | ((n) >> 8 & 0xff)))
#define net32(n) __builtin_bswap32(n)

// 1. Maps and helpers. See linux/bpf.h; the numbers are those of the helpers there.

#define map_type(number) int (*type)[number]
#define map_entries(number) int (*max_entries)[number]
#define map_key(t) t *key
#define map_value(t) t *value

enum { LRU_HASH = 9, ARRAY = 2, RINGBUF = 27 };

struct __sk_buff;
struct bpf_sock;
struct tcp_sock;

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*const ktime_ns)(void) = (void *)5;
static u64 (*const current_pid_tgid)(void) = (void *)14;
static u64 (*const current_uid_gid)(void) = (void *)15;
static long (*const current_comm)(void *to, u32 size) = (void *)16;
static long (*const skb_load)(const struct __sk_buff *skb, u32 offset, void *to, u32 size) = (void *)26;
static u64 (*const current_task)(void) = (void *)35;
static u64 (*const socket_cookie)(void *context) = (void *)46;
static u64 (*const current_cgroup_id)(void) = (void *)80;
static long (*const read_user)(void *to, u32 size, const void *from) = (void *)112; // fails rather than wait for a page
static long (*const read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const read_kernel_string)(void *to, u32 size, const void *from) = (void *)115;
static void *(*const ring_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const ring_submit)(void *entry, u64 flags) = (void *)132;
static struct tcp_sock *(*const to_tcp_sock)(void *sock) = (void *)137;

// 2. What programs are given. See linux/bpf.h.

#define pointer(type, name) union { type name; u64 : 64; } __attribute__((aligned(8)))

struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex,
		tc_index, cb[5], hash, tc_classid, data, data_end, napi_id, family, remote_ip4, local_ip4, remote_ip6[4],
		local_ip6[4], remote_port, local_port, data_meta;
	pointer(void *, flow_keys);
	u64 tstamp;
	u32 wire_len, gso_segs;
	pointer(struct bpf_sock *, sk);
};

struct bpf_sock_addr {
	u32 user_family, user_ip4, user_ip6[4], user_port, family, type, protocol, msg_src_ip4, msg_src_ip6[4];
	pointer(struct bpf_sock *, sk);
};

struct bpf_sock {
	u32 bound_dev_if, family, type, protocol, mark, priority, src_ip4, src_ip6[4], src_port;
	u16 dst_port, : 16;
	u32 dst_ip4, dst_ip6[4], state;
};

// 3. The kernel's own.

#ifndef NO_PROBE
#define KERNEL __attribute__((preserve_access_index))

struct qstr { const unsigned char *name; } KERNEL;
struct dentry { struct dentry *d_parent; struct qstr d_name; } KERNEL;
struct vfsmount { struct dentry *mnt_root; } KERNEL;
struct mount { struct mount *mnt_parent; struct dentry *mnt_mountpoint; struct vfsmount mnt; } KERNEL;
struct path { struct vfsmount *mnt; struct dentry *dentry; } KERNEL;
struct file { struct path f_path; } KERNEL;
struct fs_struct { struct path root; } KERNEL;
struct mm_struct { struct file *exe_file; unsigned long arg_start, arg_end; } KERNEL;
struct ns_common { unsigned int inum; } KERNEL;
struct net { struct ns_common ns; } KERNEL;
struct nsproxy { struct net *net_ns; } KERNEL;
typedef struct { unsigned int val; } KERNEL kuid_t;
struct cred { kuid_t uid; } KERNEL;

struct kernfs_node { const char *name; struct kernfs_node *__parent; } KERNEL;
struct kernfs_node___before_6_15 { struct kernfs_node *parent; } KERNEL;
struct cgroup { struct kernfs_node *kn; } KERNEL;
struct cgroup_subsys_state { struct cgroup *cgroup; } KERNEL;
enum cgroup_subsys_id { pids_cgrp_id = 1 };
struct css_set { struct cgroup_subsys_state *subsys[1]; struct cgroup *dfl_cgrp; } KERNEL;

struct task_struct {
	int pid, tgid;
	unsigned int flags;
	u64 start_boottime, self_exec_id;
	char comm[16];
	struct task_struct *real_parent, *group_leader;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct cred *cred;
	struct css_set *cgroups;
} KERNEL;

typedef struct { int owned; } KERNEL socket_lock_t;
struct sock { socket_lock_t sk_lock; } KERNEL;

// get reads a member of a kernel structure, by a pointer that may be anything: it is 0 where that cannot be read.
#define get(pointer, member) ({ \
	typeof((pointer)->member) value_; \
	if (read_kernel(&value_, sizeof(value_), &(pointer)->member)) \
		__builtin_memset(&value_, 0, sizeof(value_)); \
	value_; \
})

// Whether the running kernel has a member, or a value of an enumeration, and which.
#define has_member(pointer, member) __builtin_preserve_field_info((pointer)->member, 2)
#define offset_of_member(pointer, member) __builtin_preserve_field_info((pointer)->member, 0)
#define has_value(type, name) __builtin_preserve_enum_value(*(typeof(type) *)name, 0)
#define enum_value(type, name) __builtin_preserve_enum_value(*(typeof(type) *)name, 1)
#endif
