//go:build linux && cgo

package cpg

/*
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"context"
	"slices"
	"strings"
	"time"
	"unsafe"
)

// maxConfigKeys bounds the walk over nodelist: a few keys for each of MaxMembers
// nodes.
const maxConfigKeys = 16 * MaxMembers

// Config reads Corosync's configuration as it is in force now. It fails with
// ErrTimeout when ctx is done first.
//
// Implements:
//
//	cs_error_t cmap_get(cmap_handle_t, const char *, void *, size_t *, cmap_value_types_t *)
//	cs_error_t cmap_iter_init(cmap_handle_t, const char *, cmap_iter_handle_t *)
//	cs_error_t cmap_iter_next(cmap_handle_t, cmap_iter_handle_t, char[], size_t *, cmap_value_types_t *)
//	cs_error_t cmap_iter_finalize(cmap_handle_t, cmap_iter_handle_t)
func (c *Conn) Config(ctx context.Context) (Config, error) {
	var got Config
	err := c.call(ctx, "cmap_get", false, func() error {
		read, err := c.link.config()
		got = read
		return err
	})
	if err != nil {
		return Config{}, err // got may still be written to
	}
	return got, nil
}

// config reads the configuration. It blocks for as long as Corosync hangs.
func (l *link) config() (Config, error) {
	r := cmapReader{link: l}
	cfg := Config{
		Cluster:   r.text("totem.cluster_name"),
		Token:     time.Duration(r.number("runtime.config.totem.token")) * time.Millisecond,
		Consensus: time.Duration(r.number("runtime.config.totem.consensus")) * time.Millisecond,
		TwoNode:   r.number("runtime.votequorum.two_node") != 0,
		Waiting:   r.number("runtime.votequorum.wait_for_all_status") != 0,
		Cipher:    r.text("totem.crypto_cipher"),
		Hash:      r.text("totem.crypto_hash"),
	}
	cfg.WaitForAll = cfg.TwoNode // votequorum(5): unless said otherwise
	if value, _ := r.get("quorum.wait_for_all"); value != nil {
		cfg.WaitForAll = r.number("quorum.wait_for_all") != 0
	}
	for _, key := range r.keys("nodelist.node.") {
		if place, ok := strings.CutSuffix(key, ".nodeid"); ok {
			id := NodeID(r.number(key))
			cfg.Nodes = append(cfg.Nodes, ConfigNode{ID: id, Name: r.text(place + ".name")})
		}
	}
	slices.SortFunc(cfg.Nodes, func(a, b ConfigNode) int { return int(int64(a.ID) - int64(b.ID)) })
	return cfg, r.err
}

// cmapReader reads keys until the first error. A key that is not there is none.
type cmapReader struct {
	link *link
	err  error
}

// get returns a key's value as it is stored, with its type.
func (r *cmapReader) get(key string) ([]byte, C.cmap_value_types_t) {
	if r.err != nil {
		return nil, 0
	}
	name := C.CString(key)
	defer C.free(unsafe.Pointer(name))
	var buf [1024]byte
	size := C.size_t(len(buf))
	var kind C.cmap_value_types_t
	err := code("cmap_get", C.int(C.cmap_get(r.link.s.cmap, name, unsafe.Pointer(&buf[0]), &size, &kind)))
	if err != nil {
		if err.(*Error).Code != ErrNotExist {
			r.err = err
		}
		return nil, 0
	}
	return buf[:min(int(size), len(buf))], kind
}

func (r *cmapReader) text(key string) string {
	value, kind := r.get(key)
	if kind != C.CMAP_VALUETYPE_STRING {
		return ""
	}
	return trimNUL(value)
}

// number reads any kind of integer.
func (r *cmapReader) number(key string) uint64 {
	value, kind := r.get(key)
	switch kind {
	case C.CMAP_VALUETYPE_INT8, C.CMAP_VALUETYPE_UINT8,
		C.CMAP_VALUETYPE_INT16, C.CMAP_VALUETYPE_UINT16,
		C.CMAP_VALUETYPE_INT32, C.CMAP_VALUETYPE_UINT32,
		C.CMAP_VALUETYPE_INT64, C.CMAP_VALUETYPE_UINT64:
		return integer(value)
	}
	return 0
}

func (r *cmapReader) keys(prefix string) []string {
	if r.err != nil {
		return nil
	}
	name := C.CString(prefix)
	defer C.free(unsafe.Pointer(name))
	var iter C.cmap_iter_handle_t
	if r.err = code("cmap_iter_init", C.int(C.cmap_iter_init(r.link.s.cmap, name, &iter))); r.err != nil {
		return nil
	}
	defer C.cmap_iter_finalize(r.link.s.cmap, iter)
	var keys []string
	for range maxConfigKeys {
		var key [C.CMAP_KEYNAME_MAXLEN + 1]C.char
		rc := C.cmap_iter_next(r.link.s.cmap, iter, &key[0], nil, nil)
		if rc == C.CS_ERR_NO_SECTIONS {
			break
		}
		if r.err = code("cmap_iter_next", C.int(rc)); r.err != nil {
			return nil
		}
		keys = append(keys, C.GoString(&key[0]))
	}
	return keys
}
