package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"sipha/registrard/location"
)

// identity is what must outlive the database file: a snapshot replaces that, and the promise stays. The file is small and written
// whole, aside first and then renamed.
type identity struct {
	disk     location.DiskID
	promised location.Epoch // the highest that was promised
	seen     uint64         // the highest epoch number that was met anywhere
	state    identityState
	last     location.Position // with closed: of the log's last entry
}

type identityState uint8

const (
	// stateOpen: the database is in use, or was when the process died.
	stateOpen identityState = 1 + iota
	// stateClosed: everything was stored when the process ended.
	stateClosed
	// stateVolatile is stateOpen where Options.Durable is off: a process that died without closing it may have lost something.
	stateVolatile
	// stateSwapping: a verified snapshot is about to replace the database file.
	stateSwapping
)

const (
	identityMagic   = "registrard-id\r\n\x1a"
	identityVersion = 1
	// identitySize is magic, version, disk, promised, seen, state, last epoch, last index, CRC32C.
	identitySize = len(identityMagic) + 2 + 8 + epochSize + 8 + 1 + epochSize + 8 + 4
	epochSize    = 8 + 4 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (id *identity) encode() []byte {
	b := append(make([]byte, 0, identitySize), identityMagic...)
	b = binary.BigEndian.AppendUint16(b, identityVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(id.disk))
	b = appendEpoch(b, id.promised)
	b = binary.BigEndian.AppendUint64(b, id.seen)
	b = append(b, byte(id.state))
	b = appendEpoch(b, id.last.Epoch)
	b = binary.BigEndian.AppendUint64(b, id.last.Index)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// errIdentity is an identity file that is none.
var errIdentity = errors.New("not an identity file")

func decodeIdentity(b []byte) (identity, error) {
	var id identity
	n := len(identityMagic)
	if len(b) < n+2 || string(b[:n]) != identityMagic {
		return id, fmt.Errorf("%w: no magic", errIdentity)
	}
	if v := binary.BigEndian.Uint16(b[n:]); v > identityVersion {
		return id, fmt.Errorf("%w: identity version %d", ErrFuture, v)
	} else if v != identityVersion || len(b) != identitySize {
		return id, fmt.Errorf("%w: version %d of %d bytes", errIdentity, v, len(b))
	}
	body, sum := b[:identitySize-4], binary.BigEndian.Uint32(b[identitySize-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return id, fmt.Errorf("%w: checksum", errIdentity)
	}
	b = b[n+2:]
	id.disk, b = location.DiskID(binary.BigEndian.Uint64(b)), b[8:]
	id.promised, b = epochAt(b), b[epochSize:]
	id.seen, b = binary.BigEndian.Uint64(b), b[8:]
	id.state, b = identityState(b[0]), b[1:]
	id.last.Epoch, b = epochAt(b), b[epochSize:]
	id.last.Index = binary.BigEndian.Uint64(b)
	if id.disk == 0 || id.state < stateOpen || id.state > stateSwapping {
		return id, fmt.Errorf("%w: content", errIdentity)
	}
	return id, nil
}

func appendEpoch(b []byte, e location.Epoch) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Number)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Node))
	return binary.BigEndian.AppendUint64(b, uint64(e.Incarnation))
}

func epochAt(b []byte) location.Epoch {
	return location.Epoch{
		Number: binary.BigEndian.Uint64(b), Node: location.NodeID(binary.BigEndian.Uint32(b[8:])),
		Incarnation: location.Incarnation(binary.BigEndian.Uint64(b[12:])),
	}
}

// readIdentity reads the file. That there is none is fs.ErrNotExist.
func readIdentity(dir string) (identity, error) {
	b, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		return identity{}, err
	}
	return decodeIdentity(b)
}

// writeIdentity stores the identity durably, whatever Options.Durable says: a promise that is forgotten makes two primaries.
func writeIdentity(dir string, id *identity) error {
	path := filepath.Join(dir, identityFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return wrap("write", path, err)
	}
	_, err = f.Write(id.encode())
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return wrap("write", path, err)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

func newDiskID() location.DiskID {
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if id := location.DiskID(binary.BigEndian.Uint64(b[:])); id != 0 {
			return id
		}
	}
}
