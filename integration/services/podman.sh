#!/usr/bin/env bash
# Podman's service, Debian's, which speaks Docker's API. Its containers and images are its own. There is one image, which was
# not pulled from anywhere: a busybox. Publishes: host (for DOCKER_HOST), image.
# shellcheck source=service.sh
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
begin "$@"

image=localhost/busybox:1

answers() {
  curl --silent --fail --max-time 5 --unix-socket "$socket" http://engine/_ping >/dev/null 2>&1
}

# The limits of machines on which nothing may raise any; runc, because crun refuses some of these machines' control groups;
# and nothing that needs systemd.
write_configuration() {
  cat >"$home/containers.conf" <<END_OF_FILE
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END_OF_FILE
}

engine() {
  CONTAINERS_CONF=$home/containers.conf podman --root "$home/storage" --runroot "$home/run" --storage-driver vfs "$@"
}

make_image() {
  local tree=$home/image
  mkdir -p "$tree/bin" "$tree/tmp"
  cp "$(command -v busybox)" "$tree/bin/busybox"
  for program in cat echo sh sleep wget; do ln -sf busybox "$tree/bin/$program"; done
  tar -C "$tree" -c . | engine import - "$image" >/dev/null
  rm -rf "$tree"
}

apt_install curl curl
apt_install podman podman
apt_install runc runc
apt_install busybox busybox-static
socket=$home/podman.sock
if ! running; then
  write_configuration
  engine image exists "$image" || make_image
  rm -f "$socket"
  CONTAINERS_CONF=$home/containers.conf spawn podman --root "$home/storage" --runroot "$home/run" --storage-driver vfs \
    system service --time 0 "unix://$socket"
fi
await_ready answers
publish host "unix://$socket" image "$image"
