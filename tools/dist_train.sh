#!/usr/bin/env bash
# Train in several processes of this machine: one for each GPU, or on the CPU where
# there is none.
#   tools/dist_train.sh CONFIG PROCESSES [arguments of train.py]
# Several machines: NNODES and NODE_RANK say how many and which this is, MASTER_ADDR and
# PORT where the first one listens.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [arguments of train.py]" >&2
    exit 2
fi
config=$1 processes=$2
shift 2
if [ "${NNODES:-1}" -eq 1 ] && [ -z "${PORT:-}" ]; then
    # A free port, so that several runs fit on a machine.
    place=(--standalone --local-addr=127.0.0.1)
else
    place=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${place[@]}" \
    --nproc_per_node="$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
