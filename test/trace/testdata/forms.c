// forms sends a request to the metadata service in one of the many forms that there are, or one that is made to mislead:
//
//	forms FORM PATH
//
// A name with "v2" in it sends a token's header. Where another process than this one sends, its id is printed. Built by the test with
// zig cc, for musl, statically; io_uring is called without a library.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOKEN "X-aws-ec2-metadata-token: T\r\n"
#define LARGE 65536

static char request[2 * LARGE];
static size_t length;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void add(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	length += vsnprintf(request + length, sizeof(request) - length, format, args);
	va_end(args);
}

static void fill(size_t n)
{
	memset(request + length, 'a', n);
	length += n;
}

static void answer(int fd)
{
	char b[4096];
	struct timeval patience = {10, 0};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	ssize_t n;
	do // a ring's work in the kernel interrupts what its process waits for
		n = read(fd, b, sizeof(b));
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		die("no answer");
}

static void send_all(int fd, const void *p, size_t n)
{
	while (n > 0) {
		ssize_t sent = write(fd, p, n);
		if (sent < 0)
			die("write");
		p = (const char *)p + sent;
		n -= sent;
	}
}

static struct sockaddr_storage address;
static socklen_t address_size;

// new_socket gives one of a family and notes the service's address for it.
static int new_socket(int family, int protocol, const char *ip)
{
	int fd = socket(family, SOCK_STREAM, protocol);
	if (fd < 0)
		die("socket");
	struct sockaddr_in *four = (void *)&address;
	struct sockaddr_in6 *six = (void *)&address;
	memset(&address, 0, sizeof(address));
	address.ss_family = family;
	four->sin_port = htons(80);
	address_size = family == AF_INET ? sizeof(*four) : sizeof(*six);
	if (inet_pton(family, ip, family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr) != 1)
		die("address");
	return fd;
}

static int dial(int family, int protocol, const char *ip)
{
	int fd = new_socket(family, protocol, ip);
	if (connect(fd, (void *)&address, address_size))
		die("connect");
	return fd;
}

static int dial4(void) { return dial(AF_INET, 0, "169.254.169.254"); }

static void no_delay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

// byte_by_byte sends so, and waits a while between them.
static void byte_by_byte(int fd, useconds_t wait)
{
	for (size_t i = 0; i < length; i++) {
		send_all(fd, request + i, 1);
		if (wait)
			usleep(wait);
	}
}

static int in_memory(void)
{
	int f = memfd_create("request", 0);
	send_all(f, request, length);
	lseek(f, 0, SEEK_SET);
	return f;
}

static void vectors(int fd, const char *form)
{
	struct iovec v[4] = {{request, 3}, {request + 3, 7}, {request + 10, 20}, {request + 30, length - 30}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 4};
	struct mmsghdr two[2] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 2}}, {.msg_hdr = {.msg_iov = v + 2, .msg_iovlen = 2}}};
	if (!strcmp(form, "writev") && writev(fd, v, 4) < 0)
		die("writev");
	if (!strcmp(form, "sendmsg") && sendmsg(fd, &m, 0) < 0)
		die("sendmsg");
	if (!strcmp(form, "sendmmsg") && sendmmsg(fd, two, 2, 0) != 2)
		die("sendmmsg");
}

static void from_file(int fd, const char *form)
{
	int f = in_memory(), p[2];
	off_t at = 0;
	if (!strcmp(form, "sendfile")) {
		if (sendfile(fd, f, &at, length) != (ssize_t)length)
			die("sendfile");
		return;
	}
	if (pipe(p))
		die("pipe");
	if (!strcmp(form, "vmsplice")) {
		struct iovec v = {request, length};
		if (vmsplice(p[1], &v, 1, 0) != (ssize_t)length)
			die("vmsplice");
	} else {
		send_all(p[1], request, length);
	}
	if (splice(p[0], 0, fd, 0, length, 0) != (ssize_t)length)
		die("splice");
}

static void zero_copy(int fd)
{
	int one = 1;
	char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, request, length);
	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) || send(fd, page, length, MSG_ZEROCOPY) < 0)
		die("zero copy");
}

// by_child has another process send. An orphan sends when its parent is gone.
static void by_child(int fd, int orphan)
{
	pid_t parent = getpid(), child = fork();
	if (child < 0)
		die("fork");
	if (child) {
		printf("pid %d\n", child);
		fflush(stdout);
		if (!orphan)
			waitpid(child, 0, 0);
		_exit(0);
	}
	if (orphan)
		while (getppid() == parent)
			usleep(1000);
	send_all(fd, request, length);
	answer(fd);
	_exit(0);
}

// passed hands the connected socket to a child that did not inherit it.
static void passed(void)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	pid_t child = fork();
	char c = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	if (!child) {
		if (recvmsg(pair[1], &m, 0) != 1)
			die("recvmsg");
		int fd;
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
		send_all(fd, request, length);
		answer(fd);
		_exit(0);
	}
	printf("pid %d\n", child);
	fflush(stdout);
	int fd = dial4();
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	if (sendmsg(pair[0], &m, 0) != 1)
		die("sendmsg");
	close(fd);
	waitpid(child, 0, 0);
}

