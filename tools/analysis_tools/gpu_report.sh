#!/usr/bin/env bash
# What only a GPU shows, in one run of less than eight minutes on a fresh machine:
# whether results on it are those of the CPU, time and memory of training and prediction,
# and whether a run can be repeated to the bit.
#   tools/analysis_tools/gpu_report.sh [--out FOLDER] [--device cuda] [--size 1024x2048]
#       [--config paper|small] [--minutes 8] [--steps 'equality iabn ...']
# Needs what training needs (torch, mmcv with its ops, mmdet, this package) and no data;
# weights are random. FOLDER (work_dirs/gpu_report) gets report.json, report.md, and for
# each step its json and its log: a folder that is new, empty, or of a former report. A
# step that fails or has no time left is a line of the report, and the others go on. The
# exit status is 1 if the step equality, where it is among the steps, does not say that
# all is as on the CPU. `--device cpu --size 64x128 --config small` tries the script
# itself.
set -uo pipefail

out=work_dirs/gpu_report device=cuda size=1024x2048 config=paper minutes=8
steps='equality iabn determinism training inference batches'
while [ $# -gt 0 ]; do
    case $1 in
        --out | --device | --size | --config | --minutes | --steps)
            if [ $# -lt 2 ]; then
                echo "$1 needs a value" >&2
                exit 2
            fi
            declare "${1#--}=$2"
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *)
            echo "there is no argument $1, see $0 --help" >&2
            exit 2
            ;;
    esac
done

if [[ ! $minutes =~ ^[0-9]{1,6}$ ]]; then
    echo "--minutes takes a whole number, got $minutes" >&2
    exit 2
fi
for step in $steps; do
    case $step in
        equality | iabn | determinism | training | inference | batches) ;;
        *)
            echo "there is no step $step" >&2
            exit 2
            ;;
    esac
done

python=${PYTHON:-python}
here=$(cd "$(dirname "$0")" && pwd)
# 08 is no octal number here.
end=$((SECONDS + 10#$minutes * 60))
# From a clone that is not installed, too.
export PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$out" || exit 1
# Says that the files of these names are ours, also after a run that was killed.
marker=$out/.gpu_report
if [ ! -e "$marker" ] && [ -n "$(ls -A "$out")" ]; then
    echo "$out is not empty and not of a former report: take another --out" >&2
    exit 2
fi
touch "$marker" || exit 1
rm -f "$out"/report.{json,md} "$out"/{equality,iabn,determinism,inference}.{json,log,part} \
    "$out"/training_batch*.{json,log,part}
names=()

# run NAME COMMAND...: what it prints goes into NAME.json, its messages into NAME.log.
run() {
    local name=$1 left=$((end - SECONDS)) status=0
    names+=("$name")
    shift
    if [ "$left" -le 0 ]; then
        echo 'no time was left' >"$out/$name.log"
        return
    fi
    echo "$name ($left s left)" >&2
    # The last line: libraries print, too.
    timeout --kill-after=5 "$left" "$@" 2>"$out/$name.log" |
        tail -n 1 >"$out/$name.part" || status=$?
    if [ "$status" -eq 0 ]; then
        mv "$out/$name.part" "$out/$name.json"
    else
        rm -f "$out/$name.part"
        if [ "$status" -eq 124 ]; then
            echo 'the time was up' >>"$out/$name.log"
        fi
    fi
}

# train NAME TYPE BATCH [CONTENDER...]
train() {
    local name=training_$1 dtype=$2 batch=$3
    shift 3
    run "$name" "$python" "$here/benchmark_training.py" "${common[@]}" \
        --config "$config" --amp-dtype "$dtype" --batch "$batch" --json \
        ${1:+--only "$@"}
}

common=(--device "$device" --size "$size")
for step in $steps; do
    case $step in
        equality | iabn | determinism)
            # Without it cuBLAS has no deterministic algorithms.
            run "$step" env CUBLAS_WORKSPACE_CONFIG=:4096:8 \
                "$python" "$here/gpu_report.py" "$step" "${common[@]}" --config "$config"
            ;;
        training)
            train batch1_bfloat16 bfloat16 1
            if [ "$device" != cpu ]; then
                train batch1_float16 float16 1 'ours amp' 'ours amp checkpointed'
            fi
            ;;
        # Last, as it has the least to say; each alone, as one may not fit.
        batches)
            for batch in 2 4; do
                for kind in 'float32' 'amp' 'amp checkpointed'; do
                    train "batch${batch}_${kind/ /_}" bfloat16 "$batch" "ours $kind"
                done
            done
            ;;
        inference)
            run inference "$python" "$here/benchmark_inference.py" "${common[@]}" \
                --config "$config" --bf16 --fp16 --json \
                --only 'ours eager' 'ours prepared' 'ours prepared fp16' \
                'ours prepared bf16' 'panoptic-fpn_r50'
            ;;
    esac
done
exec "$python" "$here/gpu_report.py" write --out "$out" --device "$device" \
    --steps ${names[@]+"${names[@]}"}
