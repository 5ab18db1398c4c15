// Package imports holds the project's import law as a test: which package may import which of ours, and where a third party is
// allowed. docs/design.md has the table.
package imports
