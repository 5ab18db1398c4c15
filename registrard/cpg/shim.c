//go:build linux && cgo

#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// The dispatch functions keep a megabyte on the stack (IPC_DISPATCH_SIZE).
#define STACK_MIN (1536 * 1024)
// The first size of the buffer of records.
#define BUF_MIN (256 * 1024)

// append starts a record and returns where its body goes, or NULL.
static unsigned char *append(struct shim *s, uint32_t kind, size_t body)
{
	size_t need = 8 + ((body + 7) & ~(size_t)7);
	s->callbacks++;
	if (body > UINT32_MAX - 16) {
		s->nomem = 1;
		return NULL;
	}
	if (s->cap - s->len < need) {
		size_t cap = s->cap ? s->cap : BUF_MIN;
		while (cap - s->len < need)
			cap *= 2;
		unsigned char *buf = realloc(s->buf, cap);
		if (buf == NULL) {
			s->nomem = 1;
			return NULL;
		}
		s->buf = buf;
		s->cap = cap;
	}
	uint32_t head[2] = {kind, (uint32_t)body};
	unsigned char *p = s->buf + s->len;
	memcpy(p, head, sizeof(head));
	memset(p + need - 8, 0, 8);
	s->len += need;
	s->records++;
	return p + sizeof(head);
}

static void on_deliver(cpg_handle_t h, const struct cpg_name *group, uint32_t node,
		       uint32_t pid, void *msg, size_t len)
{
	void *ctx = NULL;
	(void)group;
	if (cpg_context_get(h, &ctx) != CS_OK || ctx == NULL)
		return;
	unsigned char *p = append(ctx, SHIM_MESSAGE, 8 + len);
	if (p == NULL)
		return;
	uint32_t from[2] = {node, pid};
	memcpy(p, from, sizeof(from));
	if (len > 0)
		memcpy(p + sizeof(from), msg, len);
}

static unsigned char *put_addresses(unsigned char *p, const struct cpg_address *a, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t v[3] = {a[i].nodeid, a[i].pid, a[i].reason};
		memcpy(p, v, sizeof(v));
		p += sizeof(v);
	}
	return p;
}

static void on_confchg(cpg_handle_t h, const struct cpg_name *group,
		       const struct cpg_address *members, size_t n_members,
		       const struct cpg_address *left, size_t n_left,
		       const struct cpg_address *joined, size_t n_joined)
{
	void *ctx = NULL;
	(void)group;
	if (cpg_context_get(h, &ctx) != CS_OK || ctx == NULL)
		return;
	unsigned char *p = append(ctx, SHIM_CONFCHG, 12 + 12 * (n_members + n_left + n_joined));
	if (p == NULL)
		return;
	uint32_t counts[3] = {(uint32_t)n_members, (uint32_t)n_left, (uint32_t)n_joined};
	memcpy(p, counts, sizeof(counts));
	p = put_addresses(p + sizeof(counts), members, n_members);
	p = put_addresses(p, left, n_left);
	put_addresses(p, joined, n_joined);
}

static void on_ring(cpg_handle_t h, struct cpg_ring_id ring, uint32_t n, const uint32_t *nodes)
{
	void *ctx = NULL;
	if (cpg_context_get(h, &ctx) != CS_OK || ctx == NULL)
		return;
	unsigned char *p = append(ctx, SHIM_RING, 16 + 4 * (size_t)n);
	if (p == NULL)
		return;
	uint32_t head[2] = {ring.nodeid, n};
	memcpy(p, head, 8);
	memcpy(p + 8, &ring.seq, 8);
	if (n > 0)
		memcpy(p + 16, nodes, 4 * (size_t)n);
}

static void on_quorum(quorum_handle_t h, uint32_t quorate, struct quorum_ring_id ring, uint32_t n,
		      const uint32_t *nodes)
{
	const void *ctx = NULL;
	if (quorum_context_get(h, &ctx) != CS_OK || ctx == NULL)
		return;
	unsigned char *p = append((struct shim *)ctx, SHIM_QUORUM, 20 + 4 * (size_t)n);
	if (p == NULL)
		return;
	uint32_t head[2] = {ring.nodeid, n};
	memcpy(p, head, 8);
	memcpy(p + 8, &ring.seq, 8);
	memcpy(p + 16, &quorate, 4);
	if (n > 0)
		memcpy(p + 20, nodes, 4 * (size_t)n);
}

