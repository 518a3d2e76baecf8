#!/usr/bin/env bash
# Runs every fuzz test of the module, one after another, for the given time each (20s by default). A failure leaves its
# input under the package's testdata/fuzz, where the ordinary tests run it from then on: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
fuzztime=${1:-20s}

count=0
while IFS= read -r file; do
    while IFS= read -r name; do
        echo "fuzz $(dirname "$file") $name"
        "$go" test -run '^$' -fuzz "^$name\$" -fuzztime "$fuzztime" "./$(dirname "$file")"
        count=$((count + 1))
    done < <(grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -c6-)
done < <(git ls-files -co --exclude-standard '*_test.go' | xargs -r grep -lE '^func Fuzz' || true)
if [ "$count" = 0 ]; then
    echo "no fuzz test was found" >&2
    exit 1
fi
echo "$count fuzz tests ran for $fuzztime each"
