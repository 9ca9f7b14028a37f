#!/usr/bin/env bash
# Ceph's object gateway (RADOS Gateway: S3, and SNS for notifications of buckets), Debian's, on a cluster of one monitor and
# one OSD, which keeps 4 GiB at most in a sparse file. Publishes: endpoint, access_key, secret_key (of its only user), user.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"

# The gateway opens its port when it has found or made its pools.
answers() {
  curl --silent --fail --max-time 5 "$endpoint/" >/dev/null 2>&1
}

write_configuration() {
  cat >"$home/ceph.conf" <<END_OF_FILE
[global]
fsid = $(cat "$home/fsid")
mon host = v1:127.0.0.1:${ports[0]}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
# Everything is on the loopback interface, and keys would be one more thing to make.
auth cluster required = none
auth service required = none
auth client required = none
# One copy on the only OSD there is.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
# Nobody asks the daemons over sockets, whose paths may be 107 characters long, which ours need not be.
admin socket =
run dir = $home/run
crash dir = $home/crash
log file =
# So that a port's being taken is said by who ends because of it.
log flush on exit = true
[mon]
mon data = $home/mon
# It refuses to start when only 5 % of a disk are free, which is a lot of a large one, and needs 50 MB.
mon data avail crit = 0
mon data avail warn = 0
[osd]
osd data = $home/osd
osd objectstore = bluestore
# ceph/serve gives it its place, once. By itself it does so at each start, and dies when it asks before it has heard from the
# monitor which cluster this is ("wrong fsid").
osd crush update on start = false
osd class update on start = false
bluestore block size = 4294967296
# Instead of as much memory as 4 GiB.
bluestore cache autotune = false
bluestore cache size = 67108864
[client.rgw.a]
rgw data = $home/rgw
rgw frontends = beast endpoint=127.0.0.1:${ports[1]}
# With it, a gateway waits half a minute for its predecessor, if that was killed, to have heard of the first change.
rgw cache enabled = false
END_OF_FILE
}

# The monitor keeps its own address; it is told if that is another than it was.
make_monitor() {
  local address="[v1:127.0.0.1:${ports[0]}]" conf=(--conf "$home/ceph.conf")
  [ "$(cat "$home/mon.address" 2>/dev/null)" != "$address" ] || return 0
  if [ -e "$home/mon.address" ]; then
    quietly 60 ceph-mon "${conf[@]}" --id a --extract-monmap "$home/monmap"
    quietly 60 monmaptool --rm a "$home/monmap"
    quietly 60 monmaptool --addv a "$address" "$home/monmap"
    quietly 60 ceph-mon "${conf[@]}" --id a --inject-monmap "$home/monmap"
  else
    rm -rf "$home/mon"
    quietly 60 monmaptool --create --clobber --fsid "$(cat "$home/fsid")" --addv a "$address" "$home/monmap"
    quietly 60 ceph-mon "${conf[@]}" --id a --mkfs --monmap "$home/monmap"
  fi
  echo "$address" >"$home/mon.address"
}

# The gateway makes the keys up: given to it, they would be in the list of processes.
make_user() {
  timeout 60 radosgw-admin --conf "$home/ceph.conf" --name client.rgw.a user create --uid="$user" --display-name="$user" \
    >"$home/user.new" 2>"$home/user.log" || fail "could not make the user: $(cat "$home/user.log")"
  mv "$home/user.new" "$home/user.json"
}

apt_install curl curl
apt_install ceph-mon ceph-mon ceph-osd radosgw ceph-common
user=weft
if running; then
  read -ra ports <"$home/ports"
else
  claim_ports 2
  [ -s "$home/fsid" ] || cat /proc/sys/kernel/random/uuid >"$home/fsid"
  write_configuration
  mkdir -p "$home/run" "$home/crash" "$home/rgw"
  make_monitor
  spawn "$here/ceph/serve" "$home"
fi
endpoint=http://127.0.0.1:${ports[1]}
await_ready answers
[ -s "$home/user.json" ] || make_user
publish endpoint "$endpoint" user "$user" \
  access_key "$(jq -er '.keys[0].access_key' "$home/user.json")" \
  secret_key "$(jq -er '.keys[0].secret_key' "$home/user.json")"
