#!/usr/bin/env bash
# Redis, one server, Debian's. Every write is on disk before it is answered. Nobody gets in without a password. Publishes: url
# (with the password of the default user, who may do everything), address, password; and user and user_password, of an ACL
# user who may do everything but administrate.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"

# While it reads its data back, it answers with an error. The password is in no list of processes.
answers() {
  [ "$(REDISCLI_AUTH=$password timeout 5 redis-cli -h 127.0.0.1 -p "${ports[0]}" PING 2>/dev/null)" = PONG ]
}

write_configuration() {
  cat >"$home/redis.conf" <<END_OF_FILE
bind 127.0.0.1
port ${ports[0]}
dir "$home/data"
appendonly yes
appendfsync always
# The log of all writes is enough; snapshots, and shorter logs, would be written by a second process that takes a processor.
save ""
auto-aof-rewrite-percentage 0
requirepass $password
user $user on >$user_password ~* &* +@all -@admin
END_OF_FILE
}

apt_install redis-server redis-server
user=weft password=$(secret password) user_password=$(secret user_password)
if running; then
  read -ra ports <"$home/ports"
else
  claim_ports 1
  mkdir -p "$home/data"
  write_configuration
  spawn redis-server "$home/redis.conf"
fi
address=127.0.0.1:${ports[0]}
await_ready answers
publish url "redis://:$password@$address" address "$address" password "$password" \
  user "$user" user_password "$user_password"
