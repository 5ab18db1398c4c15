// Package acceptance holds registrard to its promises (docs/design.md), as one who uses it: phones that register, an operator at the
// command line, Pacemaker, and whoever pulls the plug. The tests of the build tag cluster run in the lab (docs/lab.md) and need root;
// those of the tag integration need one machine and no rights.
//
// What was answered is kept in a book of its own (sipload.Ledger for what phones can see, book for what the databases must hold), and
// compared after every fault. The databases are read with the sqlite3 program, not with registrard's own code.
package acceptance
