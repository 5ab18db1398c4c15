package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/mattn/go-sqlite3"
)

// conn is one connection of SQLite's. The driver is used without database/sql, whose pool, locks and conversions cost more than
// most of our statements. A conn is for one goroutine at a time.
type conn struct {
	lite     *sqlite3.SQLiteConn
	prepared []*statement
}

const (
	modeRead  = "ro"
	modeWrite = "rwc"
)

// openConn opens the file with the pragmas that every connection has.
func openConn(path, mode string) (*conn, error) {
	uri := url.URL{Scheme: "file", Path: path, RawQuery: "mode=" + mode}
	c, err := (&sqlite3.SQLiteDriver{}).Open(uri.String())
	if err != nil {
		return nil, err
	}
	lite, ok := c.(*sqlite3.SQLiteConn)
	if !ok {
		return nil, errors.New("not a connection of go-sqlite3")
	}
	db := &conn{lite: lite}
	for _, pragma := range []string{
		fmt.Sprintf("PRAGMA busy_timeout=%d", busyTimeoutMS),
		fmt.Sprintf("PRAGMA cache_size=-%d", cacheKiB),
		"PRAGMA temp_store=MEMORY",
		"PRAGMA trusted_schema=OFF",
	} {
		if err := db.exec(pragma); err != nil {
			return nil, errors.Join(err, lite.Close())
		}
	}
	return db, nil
}

// close closes the statements first: as long as there is one, SQLite keeps the connection, its files and its locks.
func (c *conn) close() error {
	var err error
	for _, st := range c.prepared {
		err = errors.Join(err, st.lite.Close())
	}
	return errors.Join(err, c.lite.Close())
}

// exec runs a statement that is not prepared.
func (c *conn) exec(sql string, args ...driver.Value) error {
	_, err := c.lite.ExecContext(context.Background(), sql, named(args))
	return err
}

// one runs a query for a single row.
func (c *conn) one(sql string, args ...driver.Value) ([]driver.Value, error) {
	var row []driver.Value
	err := c.each(sql, func(r []driver.Value) error {
		row = append(row[:0], r...)
		return nil
	}, args...)
	if err == nil && row == nil {
		err = fmt.Errorf("%w: no row where there must be one", ErrDamaged)
	}
	return row, err
}

// each calls fn with every row; the row is used again for the next one.
func (c *conn) each(sql string, fn func([]driver.Value) error, args ...driver.Value) error {
	rows, err := c.lite.QueryContext(context.Background(), sql, named(args))
	if err != nil {
		return err
	}
	row := make([]driver.Value, len(rows.Columns()))
	for {
		if err = rows.Next(row); err != nil {
			break
		}
		if err = fn(row); err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if e := rows.Close(); err == nil {
		err = e
	}
	return err
}

// transaction runs fn in a transaction, which is rolled back when fn fails.
func (c *conn) transaction(fn func() error) error {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		if err = c.exec("COMMIT"); err == nil {
			return nil
		}
	}
	if !c.lite.AutoCommit() { // SQLite has not rolled back by itself
		err = errors.Join(err, c.exec("ROLLBACK"))
	}
	return err
}

func named(args []driver.Value) []driver.NamedValue {
	if len(args) == 0 {
		return nil
	}
	list := make([]driver.NamedValue, len(args))
	for i, v := range args {
		list[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return list
}

// statement is a prepared statement that returns nothing. It is run as a query, since the driver then resets, binds and steps in one
// call into C.
type statement struct {
	lite *sqlite3.SQLiteStmt
	args []driver.NamedValue
}

func (c *conn) prepare(sql string) (*statement, error) {
	s, err := c.lite.Prepare(sql)
	if err != nil {
		return nil, err
	}
	lite, ok := s.(*sqlite3.SQLiteStmt)
	if !ok {
		return nil, errors.New("not a statement of go-sqlite3")
	}
	st := &statement{lite: lite, args: make([]driver.NamedValue, lite.NumInput())}
	for i := range st.args {
		st.args[i].Ordinal = i + 1
	}
	c.prepared = append(c.prepared, st)
	return st, nil
}

func (s *statement) run(args ...driver.Value) error {
	for i, v := range args {
		s.args[i].Value = v
	}
	rows, err := s.lite.QueryContext(context.Background(), s.args[:len(args)])
	if err != nil {
		return err
	}
	return rows.Close()
}
