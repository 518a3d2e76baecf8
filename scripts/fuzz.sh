#!/usr/bin/env bash
# The long runs of what the ordinary tests do shortly: every fuzz test of the module for the given time each (20s by
# default), and the random courses of rollouts. A failing fuzz test leaves its input under the package's testdata/fuzz,
# where the ordinary tests run it from then on: commit it with the fix. A failing course names its seed.
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

# At least 100,000 courses through the state machines, and 100,000 whole rollouts under faults, kills, pauses and rollbacks.
"$go" test -count=1 -timeout 60m -run 'Promises|Ends' ./internal/rollout -rapid.checks="${IMDSCTL_SEQUENCES:-100000}"
IMDSCTL_SEQUENCES="${IMDSCTL_SEQUENCES:-100000}" "$go" test -count=1 -timeout 60m -v -run 'TestNoFaultBreaksThePromises$' ./internal/engine
IMDSCTL_SEQUENCES=5000 "$go" test -count=1 -timeout 60m -v -run 'TestManyWorkersKeepThePromises$' ./internal/engine
