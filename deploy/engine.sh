#!/usr/bin/env bash
# A Docker engine where none runs, for `make test-compose`: deploy/engine.sh
#
# Uses the engine that answers. Otherwise, as root on Debian, installs docker.io and docker-compose and starts dockerd; it
# stays up. Exits with 3, and one sentence on stderr, where no engine can be had.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
log=${TMPDIR:-/tmp}/umi-dockerd.log

none() {
  echo "engine: $1" >&2
  exit 3
}

answers() { docker info >/dev/null 2>&1; }

install_missing() {
  local wanted=()
  command -v dockerd >/dev/null || wanted+=(docker.io)
  command -v iptables >/dev/null || wanted+=(iptables)
  docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || wanted+=(docker-compose)
  command -v debootstrap >/dev/null || wanted+=(debootstrap)
  ((${#wanted[@]})) || return 0
  command -v apt-get >/dev/null || none "missing: ${wanted[*]}; install them"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null ||
    none "could not install ${wanted[*]}"
}

if [ "$(id -u)" != 0 ]; then
  answers || none "no Docker engine answers, and only root can start one"
else
  answers || command -v apt-get >/dev/null || none "no Docker engine answers, and this is no Debian to install one on"
  install_missing
  if ! answers; then
    setsid dockerd >"$log" 2>&1 </dev/null &
    for _ in $(seq 60); do answers && break || sleep 1; done
    answers || none "dockerd did not start: $(tail -n 1 "$log")"
  fi
fi
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || none "neither docker compose nor docker-compose is there"
echo "engine: Docker $(docker version --format '{{.Server.Version}}')"
