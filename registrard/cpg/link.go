//go:build linux && cgo

package cpg

/*
#cgo pkg-config: libcpg libquorum libcmap
#cgo CFLAGS: -Wall -Wextra -O2
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"sync"
	"time"
	"unsafe"
)

// Limits of one wake-up: what is left comes with the next.
const (
	batchBytes  = 1 << 20
	batchEvents = 2048
)

// hangupAfter is how long Corosync gets to answer a goodbye.
const hangupAfter = 500 * time.Millisecond

// link is the C side of a connection. Its methods may run side by side where
// they say so, and none after close.
type link struct {
	s    *C.struct_shim
	node NodeID

	mu   sync.Mutex
	gone bool // s is freed
}

// code turns a result of the shim into an error of op, nil for success.
func code(op string, rc C.int) error {
	var c Code
	switch rc {
	case C.SHIM_OK:
		return nil
	case C.SHIM_UNTRUSTED:
		c = ErrUntrusted
	case C.SHIM_NO_QUORUM:
		c = ErrNoQuorumProvider
	case C.SHIM_NO_STACK:
		c = ErrNoStack
	case C.CS_ERR_BUSY:
		c = ErrTryAgain
	case C.CS_ERR_BAD_HANDLE:
		c = ErrLibrary // finalised, or never was
	default:
		c = Code(rc)
	}
	return &Error{Op: op, Code: c}
}

// connect opens a connection. It blocks for as long as Corosync hangs.
//
// Implements:
//
//	cs_error_t cpg_model_initialize(cpg_handle_t *, cpg_model_t, cpg_model_data_t *, void *)
//	cs_error_t cpg_fd_get(cpg_handle_t, int *)
//	cs_error_t cpg_local_get(cpg_handle_t, unsigned int *)
//	cs_error_t quorum_model_initialize(quorum_handle_t *, quorum_model_t, quorum_model_data_t *, uint32_t *, void *)
//	cs_error_t quorum_trackstart(quorum_handle_t, unsigned int)
//	cs_error_t cmap_initialize(cmap_handle_t *)
func connect() (*link, error) {
	s := C.shim_new(MaxMessage)
	if s == nil {
		return nil, &Error{Op: "connect", Code: ErrNoMemory}
	}
	l := &link{s: s}
	var op *C.char
	var node C.uint32_t
	if err := code("connect", C.shim_connect(s, &node, &op)); err != nil {
		err.(*Error).Op = C.GoString(op)
		l.close()
		return nil, err
	}
	l.node = NodeID(node)
	return l, nil
}

// wait waits for events and returns them, with the error that ends the link; the
// events come before it. woken says that wake was called. One goroutine only.
//
// Implements:
//
//	cs_error_t cpg_dispatch(cpg_handle_t, cs_dispatch_flags_t)
//	cs_error_t quorum_dispatch(quorum_handle_t, cs_dispatch_flags_t)
func (l *link) wait() (events []Event, woken bool, err error) {
	rc := C.shim_wait(l.s, batchBytes, batchEvents)
	if rc == C.SHIM_WOKEN {
		return nil, true, nil
	}
	if l.s.len > 0 {
		buf := unsafe.Slice((*byte)(unsafe.Pointer(l.s.buf)), int(l.s.len))
		if events, err = parse(buf); err != nil {
			return events, false, &Error{Op: "cpg_dispatch", Code: ErrCorrupt}
		}
	}
	return events, false, code("cpg_dispatch", rc)
}

// wake ends wait, at any time.
func (l *link) wake() { C.shim_wake(l.s) }

// multicast sends a message of at most MaxMessage bytes. One caller at a time,
// and none beside join or leave.
//
// Implements:
//
//	cs_error_t cpg_mcast_joined(cpg_handle_t, cpg_guarantee_t, const struct iovec *, unsigned int)
func (l *link) multicast(parts [][]byte) error {
	out := unsafe.Slice((*byte)(unsafe.Pointer(l.s.out)), MaxMessage)
	n := 0
	for _, p := range parts {
		n += copy(out[n:], p)
	}
	return code("cpg_mcast_joined", C.shim_multicast(l.s, C.size_t(n)))
}

// join asks to join a group.
//
// Implements:
//
//	cs_error_t cpg_join(cpg_handle_t, const struct cpg_name *)
func (l *link) join(group string) error {
	name := C.CString(group)
	defer C.free(unsafe.Pointer(name))
	return code("cpg_join", C.shim_join(l.s, name, C.size_t(len(group))))
}

// leave asks to leave a group.
//
// Implements:
//
//	cs_error_t cpg_leave(cpg_handle_t, const struct cpg_name *)
func (l *link) leave(group string) error {
	name := C.CString(group)
	defer C.free(unsafe.Pointer(name))
	return code("cpg_leave", C.shim_leave(l.s, name, C.size_t(len(group))))
}

// requery asks for a Quorum event.
//
// Implements:
//
//	cs_error_t quorum_trackstart(quorum_handle_t, unsigned int)
func (l *link) requery() error { return code("quorum_trackstart", C.shim_requery(l.s)) }

// hangup breaks the connection under whatever blocks on it, at any time.
func (l *link) hangup() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gone {
		C.shim_hangup(l.s)
	}
}

// close says goodbye and frees the link. It takes no longer than hangupAfter, or
// little more.
//
// Implements:
//
//	cs_error_t cpg_finalize(cpg_handle_t)
//	cs_error_t quorum_finalize(quorum_handle_t)
//	cs_error_t cmap_finalize(cmap_handle_t)
func (l *link) close() {
	timer := time.AfterFunc(hangupAfter, l.hangup)
	defer timer.Stop()
	C.shim_disconnect(l.s)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	C.shim_free(l.s)
}
