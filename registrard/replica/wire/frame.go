package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

const (
	// FrameMax is the largest frame, in bytes: one of Totem's over knet.
	FrameMax = 60 << 10
	// PrefixSize is the size of a frame's prefix, in bytes.
	PrefixSize = 28
	// Version is the wire version that Encode writes.
	Version = 1
	// VersionMin and VersionMax are the wire versions that Decode reads.
	VersionMin, VersionMax = 1, 1

	magic         = "RGL1"
	prefixVersion = 1

	// flagMustUnderstand: who does not know the type must leave the group instead of skipping the message.
	flagMustUnderstand = 1 << 0

	offType, offFlags, offLength, offCRC, offIncarnation, offVersion = 5, 6, 8, 12, 16, 24
)

// checksum is the CRC32C of a frame without the checksum's own bytes.
func checksum(frame []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(frame[:offCRC], table), table, frame[offCRC+4:])
}

// Encode appends the frame of m, sent by from, to dst. Errors are ErrTooBig and ErrInvalid; dst is returned as it was then.
func Encode(dst []byte, from location.Incarnation, m replica.Message) ([]byte, error) {
	start := len(dst)
	c := codec{buf: append(dst, make([]byte, PrefixSize)...)}
	t := c.body(m)
	frame := c.buf[start:]
	if c.err == nil && len(frame) > FrameMax {
		c.fail(fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, len(frame), FrameMax))
	}
	if c.err != nil {
		return dst, fmt.Errorf("encode %T: %w", m, c.err)
	}
	var flags uint16
	if mustUnderstand(t) {
		flags |= flagMustUnderstand
	}
	copy(frame, magic)
	frame[len(magic)] = prefixVersion
	frame[offType] = t
	binary.BigEndian.PutUint16(frame[offFlags:], flags)
	binary.BigEndian.PutUint32(frame[offLength:], uint32(len(frame)-PrefixSize))
	binary.BigEndian.PutUint64(frame[offIncarnation:], uint64(from))
	binary.BigEndian.PutUint16(frame[offVersion:], Version)
	binary.BigEndian.PutUint32(frame[offCRC:], checksum(frame))
	return c.buf, nil
}

// Decode reads one frame, the whole of b. The message keeps parts of b, which must not change any more. Errors are ErrForeign,
// ErrCorrupt, ErrVersion, ErrSkip and ErrUnknown; with ErrVersion, ErrSkip and ErrUnknown the sender's incarnation is told.
func Decode(b []byte) (location.Incarnation, replica.Message, error) {
	if len(b) < PrefixSize || string(b[:len(magic)]) != magic {
		return 0, nil, fmt.Errorf("decode: %w", ErrForeign)
	}
	if v := b[len(magic)]; v != prefixVersion {
		return 0, nil, fmt.Errorf("decode: %w", &VersionError{"prefix", uint16(v), prefixVersion, prefixVersion})
	}
	length := binary.BigEndian.Uint32(b[offLength:])
	if len(b) > FrameMax || uint64(length) != uint64(len(b)-PrefixSize) {
		return 0, nil, fmt.Errorf("decode: %w: %d bytes, %d in the prefix", ErrCorrupt, len(b)-PrefixSize, length)
	}
	if checksum(b) != binary.BigEndian.Uint32(b[offCRC:]) {
		return 0, nil, fmt.Errorf("decode: %w: checksum", ErrCorrupt)
	}
	from := location.Incarnation(binary.BigEndian.Uint64(b[offIncarnation:]))
	version := binary.BigEndian.Uint16(b[offVersion:])
	t := b[offType]
	if t != typeHello && (version < VersionMin || version > VersionMax) {
		return from, nil, fmt.Errorf("decode: %w", &VersionError{"message", version, VersionMin, VersionMax})
	}
	m := newMessage(t)
	if m == nil {
		err := ErrSkip
		if binary.BigEndian.Uint16(b[offFlags:])&flagMustUnderstand != 0 {
			err = fmt.Errorf("%w (upgrade registrard on this node)", ErrUnknown)
		}
		return from, nil, fmt.Errorf("decode type %d: %w", t, err)
	}
	c := codec{buf: b[PrefixSize:], reading: true}
	c.body(m)
	if c.err != nil {
		return from, nil, fmt.Errorf("decode %T: %w", m, c.err)
	}
	return from, m, nil
}
