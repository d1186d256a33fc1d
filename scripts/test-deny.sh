#!/usr/bin/env bash
# Asks cargo-deny about the crates of all Cargo.lock files: licences, two versions of one crate, sources, yanked
# versions, security advisories. What is let through and why is in deny.toml.
# Advisories come from a repository of git, and what was yanked from the index of crates.io: where they cannot be
# reached, the last line says that they were left out. Everything else works without a network, once the crates and
# cargo-deny have been fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VERSION=0.20.2
readonly DATABASE=https://github.com/RustSec/advisory-db
tools=$PWD/target/tools
cargo=${CARGO:-cargo}

installed_version() {
    "$tools/bin/cargo-deny" --version 2>/dev/null | sed -n 's/^cargo-deny //p'
}
if [ "$(installed_version)" != $VERSION ]; then
    python3 scripts/fetch.py cargo-deny || {
        echo "test-deny: compiling cargo-deny, which takes half an hour on two cores"
        $cargo install --quiet --locked --version "=$VERSION" --root "$tools" cargo-deny
    }
fi
[ "$(installed_version)" = $VERSION ] || {
    echo "test-deny: $tools/bin/cargo-deny is not of version $VERSION" >&2
    exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

readonly MANIFESTS=(Cargo.toml fuzz/Cargo.toml tests/loom/Cargo.toml tests/tsan/Cargo.toml)
# Usage: deny MANIFEST CONFIG CHECK…
deny() {
    local manifest=$1 config=$2
    shift 2
    # A crate that the index lacks cannot be said not to be yanked.
    local lints=(-D index-failure)
    if [ "$manifest" = Cargo.toml ]; then
        # Whatever deny.toml lets through must still be there.
        lints+=(-D unmatched-skip -D unnecessary-skip)
    else
        # Fewer crates, and so less to let through.
        lints+=(-A unmatched-skip -A license-exception-not-encountered -A license-not-encountered)
    fi
    echo "$manifest: $*"
    "$tools/bin/cargo-deny" --offline --locked --workspace --all-features --manifest-path "$manifest" \
        --config "$config" check "${lints[@]}" "$@"
}

# With --locked: fetches what Cargo.lock names and is not on this machine yet.
for manifest in "${MANIFESTS[@]}"; do
    $cargo fetch --quiet --locked --manifest-path "$manifest"
done
for manifest in "${MANIFESTS[@]}"; do
    deny "$manifest" deny.toml licenses bans sources
done
passed="licences, bans, sources"
left_out=

# cargo keeps what it last read of each crate. Resolving anew reads all again; nothing is written to Cargo.lock.
read_index() {
    local manifest
    for manifest in "${MANIFESTS[@]}"; do
        timeout 300 $cargo update --quiet --dry-run --manifest-path "$manifest" 2>"$scratch/index" || return 1
    done
}
index_was_read=no
! read_index || index_was_read=yes

fetch_database() {
    GIT_TERMINAL_PROMPT=0 timeout 300 "$tools/bin/cargo-deny" --config deny.toml fetch db >"$scratch/database" 2>&1
}
if fetch_database; then
    config=deny.toml
    passed+=", advisories"
else
    left_out+="advisories ($DATABASE cannot be reached), "
    # cargo-deny looks for yanked crates along with advisories, and for neither without a database. This one has a
    # single advisory, of a crate that does not exist.
    config=$scratch/deny.toml
    # The name that cargo-deny gives to the database of $DATABASE.
    database=$scratch/databases/advisory-db-3157b0e258782691
    mkdir -p "$database/crates/no-such-crate"
    cat >"$database/crates/no-such-crate/RUSTSEC-2000-0001.md" <<'ADVISORY'
```toml
[advisory]
id = "RUSTSEC-2000-0001"
package = "no-such-crate"
date = "2000-01-01"

[versions]
patched = []
```

# No advisory
ADVISORY
    git=(git -C "$database" -c user.name=test-deny -c user.email=test-deny@localhost -c commit.gpgsign=false)
    "${git[@]}" init --quiet --initial-branch=main
    "${git[@]}" add .
    "${git[@]}" commit --quiet --message='No advisory'
    touch "$database/.git/FETCH_HEAD"
    printf '[advisories]\nyanked = "deny"\ndb-path = "%s"\ndb-urls = ["%s"]\n' "$scratch/databases" "$DATABASE" >"$config"
fi

if [ "$index_was_read" = no ]; then
    # Versions that were not yanked when cargo last read of them prove nothing.
    left_out+="yanked crates (the index of crates.io cannot be read: $(tail -n 1 "$scratch/index")), "
else
    passed+=", yanked crates"
fi
if [ "$index_was_read" = yes ] || [ "$config" = deny.toml ]; then
    for manifest in "${MANIFESTS[@]}"; do
        deny "$manifest" "$config" advisories
    done
fi
left_out=${left_out%, }
echo "test-deny: passed: $passed; left out: ${left_out:-nothing}"
