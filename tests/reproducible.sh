#!/usr/bin/env bash
# Builds the working tree's source a second time, in another directory with another target directory and another
# CARGO_HOME, and compares the binaries with those of `make build` in the directory that is given.
set -euo pipefail
cd "$(dirname "$0")/.."

built=$(realpath "${1:?usage: tests/reproducible.sh DIRECTORY_OF_BINARIES}")
readonly elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT

mkdir -p "$elsewhere/source" "$elsewhere/cargo"
git ls-files -z | xargs -0 cp --parents --target-directory "$elsewhere/source"
# The packages come along, so that nothing is downloaded twice.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
cp -a "$cargo_home/registry" "$elsewhere/cargo"
for file in config.toml config; do
  if [ -f "$cargo_home/$file" ]; then cp "$cargo_home/$file" "$elsewhere/cargo"; fi
done

env --unset KEYLEDGER_BIN_DIR --unset MAKEFLAGS --unset CARGO_BUILD_RUSTFLAGS \
  CARGO_HOME="$elsewhere/cargo" CARGO_TARGET_DIR="$elsewhere/target" \
  make --no-print-directory --directory "$elsewhere/source" build

for binary in keyledger replay-tool; do
  for file in "$binary" "$binary.debug" "$binary.cdx.json"; do
    cmp "$built/$file" "$elsewhere/target/release/$file"
  done
  sha256sum "$built/$binary" | sed "s|  .*|  $binary|"
done
echo "reproducible: a build elsewhere has the same bytes"
