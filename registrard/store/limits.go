package store

import (
	"io/fs"
	"time"
)

// Limits of what is kept, and how long things wait. Sizes are in the unit that their names end with.
const (
	// LogEntriesMax and LogBytesMax bound the log: beyond them the oldest entries go that the tables have. What the tables do not yet
	// have stays whatever its size; the replication core bounds it.
	LogEntriesMax = 1 << 16
	LogBytesMax   = 16 << 20
	// flushEntriesMax, flushChangesMax and flushAge bound what is committed before it is on its way into the tables; flushQuiet is
	// how long nothing more may have come when it goes at once. All of it together is bounded by pendingMax: then Write helps.
	flushEntriesMax = 4096
	flushChangesMax = 50_000
	flushAge        = 2 * time.Second
	flushQuiet      = 20 * time.Millisecond
	pendingMax      = 3 * flushChangesMax
	// flushSlice is how many changes go into the tables in one transaction, while no Write can come in between.
	flushSlice = 256
	// ChunkBytesMax is the longest chunk of a snapshot.
	ChunkBytesMax = 48 << 10
	// recordBytesMax is the longest record of a snapshot: an entry of the log with the largest payload, or the changes of an AOR.
	recordBytesMax = 5 << 20
	// rowsPerRecord and bytesPerRecord are where a record of a snapshot is closed.
	rowsPerRecord  = 64
	bytesPerRecord = 16 << 10
	// asideMax is how many damaged databases are kept for study; the oldest goes when there is one more.
	asideMax = 3
	// readersMax is how many snapshots may be read at once.
	readersMax = 4

	busyTimeoutMS = 5000
	cacheKiB      = 16 << 10
	walFramesMax  = 16 << 10
	walKeepBytes  = 64 << 20
)

// The files of a directory.
const (
	databaseFile = "location.db"
	stagingFile  = "location.db.staging"
	identityFile = "identity"
	lockFile     = "lock"
	asideMark    = ".damaged-"

	fileMode fs.FileMode = 0o640
	dirMode  fs.FileMode = 0o750
)
