# shellcheck shell=sh
# What the scripts share; sourced, never run. The caller has set -eu and $root.

# go_wanted prints the Go version that go.mod asks for.
go_wanted() {
	sed -n 's/^go //p' "$root/go.mod"
}

# go_version GO prints the version of a go command, without looking for another toolchain.
go_version() {
	GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed 's/^go//'
}

# at_least HAVE WANT succeeds if version HAVE is WANT or later.
at_least() {
	[ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# find_go prints the go command to use: one that is new enough, else one that fetches
# the toolchain named in go.mod by itself (1.21 and later do).
find_go() {
	second=
	for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-1.*/bin/go; do
		[ -x "$go" ] || continue
		version=$(go_version "$go") || continue
		if at_least "$version" "$(go_wanted)"; then
			echo "$go"
			return 0
		fi
		if at_least "$version" 1.21; then
			second=$go
		fi
	done
	[ -n "$second" ] && echo "$second"
}

# use_go puts that go command first on PATH, and lets it fetch a toolchain if it must: an older one is of no use without.
use_go() {
	go=$(find_go) || {
		echo "Go $(go_wanted) or later is missing: run scripts/install as root" >&2
		exit 1
	}
	at_least "$(go_version "$go")" "$(go_wanted)" || {
		GOTOOLCHAIN=auto
		export GOTOOLCHAIN
	}
	PATH=$(dirname "$go"):$PATH
	export PATH
}

# build OUTPUT PACKAGE builds one of the project's programs into bin/; once for a script and those that it calls.
build() {
	case " ${BUILT:-} " in *" $1 "*) return 0 ;; esac
	(use_go && cd "$root" && go build -o "bin/$1" "$2")
	BUILT="${BUILT:-} $1"
	export BUILT
}
