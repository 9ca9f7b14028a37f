#!/usr/bin/env bash
# Alertmanager, one without peers, Debian's. It tells nobody of anything until somebody writes a receiver into its
# configuration and POSTs /-/reload; that configuration is then kept over restarts. So are silences, and what was notified,
# but for the last second; alerts themselves it keeps in memory only. Publishes: url, config (a file).
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"

answers() {
  curl --silent --fail --max-time 5 "$url/-/ready" >/dev/null 2>&1
}

apt_install curl curl
apt_install prometheus-alertmanager prometheus-alertmanager
config=$home/alertmanager.yml
if running; then
  read -ra ports <"$home/ports"
else
  claim_ports 1
  [ -s "$config" ] || printf '%s\n' 'route: {receiver: nobody}' 'receivers: [{name: nobody}]' >"$config"
  spawn prometheus-alertmanager --config.file="$config" --storage.path="$home/data" --data.maintenance-interval=1s \
    --web.listen-address="127.0.0.1:${ports[0]}" --cluster.listen-address=
fi
url=http://127.0.0.1:${ports[0]}
await_ready answers
publish url "$url" config "$config"
