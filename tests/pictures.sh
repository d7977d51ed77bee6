#!/usr/bin/env bash
# Takes the screenshots of docs/console.md: builds the service, fills it with example data, and runs a browser.
set -euo pipefail
cd "$(dirname "$0")/.."

tests/tools-install.sh test
make build
target=${CARGO_TARGET_DIR:-$PWD/target}
data=$(mktemp -d)
"$target/release/keyledger" serve --listen 127.0.0.1:7079 --data "$data" >/dev/null &
service=$!
trap 'kill "$service"; rm -r "$data"' EXIT
until curl -fs -o "$data/ready" http://127.0.0.1:7079/readyz; do kill -0 "$service"; done
root=$(<"$data/first-root-key")
ROOT_KEY=$root node tests/node/console/pictures.mjs http://127.0.0.1:7079 docs/pictures
