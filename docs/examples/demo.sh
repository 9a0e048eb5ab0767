#!/bin/sh
# Shows what Keyward does: two gateways, docs/examples/quickstart.yaml, real requests. `make demo` runs it inside
# `keyward dev`; run by itself, it starts one.
#
# CHECK=1 (or KEYWARD_DEMO_CHECK=1) ends after the last step, with 0 if everything was as it should be, else 1.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
keyward=$root/bin/keyward
if [ ! -x "$keyward" ]; then
  echo "demo: $keyward is missing: run make build" >&2
  exit 1
fi

if [ -z "${KEYWARD_DEV_DIR:-}" ]; then
  exec "$keyward" dev --gateways 2 --ports "${PORTS:-auto}" --exec "'$0'"
fi

check=''
if [ "${KEYWARD_DEMO_CHECK:-${CHECK:-}}" = 1 ]; then
  check=--check
fi
# shellcheck disable=SC2086 # no words if it is empty
exec "$keyward" dev demo $check -f "$root/docs/examples/quickstart.yaml"
