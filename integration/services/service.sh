# shellcheck shell=bash
# What the services beside this file are made of: where programs and state are kept, how a process is started, awaited,
# published and stopped. Sourced by up, down and by each service's own script; run by nobody.
#
# A service is one script, NAME.sh, that `up` calls with the state directory. It installs what is missing into the cache,
# starts its process and publishes DIR/NAME.json once that answers; called again, it finds the process running and leaves
# it alone. Everything it keeps is in DIR/NAME. A script that starts no process (kubectl.sh) publishes a path.
set -euo pipefail
shopt -s inherit_errexit

# shellcheck disable=SC2034 # used by those who source this, as is ports below
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WEFT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/weft}

# Seconds. The slowest first installation (Kubernetes from source) takes up to 20 minutes on two busy cores; who waits
# for the same one to be finished by somebody else waits as long.
install_deadline=3600
# Seconds. The slowest service starts in 10; the rest is for machines that compile at the same time.
ready_deadline=120
# Seconds between TERM and KILL. kube-apiserver lets open requests end first.
stop_deadline=20
# A port that was free when the system was asked may be taken when the service binds it.
start_attempts=3

say() {
  echo "${name:-services}: $1" >&2
}

fail() {
  say "$1"
  exit 1
}

# Opens a service's script: `begin "$@"`. Sets name, dir (the state of all services) and home (of this one).
begin() {
  name=$(basename "$0" .sh)
  [ $# -eq 1 ] || fail "usage: $0 DIR (called by up)"
  dir=$1
  home=$dir/$name
  mkdir -p "$home" "$cache" || fail "cannot create $home and $cache"
}

# --- Installing ---

# Runs a command for at most the given seconds, quietly; what it printed is shown only if it fails.
quietly() {
  local seconds=$1 status=0 output
  shift
  # It keeps the lock on what is installed (8), should this script be killed before it, but not the one on DIR (9).
  output=$(timeout --foreground "$seconds" "$@" 2>&1 9>&-) || status=$?
  [ "$status" -ne 0 ] || return 0
  printf '%s\n' "$output" >&2
  [ "$status" -ne 124 ] || fail "took longer than $seconds s: $*"
  fail "failed with status $status: $*"
}

# Prints the path CACHE/KEY, which FUNCTION made in the directory that it is handed: `cached KEY FUNCTION`. It gets its name
# only when it is complete, and two processes never make it at once. What an interrupted attempt left is handed to the next
# one, which may go on from it.
cached() {
  local key=$1 make=$2
  if [ ! -e "$cache/$key" ]; then
    exec 8>"$cache/$key.lock"
    flock -n 8 || say "another process installs $key; waiting for it"
    flock -w "$install_deadline" 8 || fail "another process has held $cache/$key.lock for $install_deadline s"
    if [ ! -e "$cache/$key" ]; then
      mkdir -p "$cache/$key.partial"
      "$make" "$cache/$key.partial"
      mv "$cache/$key.partial" "$cache/$key"
    fi
    exec 8>&-
  fi
  echo "$cache/$key"
}

apt_get() {
  local sudo=()
  command -v apt-get >/dev/null || fail "apt-get is missing, so this is for you to do: apt-get $*"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "run this as root, then try again: apt-get $*"
    sudo=(sudo -n)
  fi
  # Tests have no terminal on which to answer questions, and other tests may be installing something as well.
  quietly 900 "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"
}

# `apt_install COMMAND PACKAGE…`: the packages, unless the command is there.
apt_install() {
  if command -v "$1" >/dev/null; then return; fi
  shift
  say "installing $*"
  apt_get update
  apt_get install -y --no-install-recommends "$@"
}

# `pip_install REQUIREMENT DIR`: a Python package into an environment of its own in DIR.
pip_install() {
  # Debian splits python3's venv off, so that the command's being there says nothing.
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install "python3 with venv" python3-venv ca-certificates
  say "installing $1 from the Python index"
  quietly 300 python3 -m venv --clear "$2"
  quietly 900 "$2/bin/pip" install --quiet --no-deps --only-binary :all: "$1"
}

# `npm_install DIR FOLDER`: what this folder's package.json and lock file fix, into DIR/node_modules. The lock file names no
# addresses, only versions and checksums: whichever registry npm is set up for serves them. No package's own scripts run.
npm_install() {
  apt_install npm npm ca-certificates
  say "installing what $2/package-lock.json lists from the npm registry"
  cp "$here/$2/package.json" "$here/$2/package-lock.json" "$1/"
  # A cache of its own: the user's may belong to root, or there may be no home at all.
  quietly 900 npm ci --prefix "$1" --cache "$1/npm-cache" --no-audit --no-fund --ignore-scripts --omit=dev
  rm -rf "$1/npm-cache"
}

# `maven_install DIR FOLDER`: the dependencies of this folder's pom.xml, which fixes their versions, into DIR/libs. What is
# downloaded is kept in DIR until it is done, as in go_build.
maven_install() {
  apt_install mvn maven ca-certificates
  say "installing what $2/pom.xml lists from Maven Central"
  # Maven writes beside the pom.xml that it reads.
  cp "$here/$2/pom.xml" "$1/"
  quietly 1800 mvn --batch-mode --quiet --file "$1/pom.xml" "-Dmaven.repo.local=$1/repository" \
    dependency:copy-dependencies "-DoutputDirectory=$1/libs"
  rm -rf "$1/repository"
}

# `go_build DIR MODULE FLAGS… PACKAGE…`: builds programs into DIR, from the Go module in this folder that fixes the versions
# of everything. What is downloaded and compiled for it is kept in DIR until it is done, so that an interrupted build is not
# lost, and is then removed: it is twenty times the size of the programs.
go_build() {
  local into=$1 module=$here/$2 go packages
  shift 2
  "$here/go.sh" "$dir"
  go=$(published go path)
  # Go brings no certificates of its own.
  [ -e /etc/ssl/certs/ca-certificates.crt ] || apt_install "certificate authorities" ca-certificates
  export GOTOOLCHAIN=local GOWORK=off GOFLAGS="-mod=readonly -modcacherw -buildvcs=false -trimpath" CGO_ENABLED=0
  export GOMODCACHE=$into/modules GOCACHE=$into/objects
  unset GOROOT
  quietly "$install_deadline" "$go" list -C "$module" -deps "$@"
  packages=$("$go" list -C "$module" -deps "$@" | wc -l)
  # -v names each package when it is compiled. Anything else is a complaint.
  timeout --foreground "$install_deadline" "$go" build -C "$module" -o "$into/" -v "$@" 2>&1 9>&- \
    | report_progress "$packages" \
    || fail "the build failed or took longer than $install_deadline s; what it has compiled is kept for the next one"
  rm -rf "$into/modules" "$into/objects"
}

report_progress() {
  local line compiled=0 percent said=0
  while IFS= read -r line; do
    if [[ $line == *" "* ]]; then
      printf '%s\n' "$line" >&2
      continue
    fi
    percent=$((100 * ++compiled / $1))
    if ((percent >= said + 10)); then
      said=$percent
      say "compiled $percent % of $1 packages"
    fi
  done
}

# --- Running ---

# Prints the secret HOME/NAME, made up the first time: `secret NAME`. It is hexadecimal, so that neither URLs nor
# configurations need quotes around it.
secret() {
  if [ ! -s "$home/$1" ]; then
    (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$home/$1.new")
    mv "$home/$1.new" "$home/$1"
  fi
  cat "$home/$1"
}

# Sets ports to COUNT free ports of 127.0.0.1; to those that the service had before if they are still free, so that clients
# find a restarted service where it was.
claim_ports() {
  local count=$1 before=() wanted=()
  if [ -s "$home/ports" ]; then read -ra before <"$home/ports"; fi
  local index
  for ((index = 0; index < count; index++)); do wanted+=("${before[index]:-0}"); done
  # All stay bound until the last one is, so that no port is given out twice. Perl is on every Debian.
  # shellcheck disable=SC2016 # Perl's variables
  perl -MIO::Socket::INET -e '
    for my $port (@ARGV) {
      my %wanted = (Listen => 1, ReuseAddr => 1, LocalAddr => "127.0.0.1");
      my $socket = IO::Socket::INET->new(%wanted, LocalPort => $port)
        || IO::Socket::INET->new(%wanted, LocalPort => 0) || die "no free port: $@\n";
      push @held, $socket;
    }
    print join(" ", map { $_->sockport } @held), "\n"' "${wanted[@]}" >"$home/ports" || fail "found no free port"
  # shellcheck disable=SC2034
  read -ra ports <"$home/ports"
}

# When a process was started, in ticks since boot: with its pid, who it is. Empty if there is none, or only its corpse.
started() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  # The second field is the program's name in brackets, which may hold anything.
  read -ra stat <<<"${stat##*) }"
  [ "${stat[0]}" = Z ] || echo "${stat[19]}"
}

# Is the process of HOME/pid there? Sets pid. A pid that another process got since does not count.
running() {
  local since
  [ -s "${1:-$home}/pid" ] || return 1
  read -r pid since <"${1:-$home}/pid"
  [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]
}

# Prints those owners of a state directory (see up) that are there: `living_owners DIR`.
living_owners() {
  local pid since
  [ -e "$1/owners/list" ] || return 0
  while read -r pid since; do
    if [ "$(started "$pid")" = "$since" ]; then echo "$pid $since"; fi
  done <"$1/owners/list"
}

# Starts a command in the background and in a session of its own, so that the terminal's Ctrl-C is not for it.
spawn() {
  [ ! -e "$home/log" ] || mv "$home/log" "$home/log.before"
  # The locks stay ours.
  setsid "$@" >"$home/log" 2>&1 </dev/null 8>&- 9>&- &
  pid=$!
  echo "$pid $(started "$pid")" >"$home/pid"
}

# Waits until a command succeeds, which it must do before the service exits and within the deadline.
await_ready() {
  local deadline=$((SECONDS + ready_deadline))
  until "$@"; do
    running || give_up "exited before it was ready"
    ((SECONDS < deadline)) || give_up "was not ready within $ready_deadline s"
    sleep 0.05
  done
}

give_up() {
  stop "$home"
  local attempt=${WEFT_START_ATTEMPT:-1}
  if ((attempt < start_attempts)) && grep -qiE "already[ _](in[ _]use|used)" "$home/log"; then
    say "a port was taken by somebody else; starting again on others"
    rm -f "$home/ports"
    WEFT_START_ATTEMPT=$((attempt + 1)) exec "$0" "$dir"
  fi
  tail -n 20 "$home/log" >&2
  fail "$1; the lines above are the end of $home/log"
}

# Writes DIR/NAME.json: `publish KEY VALUE…`, besides the name and, if there is a process, its pid and log.
publish() {
  local process=()
  if [ -n "${pid:-}" ]; then process=(log "$home/log"); fi
  # Through standard input: arguments can be read in the list of processes, and values may be secret.
  printf '%s\n' name "$name" "${process[@]}" "$@" | jq -Rn -c --argjson pid "${pid:-null}" '
    reduce inputs as $key ({}; . + {($key): input}) | if $pid then .pid = $pid else . end' >"$home/published"
  # Complete or not there: who finds the file may use the service.
  mv "$home/published" "$dir/$name.json"
}

# Prints one value of a service's file: `published NAME KEY`.
published() {
  jq -er --arg key "$2" '.[$key]' "$dir/$1.json" || fail "$dir/$1.json has no $2"
}

# Ends the process of a service's home and waits until it is gone: TERM, then KILL.
stop() {
  local home=$1 signal deadline pid
  rm -f "$home.json"
  for signal in TERM KILL; do
    running "$home" || break
    kill -s "$signal" "$pid" 2>/dev/null || true
    deadline=$((SECONDS + stop_deadline))
    while running "$home" && ((SECONDS < deadline)); do sleep 0.05; done
  done
  ! running "$home" || fail "$home: process $pid outlived SIGKILL by $stop_deadline s"
  rm -f "$home/pid"
}
