#!/usr/bin/env bash
# Test in several processes of this machine: one for each GPU, or on the CPU where
# there is none.
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of test.py]
# Several machines: NNODES and NODE_RANK say how many and which this is, MASTER_ADDR and
# PORT where the first one listens.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of test.py]" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
if [ "${NNODES:-1}" -eq 1 ] && [ -z "${PORT:-}" ]; then
    # A free port, so that several runs fit on a machine.
    place=(--standalone --local-addr=127.0.0.1)
else
    place=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${place[@]}" \
    --nproc_per_node="$processes" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