// on_nodelist is there because the library calls it unchecked; what it says the
// other notifications say too.
static void on_nodelist(quorum_handle_t h, struct quorum_ring_id ring, uint32_t n_members,
			const uint32_t *members, uint32_t n_joined, const uint32_t *joined,
			uint32_t n_left, const uint32_t *left)
{
	const void *ctx = NULL;
	(void)ring, (void)n_members, (void)members;
	(void)n_joined, (void)joined, (void)n_left, (void)left;
	if (quorum_context_get(h, &ctx) == CS_OK && ctx != NULL)
		((struct shim *)ctx)->callbacks++;
}

struct shim *shim_new(size_t out_cap)
{
	struct shim *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->cpg_fd = s->quorum_fd = s->cmap_fd = -1;
	for (int i = 0; i < 3; i++)
		s->hup_fd[i] = -1;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->out = malloc(out_cap ? out_cap : 1);
	s->out_cap = out_cap;
	if (s->wake_fd < 0 || s->out == NULL) {
		shim_free(s);
		return NULL;
	}
	return s;
}

// trusted reports whether root listens at the other end.
static int trusted(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == 0;
}

static int connect_cpg(struct shim *s, uint32_t *node, const char **op)
{
	cpg_model_v1_data_t model = {
		.model = CPG_MODEL_V1,
		.cpg_deliver_fn = on_deliver,
		.cpg_confchg_fn = on_confchg,
		.cpg_totem_confchg_fn = on_ring,
		.flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF,
	};
	*op = "cpg_model_initialize";
	int rc = cpg_model_initialize(&s->cpg, CPG_MODEL_V1, (cpg_model_data_t *)&model, s);
	if (rc != CS_OK)
		return rc;
	s->cpg_open = 1;
	*op = "cpg_fd_get";
	if ((rc = cpg_fd_get(s->cpg, &s->cpg_fd)) != CS_OK)
		return rc;
	*op = "cpg socket";
	if (!trusted(s->cpg_fd))
		return SHIM_UNTRUSTED;
	*op = "cpg_local_get";
	unsigned int id = 0;
	rc = cpg_local_get(s->cpg, &id);
	*node = id;
	return rc;
}

static int connect_quorum(struct shim *s, const char **op)
{
	quorum_model_v1_data_t model = {
		.model = QUORUM_MODEL_V1,
		.quorum_notify_fn = on_quorum,
		.nodelist_notify_fn = on_nodelist,
	};
	uint32_t type = QUORUM_FREE;
	*op = "quorum_model_initialize";
	int rc = quorum_model_initialize(&s->quorum, QUORUM_MODEL_V1, (quorum_model_data_t *)&model, &type, s);
	if (rc != CS_OK)
		return rc;
	s->quorum_open = 1;
	*op = "quorum provider";
	if (type != QUORUM_SET)
		return SHIM_NO_QUORUM;
	*op = "quorum_fd_get";
	if ((rc = quorum_fd_get(s->quorum, &s->quorum_fd)) != CS_OK)
		return rc;
	*op = "quorum socket";
	if (!trusted(s->quorum_fd))
		return SHIM_UNTRUSTED;
	*op = "quorum_trackstart";
	return quorum_trackstart(s->quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES);
}

static int connect_cmap(struct shim *s, const char **op)
{
	*op = "cmap_initialize";
	int rc = cmap_initialize(&s->cmap);
	if (rc != CS_OK)
		return rc;
	s->cmap_open = 1;
	*op = "cmap_fd_get";
	if ((rc = cmap_fd_get(s->cmap, &s->cmap_fd)) != CS_OK)
		return rc;
	*op = "cmap socket";
	return trusted(s->cmap_fd) ? SHIM_OK : SHIM_UNTRUSTED;
}

int shim_connect(struct shim *s, uint32_t *node, const char **op)
{
	int rc = connect_cpg(s, node, op);
	if (rc == CS_OK)
		rc = connect_quorum(s, op);
	if (rc == CS_OK)
		rc = connect_cmap(s, op);
	if (rc != CS_OK)
		return rc;
	int fds[3] = {s->cpg_fd, s->quorum_fd, s->cmap_fd};
	*op = "dup";
	for (int i = 0; i < 3; i++)
		if ((s->hup_fd[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0)) < 0)
			return CS_ERR_NO_RESOURCES;
	return CS_OK;
}

static void set_name(struct cpg_name *to, const char *name, size_t len)
{
	memset(to, 0, sizeof(*to));
	to->length = (uint32_t)len;
	memcpy(to->value, name, len);
}

int shim_join(struct shim *s, const char *name, size_t len)
{
	struct cpg_name group;
	if (len > CPG_MAX_NAME_LENGTH)
		return CS_ERR_INVALID_PARAM;
	set_name(&group, name, len);
	return cpg_join(s->cpg, &group);
}

