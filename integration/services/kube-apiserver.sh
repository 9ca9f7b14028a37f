#!/usr/bin/env bash
# kube-apiserver, one, on etcd, built from source once a machine. Nobody collects garbage or finishes the deletion of a
# namespace unless kube-controller-manager runs too. Publishes: url, ca (a file), token (of a member of system:masters),
# kubeconfig, version, etcd (its address).
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
# As in kubernetes/go.mod.
version=1.34.10

# Also the controller manager: beside the server it costs a quarter more, alone as much as both.
install() {
  local minor=${version#*.} stamp=k8s.io/component-base/version flags
  flags="-s -w -X $stamp.gitVersion=v$version -X k8s.io/client-go/pkg/version.gitVersion=v$version"
  flags+=" -X $stamp.gitMajor=${version%%.*} -X $stamp.gitMinor=${minor%.*}"
  say "building v$version from source, once for this machine: about 5 minutes on two idle cores"
  go_build "$1" kubernetes -tags providerless -ldflags "$flags" \
    k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager
}

# A certificate authority, the server's certificate for 127.0.0.1, the key that signs service accounts' tokens.
make_keys() {
  local new_key=(-newkey ec -pkeyopt "ec_paramgen_curve:P-256" -nodes)
  quietly 60 openssl req -x509 "${new_key[@]}" -days 3650 -subj "/CN=weft test authority" -keyout ca.key -out ca.crt
  quietly 60 openssl req "${new_key[@]}" -subj "/CN=kube-apiserver" -keyout server.key -out server.csr
  echo "subjectAltName = IP:127.0.0.1, DNS:localhost, DNS:kubernetes.default.svc
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth" >server.ext
  quietly 60 openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 \
    -extfile server.ext -out server.crt
  quietly 60 openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out accounts.key
  quietly 60 openssl pkey -in accounts.key -pubout -out accounts.pub
  echo "$(openssl rand -hex 16),admin,admin,system:masters" >tokens.csv
  touch complete
}

write_kubeconfig() {
  cat >"$home/kubeconfig.new" <<END
apiVersion: v1
kind: Config
current-context: weft-test
contexts: [{name: weft-test, context: {cluster: weft-test, user: admin, namespace: default}}]
clusters: [{name: weft-test, cluster: {server: "$url", certificate-authority-data: $(base64 -w0 "$home/keys/ca.crt")}}]
users: [{name: admin, user: {token: $token}}]
END
  mv "$home/kubeconfig.new" "$home/kubeconfig"
}

# Ready, and has made the namespaces that clients expect. The token is in a file, not in the list of processes.
answers() {
  local path
  for path in readyz api/v1/namespaces/default api/v1/namespaces/kube-system; do
    curl --silent --fail --max-time 5 --cacert "$home/keys/ca.crt" --header "@$home/keys/header" "$url/$path" \
      >/dev/null 2>&1 || return 1
  done
}

apt_install curl curl
apt_install openssl openssl
"$here/etcd.sh" "$dir"
etcd=$(published etcd url)

# One whose etcd has moved to another port is of no use.
if running && [ "$(cat "$home/etcd")" != "$etcd" ]; then stop "$home"; fi
if running; then
  read -ra ports <"$home/ports"
else
  root=$(cached "kube-apiserver-$version" install)
  mkdir -p "$home/keys"
  [ -e "$home/keys/complete" ] || (cd "$home/keys" && make_keys)
  claim_ports 1
  echo "$etcd" >"$home/etcd"
  spawn "$root/kube-apiserver" --etcd-servers="$etcd" \
    --bind-address=127.0.0.1 --secure-port="${ports[0]}" --advertise-address=127.0.0.1 --endpoint-reconciler-type=none \
    --tls-cert-file="$home/keys/server.crt" --tls-private-key-file="$home/keys/server.key" \
    --token-auth-file="$home/keys/tokens.csv" --authorization-mode=RBAC --service-cluster-ip-range=10.0.0.0/24 \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$home/keys/accounts.pub" \
    --service-account-signing-key-file="$home/keys/accounts.key" --disable-admission-plugins=ServiceAccount
fi
url=https://127.0.0.1:${ports[0]}
token=$(cut -d, -f1 "$home/keys/tokens.csv")
echo "Authorization: Bearer $token" >"$home/keys/header"
await_ready answers
write_kubeconfig
publish url "$url" ca "$home/keys/ca.crt" token "$token" kubeconfig "$home/kubeconfig" version "v$version" etcd "$etcd"
