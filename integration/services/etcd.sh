#!/usr/bin/env bash
# etcd, one member without TLS, built from source once a machine. Debian's 3.4 will not do: with it kube-apiserver refuses to
# stream lists (sendInitialEvents), which it does on every real cluster and current clients ask for first. Publishes: url.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
# As in etcd/go.mod; the one that Kubernetes 1.34 is released with.
version=3.6.5

install() {
  say "building v$version from source, once for this machine: about 1 minute on two idle cores"
  go_build "$1" etcd -ldflags "-s -w" go.etcd.io/etcd/server/v3
  mv "$1/server" "$1/etcd"
}

answers() {
  curl --silent --fail --max-time 5 "$url/health" 2>/dev/null | grep -q '"health": *"true"'
}

apt_install curl curl
if running; then
  read -ra ports <"$home/ports"
  url=http://127.0.0.1:${ports[0]}
else
  root=$(cached "etcd-$version" install)
  claim_ports 2
  url=http://127.0.0.1:${ports[0]} peer=http://127.0.0.1:${ports[1]}
  spawn "$root/etcd" --name only --data-dir "$home/data" \
    --listen-client-urls "$url" --advertise-client-urls "$url" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "only=$peer"
fi
await_ready answers
publish url "$url"
