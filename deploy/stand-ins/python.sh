#!/usr/bin/env bash
# Base images where no image registry can be reached: deploy/stand-ins/python.sh TAG
#
# TAG is Debian bookworm with its Python 3.11, by debootstrap, in the place of python:3.11-slim. TAG-builder is the same
# with what a build needs to install packages as this machine does: pip's folder of wheels, if it has one. Needs root.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
tag=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/debian* 2>/dev/null |
  grep -oE '^(URIs:|deb) +https?://[^ ]+' | awk 'NR==1 {print $2}' || true)

if ! docker image inspect "$tag" >/dev/null 2>&1; then
  packages=python3,python3-venv,python3-pip,ca-certificates
  if ! debootstrap --variant=minbase --include=$packages bookworm "$root" "$mirror" >"$work/log" 2>&1; then
    tail -n 3 "$work/log" >&2
    exit 1
  fi
  chmod 755 "$root"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  cp /etc/apt/sources.list.d/debian* "$root/etc/apt/sources.list.d/" 2>/dev/null || true
  ln -sf python3 "$root/usr/bin/python"
  rm -rf "$root"/usr/lib/python3*/EXTERNALLY-MANAGED "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* \
    "$root"/usr/share/{doc,man,locale,info}/* "$root"/var/log/*
  find "$root/usr" -name __pycache__ -type d -prune -exec rm -rf {} +
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
  tar -C "$root" -c . | docker import --change 'CMD ["python3"]' - "$tag" >/dev/null
fi

if ! docker image inspect "$tag-builder" >/dev/null 2>&1; then
  mkdir -p "$work/wheels"
  links=${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}
  [ -d "$links" ] && cp "$links"/*.whl "$work/wheels/"
  printf 'FROM %s\nCOPY wheels /var/wheels\nENV PIP_FIND_LINKS=/var/wheels\n' "$tag" >"$work/Dockerfile"
  (cd "$work" && tar -c Dockerfile wheels | docker build -q -t "$tag-builder" - >/dev/null)
fi
