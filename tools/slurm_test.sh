#!/usr/bin/env bash
# Test under Slurm, in as many processes as there are GPUs.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]
# GPUS (8), GPUS_PER_NODE (8) and CPUS_PER_TASK (5) size the job; SRUN_ARGS are further
# arguments of srun. With GPUS_PER_NODE=0 the GPUS processes compute on the CPU. They
# meet at MASTER_PORT, by default one that the number of the job gives.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]" >&2
    exit 2
fi
partition=$1 job_name=$2
shift 2
tasks=${GPUS:-8} gpus_per_node=${GPUS_PER_NODE:-8}
if [ "$gpus_per_node" -gt "$tasks" ]; then
    gpus_per_node=$tasks
fi
resources=(--ntasks="$tasks" --cpus-per-task="${CPUS_PER_TASK:-5}")
if [ "$gpus_per_node" -gt 0 ]; then
    resources+=(--gres="gpu:$gpus_per_node" --ntasks-per-node="$gpus_per_node")
fi
# When one process fails, the others end.
# shellcheck disable=SC2086 # several arguments in one variable
exec srun --partition="$partition" --job-name="$job_name" "${resources[@]}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/test.py" "$@" --launcher slurm
