#!/usr/bin/env bash
# Makes the eBPF objects of internal/tracer/capture/bpf from their source, or, given a folder, makes them there. The compiler is the
# clang of the pinned package ziglang, so that the same source gives the same bytes everywhere; a test compares them.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${IMDSCTL_TEST_VENV:-$root/.cache/venv}/bin/python"
source="$root/internal/tracer/capture/bpf"
out="$(cd "${1:-$source}" && pwd)"

# Relative names, and no folder of the compilation, in what debuggers and the kernel's verifier show.
cd "$source"
build() {
	"$python" -m ziglang cc -target bpfel-freestanding-none -mcpu=v2 -O2 -g -std=gnu17 -Wall -Wextra -Werror -fno-stack-protector \
		-fno-sanitize=all -ffile-prefix-map="$source"=. -fdebug-compilation-dir=. "${@:2}" -c trace.c -o "$out/$1"
}
build full_bpfel.o
build noprobe_bpfel.o -DNO_PROBE