static void *in_thread(void *fd)
{
	send_all(*(int *)fd, request, length);
	answer(*(int *)fd);
	return 0;
}

// What io_uring takes of linux/io_uring.h.
struct sqe {
	uint8_t opcode, flags;
	uint16_t ioprio;
	int32_t fd;
	uint64_t off, addr;
	uint32_t len, msg_flags;
	uint64_t user_data;
	uint16_t buf_index, personality;
	int32_t splice_fd;
	uint64_t more[2];
};
struct cqe { uint64_t user_data; int32_t res; uint32_t flags; };
struct sq_offsets { uint32_t head, tail, mask, entries, flags, dropped, array, reserved; uint64_t address; };
struct cq_offsets { uint32_t head, tail, mask, entries, overflow, cqes, flags, reserved; uint64_t address; };
struct parameters {
	uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
	struct sq_offsets sq;
	struct cq_offsets cq;
};
enum { WRITEV = 2, CONNECT = 16, SEND = 26, SEND_ZC = 47, SQPOLL = 2 };

static struct { int fd; uint8_t *sq, *cq; struct sqe *entries; struct parameters p; } ring;

static void ring_open(int poll)
{
	ring.p.flags = poll ? SQPOLL : 0;
	ring.p.sq_thread_idle = 1000;
	ring.fd = syscall(__NR_io_uring_setup, 8, &ring.p);
	if (ring.fd < 0)
		die("io_uring_setup");
	ring.sq = mmap(0, ring.p.sq.array + 8 * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, 0);
	ring.cq = mmap(0, ring.p.cq.cqes + 16 * sizeof(struct cqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, 0x8000000);
	ring.entries = mmap(0, 8 * sizeof(struct sqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, 0x10000000);
	if (ring.sq == MAP_FAILED || ring.cq == MAP_FAILED || ring.entries == MAP_FAILED)
		die("io_uring");
}

// ring_do has one thing done and waits for it.
static void ring_do(struct sqe e)
{
	uint32_t *tail = (void *)(ring.sq + ring.p.sq.tail), *array = (void *)(ring.sq + ring.p.sq.array), slot = *tail & 7;
	uint32_t *head = (void *)(ring.cq + ring.p.cq.head), *done = (void *)(ring.cq + ring.p.cq.tail);
	ring.entries[slot] = e;
	array[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	while (syscall(__NR_io_uring_enter, ring.fd, 1, 1, 1 | (ring.p.flags & SQPOLL ? 2 : 0), 0, 0) < 0 && errno == EINTR)
		;
	while (__atomic_load_n(done, __ATOMIC_ACQUIRE) == *head)
		usleep(100);
	struct cqe *c = (struct cqe *)(ring.cq + ring.p.cq.cqes) + (*head & (ring.p.cq_entries - 1));
	if (c->res < 0) {
		errno = -c->res;
		die("io_uring");
	}
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
}

static int by_ring(const char *form)
{
	int fd = new_socket(AF_INET, 0, "169.254.169.254");
	ring_open(!strcmp(form, "uringpoll"));
	ring_do((struct sqe){.opcode = CONNECT, .fd = fd, .addr = (uintptr_t)&address, .off = address_size});
	struct iovec v[2] = {{request, 9}, {request + 9, length - 9}};
	if (!strcmp(form, "uringwritev"))
		ring_do((struct sqe){.opcode = WRITEV, .fd = fd, .addr = (uintptr_t)v, .len = 2});
	else
		ring_do((struct sqe){.opcode = strcmp(form, "uringzerocopy") ? SEND : SEND_ZC, .fd = fd, .addr = (uintptr_t)request, .len = length});
	return fd;
}

// swarm starts many clients that send and exit at once, some at a time.
static void swarm(int clients, const char *program, const char *path)
{
	int running = 0;
	for (int i = 0; i < clients; i++) {
		char own[256];
		snprintf(own, sizeof(own), "%s/%d", path, i);
		pid_t child = fork();
		if (!child) {
			execl(program, "forms", "fast", own, (char *)0);
			_exit(127);
		}
		for (running++; running >= 16; running--)
			wait(0);
	}
	while (wait(0) > 0)
		;
}

// write_request makes what a form sends.
static void write_request(const char *form, const char *path)
{
#define IS(name) (!strcmp(form, name))
	if (IS("pipelined"))
		add("GET %s/first HTTP/1.1\r\nHost: x\r\n" TOKEN "\r\n", path);
	if (IS("putbody")) {
		const char *body = "GET /body HTTP/1.1\r\n" TOKEN "\r\n";
		add("PUT %s/first HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", path, strlen(body), body);
	}
	if (IS("chunked"))
		add("PUT %s/first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n1b\r\nbody\r\n\r\nGET /b HTTP/1.1\r\n\r\n\r\n\r\n0\r\n\r\n", path);
	if (IS("url"))
		add("GET %s/X-aws-ec2-metadata-token?X-aws-ec2-metadata-token:%%20T HTTP/1.1\r\nHost: x\r\n", path);
	else
		add("GET %s HTTP/1.1\r\nHost: 169.254.169.254\r\n", path);
	if (IS("agent"))
		add("User-Agent: X-aws-ec2-metadata-token: T\r\n");
	else
		add("User-Agent: forms-%s\r\n", form);
	if (IS("keptv2"))
		add("Connection: keep-alive\r\n"); // without it the service closes
	if (IS("lower"))
		add("x-aws-ec2-metadata-token: T\r\n");
	if (IS("folded"))
		add("X-aws-ec2-metadata-token:\r\n T\r\n");
	if (IS("within"))
		add("X-Note: a\r\n X-aws-ec2-metadata-token: T\r\n");
	if (IS("longer"))
		add("X-aws-ec2-metadata-token-of-mine: T\r\n");
	if (strstr(form, "64k")) {
		for (int i = 0; i < 16; i++) {
			add("X-Pad-%d: ", i);
			fill(LARGE / 16);
			add("\r\n");
		}
	}
	if (strstr(form, "6k")) {
		add("X-Pad: ");
		fill(6000);
		add("\r\n");
	}
	if (strstr(form, "v2"))
		add(TOKEN);
	add("\r\n");
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	const char *form = argv[1], *path = argv[2];
	int fd = -1;
	write_request(form, path);
	if (IS("swarm")) {
		swarm(atoi(argv[3]), argv[4], path);
		return 0;
	}
	if (IS("v6") || IS("v6v2"))
		fd = dial(AF_INET6, 0, "fd00:ec2::254");
	else if (IS("mapped") || IS("mappedv2"))
		fd = dial(AF_INET6, 0, "::ffff:169.254.169.254");
	else if (IS("mptcp"))
		fd = dial(AF_INET, 262, "169.254.169.254");
	else if (strncmp(form, "uring", 5) && !IS("fastopen") && !IS("nonblock") && !IS("passed"))
		fd = dial4();

	if (IS("bytes") || IS("bytesv2"))
		byte_by_byte(fd, 0);
	else if (IS("splitbytes") || IS("splitbytesv2")) {
		no_delay(fd);
		byte_by_byte(fd, 0);
	} else if (IS("slowbytesv2")) {
		no_delay(fd);
		byte_by_byte(fd, 2000);
	} else if (IS("writev") || IS("sendmsg") || IS("sendmmsg"))
		vectors(fd, form);
	else if (IS("sendfile") || IS("splice") || IS("vmsplice"))
		from_file(fd, form);
	else if (IS("zerocopy"))
		zero_copy(fd);
	else if (IS("fastopen")) {
		fd = new_socket(AF_INET, 0, "169.254.169.254");
		if (sendto(fd, request, length, MSG_FASTOPEN, (void *)&address, address_size) < 0)
			die("fast open");
	} else if (IS("nonblock")) {
		fd = new_socket(AF_INET, 0, "169.254.169.254");
		fcntl(fd, F_SETFL, O_NONBLOCK);
		connect(fd, (void *)&address, address_size);
		while (send(fd, request, length, 0) < 0)
			usleep(20);
		fcntl(fd, F_SETFL, 0);
	} else if (IS("fork"))
		by_child(fd, 0);
	else if (IS("orphan"))
		by_child(fd, 1);
	else if (IS("passed")) {
		passed();
		return 0;
	} else if (IS("thread")) {
		pthread_t t;
		pthread_create(&t, 0, in_thread, &fd);
		pthread_join(t, 0);
		return 0;
	} else if (IS("fast")) {
		send_all(fd, request, length);
		_exit(0);
	} else if (IS("dup")) {
		int other = dup(fd);
		close(fd);
		fd = other;
		send_all(fd, request, length);
	} else if (IS("exec")) { // another program, in the same process, sends on the connection
		char number[16];
		snprintf(number, sizeof(number), "%d", fd);
		execl(argv[3], "forms", "inherited", path, number, (char *)0);
		die("exec");
	} else if (IS("inherited")) {
		close(fd);
		fd = atoi(argv[3]);
		send_all(fd, request, length);
	} else if (IS("before") || IS("beforev2")) { // connected before the trace began: it waits for a line
		char c;
		printf("connected\n");
		fflush(stdout);
		if (read(0, &c, 1) != 1)
			die("wait");
		send_all(fd, request, length);
	} else if (IS("keptv2")) {
		for (int i = 0; i < 3; i++) {
			send_all(fd, request, length);
			answer(fd);
		}
		return 0;
	} else if (!strncmp(form, "uring", 5))
		fd = by_ring(form);
	else
		send_all(fd, request, length);
	answer(fd);
	if (IS("pipelined") || IS("putbody") || IS("chunked"))
		usleep(20000); // for the second answer, which may come with the first
	return 0;
}
