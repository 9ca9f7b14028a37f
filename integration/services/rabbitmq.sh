#!/usr/bin/env bash
# RabbitMQ, one node, Debian's, without plugins. Quorum queues work, but this version loses one that was declared less than a
# second before the node is killed: after the restart it is there and answers nothing. The only user is ours, who may do
# everything in the virtual host "/". Publishes: amqp (the address without the user), host, port, user, password.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"

# Its listener opens last. A client sends the protocol's header (AMQP 0-9-1, section 4.2.2) and is sent the method
# connection.start: a frame of type 1 (method) on channel 0. A header of another version would come back instead.
answers() {
  local frame
  # shellcheck disable=SC2016 # Perl's variables
  frame=$(timeout 5 perl -MIO::Socket::INET -e '
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) || exit 1;
    print $socket "AMQP\x00\x00\x09\x01";
    $socket->flush;
    read($socket, my $start, 3) == 3 || exit 1;
    print unpack("H*", $start)' "${ports[0]}" 2>/dev/null) || return 1
  [ "$frame" = 010000 ]
}

write_configuration() {
  # The user is made with the database, so that there never is the usual guest.
  cat >"$home/rabbitmq.conf" <<END_OF_FILE
listeners.tcp.local = 127.0.0.1:${ports[0]}
default_user = $user
default_pass = $password
log.file = false
log.console = true
END_OF_FILE
  : >"$home/environment"
  echo '[].' >"$home/plugins"
}

# Everything that several nodes on a machine would share by default: the port mapper, the name, the cookie, the files.
set_environment() {
  export ERL_EPMD_PORT=${ports[2]} ERL_EPMD_ADDRESS=127.0.0.1
  export RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_DIST_PORT=${ports[1]}
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
  # No dump of the memory, secrets and all, into the caller's directory when it crashes.
  export ERL_CRASH_DUMP_SECONDS=0
  export RABBITMQ_CONF_ENV_FILE=$home/environment RABBITMQ_CONFIG_FILE=$home/rabbitmq.conf
  export RABBITMQ_ENABLED_PLUGINS_FILE=$home/plugins RABBITMQ_MNESIA_BASE=$home/data RABBITMQ_LOG_BASE=$home
}

apt_install /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
user=weft password=$(secret password)
if running; then
  read -ra ports <"$home/ports"
else
  claim_ports 3
  write_configuration
  mkdir -p "$home/erlang"
  set_environment
  # Erlang keeps its cookie there.
  spawn env HOME="$home/erlang" "$here/rabbitmq/serve"
fi
await_ready answers
publish amqp "amqp://127.0.0.1:${ports[0]}" host 127.0.0.1 port "${ports[0]}" user "$user" password "$password"
