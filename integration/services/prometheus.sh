#!/usr/bin/env bash
# Prometheus, Debian's. It scrapes itself every second, so that there is an `up` and counters that grow, and takes samples by
# remote write (/api/v1/write). Publishes: url, config (a file; POST /-/reload puts a change of it in force, until the next
# start).
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"

# The first scrape is in.
answers() {
  curl --silent --fail --max-time 5 "$url/api/v1/query?query=up" 2>/dev/null \
    | jq -e '.data.result | length > 0' >/dev/null 2>&1
}

# Each start, as the port may be another.
write_configuration() {
  cat >"$home/prometheus.yml" <<END_OF_FILE
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["127.0.0.1:${ports[0]}"]}]
END_OF_FILE
}

apt_install curl curl
apt_install prometheus prometheus
if running; then
  read -ra ports <"$home/ports"
else
  claim_ports 1
  write_configuration
  spawn prometheus --config.file="$home/prometheus.yml" --storage.tsdb.path="$home/data" \
    --web.listen-address="127.0.0.1:${ports[0]}" --web.enable-remote-write-receiver --web.enable-lifecycle
fi
url=http://127.0.0.1:${ports[0]}
await_ready answers
publish url "$url" config "$home/prometheus.yml"
