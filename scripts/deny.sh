#!/usr/bin/env bash
# Checks the licences, versions and sources of all dependencies, and whether any of them is known to be unsafe.
#   scripts/deny.sh
# What is known stands in RustSec's database. It is fetched; without a network the one that was fetched before counts,
# unless it is older than 90 days. Exit status 1 when something is wrong, 3 when there was no database to look into.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
cargo_tool cargo-deny "$cargo_deny"
PATH=$PWD/target/tools/bin:$PATH
database=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs

cargo deny --log-level error --offline check licenses bans sources
if ! said=$(cargo deny --log-level error fetch db 2>&1); then
    if ! compgen -G "$database/*/crates" >/dev/null; then
        echo "$said" >&2
        echo "deny: advisories were NOT checked: RustSec's database could not be fetched and is not in $database" >&2
        echo "deny: run \`cargo deny fetch db\` where there is a network, and copy that folder here" >&2
        exit 3
    fi
    # cargo-deny takes a fetch that failed for one that worked, so it finds none too old.
    for copy in "$database"/*/; do
        days=$((($(date +%s) - $(git -C "$copy" log -1 --format=%ct)) / 86400))
        echo "deny: RustSec's database could not be fetched; the one in $copy is of $days days ago"
        [ "$days" -le 90 ] || { echo "deny: that is too old to count; advisories were NOT checked" >&2; exit 3; }
    done
fi
cargo deny --log-level error --offline check advisories
