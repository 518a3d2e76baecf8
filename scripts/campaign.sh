#!/usr/bin/env bash
# The long runs of test/crash: rollouts that are killed at random while calls go wrong, each about twice (150 rollouts unless
# said otherwise), and a rollout of many changes (100,000 unless said otherwise, 500 to an account) by three workers on
# PostgreSQL, of which one is killed, one is stopped until its lanes have moved on and then woken, while PostgreSQL is killed
# and a scan goes on. Both print what they counted. A failing rollout names its seed; SEED is where to begin.
#
# usage: scripts/campaign.sh [ROLLOUTS [CHANGES]]; 0 leaves a part out
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
rollouts=${1:-150}
changes=${2:-100000}
seed=${SEED:-1}

binary=$(mktemp -d)/crash.test
trap 'rm -rf "$(dirname "$binary")"' EXIT
"$go" test -c -o "$binary" ./test/crash
cd test/crash
if [ "$rollouts" -gt 0 ]; then
    "$binary" -test.v -test.timeout 3h -test.run '^TestKilledAtEveryBoundaryOfAnApply$|^TestCampaign$' -everywhere -runs "$rollouts" \
        -seed "$seed" | grep -Ev '^ *(=== |--- PASS: .*/)'
fi
if [ "$changes" -gt 0 ]; then
    "$binary" -test.v -test.timeout 3h -test.run '^TestManyWorkers$' -accounts $(((changes + 499) / 500)) \
        -instances $((changes < 500 ? changes : 500)) -freeze 100s -seed "$seed" | grep -Ev '^ *=== '
fi
