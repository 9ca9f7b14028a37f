#!/usr/bin/env bash
# What answers as a CouchDB of one node: pouchdb-server, from npm, on LevelDB files. CouchDB itself is in no package registry.
# Its sequence numbers are integers, where CouchDB has opaque strings since version 2, and feed=eventsource is missing. The
# only user is an administrator. A wrong password is refused; without one, anybody may read and write a database that has no
# _security, which CouchDB forbids by default since version 3. Publishes: url (with user and password), address, user, password.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
# As in couchdb/package.json.
version=4.2.0

install() {
  npm_install "$1" couchdb
}

# It has made its system databases, and knows the user. Curl reads the password from standard input.
answers() {
  echo "user = \"$user:$password\"" \
    | curl --silent --fail --max-time 5 --config - "http://$address/_config/admins" 2>/dev/null \
    | jq -e --arg user "$user" 'has($user)' >/dev/null 2>&1
}

# The server keeps its secrets in it, and replaces the password by a hash.
write_configuration() {
  cat >"$home/defaults.json" <<END_OF_FILE
{
  "httpd": {"bind_address": "127.0.0.1", "port": ${ports[0]}},
  "couchdb": {"database_dir": "$home/data"},
  "log": {"file": "$home/requests", "level": "info"},
  "admins": {"$user": "$password"}
}
END_OF_FILE
  [ -s "$home/config.json" ] || echo '{}' >"$home/config.json"
  jq -s '.[0] * .[1]' "$home/config.json" "$home/defaults.json" >"$home/config.new"
  mv "$home/config.new" "$home/config.json"
}

apt_install curl curl
user=weft password=$(secret password)
if running; then
  read -ra ports <"$home/ports"
else
  root=$(cached "couchdb-$version" install)
  claim_ports 1
  write_configuration
  spawn node "$root/node_modules/pouchdb-server/bin/pouchdb-server" --no-color --config "$home/config.json"
fi
address=127.0.0.1:${ports[0]}
await_ready answers
publish url "http://$user:$password@$address" address "$address" user "$user" password "$password"
