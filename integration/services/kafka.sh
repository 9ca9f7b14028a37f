#!/usr/bin/env bash
# Kafka, one node that is broker and controller (KRaft), from Maven Central. Topics are made by whoever wants them, not by
# their use. Everybody may do everything who gets in: on one port anybody, on the other with SASL (SCRAM-SHA-256 or PLAIN).
# Publishes: bootstrap (without SASL), sasl_bootstrap, user, password.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"
# As in kafka/pom.xml.
version=4.1.0

install() {
  maven_install "$1" kafka
}

# It opens its ports when it has read its data back and its controller has let it in. The request is ApiVersions (key 18,
# version 0, correlation 7, no client id), the answer starts with its length, the correlation and error 0.
answers() {
  local answer
  # shellcheck disable=SC2016 # Perl's variables
  answer=$(timeout 5 perl -MIO::Socket::INET -e '
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) || exit 1;
    print $socket pack("N n n N n", 10, 18, 0, 7, 0xffff);
    $socket->flush;
    read($socket, my $start, 10) == 10 || exit 1;
    print unpack("x4 H*", $start)' "${ports[0]}" 2>/dev/null) || return 1
  [ "$answer" = 000000070000 ]
}

write_configuration() {
  local login=org.apache.kafka.common.security
  cat >"$home/server.properties" <<END_OF_FILE
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${ports[2]}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
listeners=PLAIN://127.0.0.1:${ports[0]},SASL://127.0.0.1:${ports[1]},CONTROLLER://127.0.0.1:${ports[2]}
listener.security.protocol.map=PLAIN:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN
listener.name.sasl.scram-sha-256.sasl.jaas.config=$login.scram.ScramLoginModule required;
listener.name.sasl.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_$user="$password";
log.dirs=$home/data
auto.create.topics.enable=false
# There is one broker to keep a copy on, and each of the usual 50 partitions costs files.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
# One that was killed is let in again only when its last session has run out, after 9 s by default.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
# A group's first member does not wait for others.
group.initial.rebalance.delay.ms=0
END_OF_FILE
}

# Gives the data directory its identity and the user. The arguments are read from a file: they hold the password.
format() {
  rm -rf "$home/data"
  cat >"$home/format" <<END_OF_FILE
--config=$home/server.properties
--cluster-id=$(basenc --base64url <(head -c 16 /dev/urandom) | tr -d =)
--add-scram=SCRAM-SHA-256=[name=$user,password=$password]
END_OF_FILE
  quietly 120 java -XX:TieredStopAtLevel=1 -cp "$root/libs/*" kafka.tools.StorageTool format "@$home/format"
  rm "$home/format"
  touch "$home/formatted"
}

apt_install java default-jre-headless
user=weft password=$(secret password)
if running; then
  read -ra ports <"$home/ports"
else
  root=$(cached "kafka-$version" install)
  claim_ports 3
  write_configuration
  [ -e "$home/formatted" ] || format
  # Half a gigabyte does for a test; the simplest collector wants the fewest threads.
  spawn java -Xmx512m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$root/libs/*" \
    kafka.Kafka "$home/server.properties"
fi
await_ready answers
publish bootstrap "127.0.0.1:${ports[0]}" sasl_bootstrap "127.0.0.1:${ports[1]}" user "$user" password "$password"
