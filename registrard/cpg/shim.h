// The C side of package cpg: one connection to Corosync's CPG, quorum and cmap
// services. No Go code is called from here. The libraries' callbacks append
// records to a buffer, which shim_wait hands over whole.
#ifndef REGISTRARD_CPG_SHIM_H
#define REGISTRARD_CPG_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <corosync/cmap.h>
#include <corosync/cpg.h>
#include <corosync/quorum.h>

// Kinds of records. A record is u32 kind, u32 length of the body, the body,
// padding to a multiple of eight; all integers are in the machine's order.
enum shim_kind {
	SHIM_MESSAGE = 1, // u32 node, u32 pid, data
	SHIM_CONFCHG = 2, // u32 members, left, joined; for each u32 node, pid, reason
	SHIM_RING = 3,    // u32 node, u32 count, u64 seq, count times u32 node
	SHIM_QUORUM = 4,  // u32 node, u32 count, u64 seq, u32 quorate, count times u32 node
};

// Results of this side's own, beside cs_error_t.
enum shim_result {
	SHIM_OK = CS_OK,
	SHIM_WOKEN = 2000,     // shim_wake was called
	SHIM_UNTRUSTED = 2001, // the peer is not root
	SHIM_NO_QUORUM = 2002, // no quorum provider
	SHIM_NO_STACK = 2003,  // the thread's stack is too small for the libraries
};

struct shim {
	cpg_handle_t cpg;
	quorum_handle_t quorum;
	cmap_handle_t cmap;
	int cpg_open, quorum_open, cmap_open;
	int cpg_fd, quorum_fd, cmap_fd, wake_fd;
	// Duplicates of the first three, for shim_hangup: the libraries close theirs.
	int hup_fd[3];
	int stack_checked;
	uint64_t callbacks; // counts calls, to see a dispatch that did nothing

	// The records of one shim_wait, and how many; nomem once one was lost.
	unsigned char *buf;
	size_t len, cap;
	uint32_t records;
	int nomem;

	// Where a message is put together before shim_multicast.
	unsigned char *out;
	size_t out_cap;
};

// shim_new returns a shim without connections, with room for messages of out_cap
// bytes, or NULL.
struct shim *shim_new(size_t out_cap);

// shim_connect opens the connections and starts the tracking of quorum. On
// failure op names what failed. It can block for as long as Corosync hangs.
int shim_connect(struct shim *s, uint32_t *node, const char **op);

// shim_join and shim_leave ask for a change of this process's membership and can
// block like shim_connect. shim_requery asks for a fresh quorum notification.
int shim_join(struct shim *s, const char *name, size_t len);
int shim_leave(struct shim *s, const char *name, size_t len);
int shim_requery(struct shim *s);

// shim_multicast sends the first len bytes of out. It does not block.
int shim_multicast(struct shim *s, size_t len);

// shim_wait waits for events and takes what is there, up to about max_bytes and
// max_records; they stay in buf until the next call. SHIM_WOKEN after shim_wake;
// any other result but SHIM_OK is the end of the connection, and the records of
// that call still count.
int shim_wait(struct shim *s, size_t max_bytes, uint32_t max_records);

// shim_wake ends a shim_wait, this one or the next.
void shim_wake(struct shim *s);

// shim_hangup breaks the connections, so that whatever blocks on them returns.
void shim_hangup(struct shim *s);

// shim_disconnect closes the connections. It can block until shim_hangup, which
// another thread may call until shim_free.
void shim_disconnect(struct shim *s);

// shim_free frees the shim, after shim_disconnect.
void shim_free(struct shim *s);

#endif
