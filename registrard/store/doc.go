// Package store is the SQLite replica: what a node keeps through a restart and a power cut.
//
// A Store owns a directory. In it are location.db (the log, the tables of the content, and the position that they stand at, always
// changed in one transaction), identity (which database this is, and what it has promised; outside location.db, which a snapshot
// replaces), and lock. Nobody else may write there; everybody may read location.db with the sqlite3 command.
//
// It promises: what Write has returned for is there after a crash of the process, and with Options.Durable after a power cut; tables,
// log and position are of one moment, whenever the power fails; a damaged database is never served, but set aside and kept for study;
// a database that has lost its memory has another DiskID.
//
// It imports location and go-sqlite3 alone. DESIGN.md says why it is as it is.
package store
