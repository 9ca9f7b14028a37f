#!/usr/bin/env bash
# Those of Kubernetes' own controllers whose work clients see in the API without a node: they finish the deletion of namespaces,
# collect the garbage of owners, give each namespace its service account, and make ReplicaSets of Deployments and Pods of
# those (no Pod runs). On kube-apiserver, and built with it. Publishes: url (of its health).
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller
controllers+=,root-ca-certificate-publisher-controller,deployment-controller,replicaset-controller

# Healthy, and has done something.
answers() {
  curl --silent --fail --max-time 5 --cacert "$keys/ca.crt" "$url/healthz" >/dev/null 2>&1 \
    && curl --silent --fail --max-time 5 --cacert "$keys/ca.crt" --header "@$keys/header" \
      "$server/api/v1/namespaces/default/serviceaccounts/default" >/dev/null 2>&1
}

"$here/kube-apiserver.sh" "$dir"
server=$(published kube-apiserver url)
version=$(published kube-apiserver version)
keys=$dir/kube-apiserver/keys

# It read the server's address when it started.
if running && [ "$(cat "$home/server")" != "$server" ]; then stop "$home"; fi
if running; then
  read -ra ports <"$home/ports"
else
  claim_ports 1
  echo "$server" >"$home/server"
  spawn "$cache/kube-apiserver-${version#v}/kube-controller-manager" --kubeconfig="$dir/kube-apiserver/kubeconfig" \
    --bind-address=127.0.0.1 --secure-port="${ports[0]}" --leader-elect=false --controllers="$controllers" \
    --tls-cert-file="$keys/server.crt" --tls-private-key-file="$keys/server.key" \
    --root-ca-file="$keys/ca.crt" --service-account-private-key-file="$keys/accounts.key"
fi
url=https://127.0.0.1:${ports[0]}
await_ready answers
publish url "$url"