int shim_leave(struct shim *s, const char *name, size_t len)
{
	struct cpg_name group;
	if (len > CPG_MAX_NAME_LENGTH)
		return CS_ERR_INVALID_PARAM;
	set_name(&group, name, len);
	return cpg_leave(s->cpg, &group);
}

int shim_requery(struct shim *s)
{
	// The service notifies first and then says that tracking was on already.
	int rc = quorum_trackstart(s->quorum, CS_TRACK_CURRENT);
	return rc == CS_ERR_EXIST ? CS_OK : rc;
}

int shim_multicast(struct shim *s, size_t len)
{
	// libqb follows every message with one byte on this socket and spins while it
	// is full, which is for as long as Corosync is stopped. The socket counts as
	// writable only while it is at most a quarter full.
	struct pollfd fd = {.fd = s->cpg_fd, .events = POLLOUT};
	if (poll(&fd, 1, 0) != 1 || !(fd.revents & POLLOUT))
		return fd.revents & (POLLHUP | POLLERR | POLLNVAL) ? CS_ERR_LIBRARY : CS_ERR_TRY_AGAIN;
	struct iovec iov = {.iov_base = s->out, .iov_len = len};
	return cpg_mcast_joined(s->cpg, CPG_TYPE_AGREED, &iov, 1);
}

// enough_stack reports whether this thread can run the dispatch functions.
static int enough_stack(void)
{
	pthread_attr_t attr;
	void *low = NULL;
	size_t size = 0;
	if (pthread_getattr_np(pthread_self(), &attr) != 0)
		return 0;
	int rc = pthread_attr_getstack(&attr, &low, &size);
	pthread_attr_destroy(&attr);
	return rc == 0 && (size_t)((char *)__builtin_frame_address(0) - (char *)low) >= STACK_MIN;
}

// drain takes events of one service until there is none, or enough. It returns
// CS_ERR_TRY_AGAIN when there is none left.
static int drain(struct shim *s, int quorum, size_t max_bytes, uint32_t max_records)
{
	while (s->len < max_bytes && s->records < max_records) {
		uint64_t before = s->callbacks;
		int rc = quorum ? (int)quorum_dispatch(s->quorum, CS_DISPATCH_ONE_NONBLOCKING)
				: (int)cpg_dispatch(s->cpg, CS_DISPATCH_ONE_NONBLOCKING);
		if (s->nomem)
			return CS_ERR_NO_MEMORY;
		if (rc != CS_OK)
			return rc;
		// The libraries make this of a lost connection.
		if (s->callbacks == before)
			return CS_ERR_TRY_AGAIN;
	}
	return CS_OK;
}

int shim_wait(struct shim *s, size_t max_bytes, uint32_t max_records)
{
	s->len = 0;
	s->records = 0;
	if (!s->stack_checked && !enough_stack())
		return SHIM_NO_STACK;
	s->stack_checked = 1;
	struct pollfd fds[3] = {
		{.fd = s->wake_fd, .events = POLLIN},
		{.fd = s->cpg_fd, .events = POLLIN},
		{.fd = s->quorum_fd, .events = POLLIN},
	};
	int n;
	while ((n = poll(fds, 3, -1)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return CS_ERR_LIBRARY;
	if (fds[0].revents)
		return SHIM_WOKEN;
	for (int quorum = 0; quorum <= 1; quorum++) {
		short re = fds[1 + quorum].revents;
		if (!re)
			continue;
		int rc = drain(s, quorum, max_bytes, max_records);
		if (rc == CS_ERR_TRY_AGAIN && (re & (POLLHUP | POLLERR | POLLNVAL)))
			rc = CS_ERR_LIBRARY;
		if (rc != CS_OK && rc != CS_ERR_TRY_AGAIN)
			return rc;
	}
	return SHIM_OK;
}

void shim_wake(struct shim *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->wake_fd, &one, sizeof(one));
	(void)n; // it can only say that it is awake already
}

void shim_hangup(struct shim *s)
{
	for (int i = 0; i < 3; i++)
		if (s->hup_fd[i] >= 0)
			shutdown(s->hup_fd[i], SHUT_RDWR);
}

void shim_disconnect(struct shim *s)
{
	if (s->cpg_open)
		cpg_finalize(s->cpg);
	if (s->quorum_open)
		quorum_finalize(s->quorum);
	if (s->cmap_open)
		cmap_finalize(s->cmap);
	s->cpg_open = s->quorum_open = s->cmap_open = 0;
}

void shim_free(struct shim *s)
{
	for (int i = 0; i < 3; i++)
		if (s->hup_fd[i] >= 0)
			close(s->hup_fd[i]);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	free(s->buf);
	free(s->out);
	free(s);
}
