#!/usr/bin/env bash
# Builds the release binaries of the last commit twice, in different directories, and compares them byte by byte.
# Whoever builds the same commit with the same toolchain gets the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cargo_home=${CARGO_HOME:-$HOME/.cargo}
for number in one two; do
  source=$place/$number
  mkdir "$source"
  git archive HEAD | tar -x -C "$source"
  echo "reproducible: building in $source"
  RUSTFLAGS="--remap-path-prefix=$source=/keyledger --remap-path-prefix=$cargo_home=/cargo" \
    CFLAGS="-ffile-prefix-map=$source=/keyledger -ffile-prefix-map=$cargo_home=/cargo" \
    CARGO_TARGET_DIR="$source/target" make --no-print-directory --directory "$source" build
done
cd "$place"
for binary in keyledger replay-tool; do
  if ! cmp "one/target/release/$binary" "two/target/release/$binary"; then
    echo "reproducible: $binary differs between two builds" >&2
    exit 1
  fi
  (cd one/target/release && sha256sum "$binary")
done
