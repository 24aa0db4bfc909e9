#!/usr/bin/env bash
# Run the HED workflow: one training of Uno for each line of UPF, merged over DFLTS.
#
#   ./upf-uno-heds.sh SITE [UPF [DFLTS [EXP]]] [OPTIONS]
#   ./upf-uno-heds.sh local                            a demo on made-up data
#   ./upf-uno-heds.sh local UPF DFLTS                  your RUNs
#   ./upf-uno-heds.sh local UPF DFLTS EXP003           go on with a killed EXP
#   ./upf-uno-heds.sh local UPF DFLTS --plan           only say what would be done
#   ./upf-uno-heds.sh aurora UPF DFLTS --dry-run       only print the batch script; without --dry-run, submit it
#   QUEUE=capacity ./upf-uno-heds.sh aurora UPF DFLTS --chain 5
#                                                      a job that is over submits the next one, 5 at most
#
# SITE is local, aurora, polaris, frontier, perlmutter, slurm, pbs, flux, or your own file.toml (docs/sites.md).
# OPTIONS are those of `python -m swiftpy.upf --help`.
set -eu
here=$(dirname "$(realpath "$0")")

names="DATA_SOURCE CANDLE_DATA_DIR MODEL_NAME MODEL_PYTHON_DIR MODEL_PYTHON_SCRIPT CANDLE_DEFAULT_MODEL_FILE
       MODEL_RETURN BENCHMARK_TIMEOUT EXPID PROCS PPN QUEUE PROJECT WALLTIME"
unset_before=""
for name in $names; do
    [ -n "${!name:-}" ] || unset_before="$unset_before $name"
done

# ---- Settings: take the # away and edit, or set them in your environment, which takes precedence -----------------

# The preprocessed IMPROVE data set: a directory with rsp_merged, ge_merged_data, md_merged_data (.parquet)
# : "${DATA_SOURCE:=/path/to/improve/data}"
# EXP directories are made in $CANDLE_DATA_DIR/$MODEL_NAME/Output
# : "${CANDLE_DATA_DIR:=out}"
# : "${MODEL_NAME:=unorun}"
# Software: the directory of a model, or of pre and post modules, of your own (README.md, Your own model)
# : "${MODEL_PYTHON_DIR:=/path/to/UNO}"

. "$here/cfg-sys-1.sh"

# ------------------------------------------------------------------------------------------------------------------

usage() {
    sed -n '2,/^set -eu/ s/^# \{0,1\}//p' "$0"
}

case ${1:-} in
    -h | --help) usage; exit ;;
    "") usage >&2; exit 2 ;;
esac
site=$1
SWIFTPY_COMMAND=$(printf '%q ' "$0" "$@") # with names that have blanks it can be typed again
export SWIFTPY_SCRIPT=$0 SWIFTPY_COMMAND=${SWIFTPY_COMMAND% }
shift
positional=()
while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do
    positional+=("$1")
    shift
done
set -- "$@"
if [ ${#positional[@]} -gt 3 ]; then
    usage >&2
    echo "too many arguments: ${positional[*]}; there are UPF, DFLTS and EXP, then options" >&2
    exit 2
fi
before=""
for argument in "$@"; do
    if [ ${#positional[@]} -eq 0 ] && [ -f "$argument" ] && [ "$before" != --hook ]; then # the demo may have hooks
        echo "$argument: UPF and DFLTS come before the options" >&2
        exit 2
    fi
    before=$argument
done

# Only on a machine of your own is everything installed for you. A cluster has an MPI and a TensorFlow of its own: make
# .venv yourself as the README says, or set PYTHON.
python=$here/.venv/bin/python
if [ "$site" = local ]; then
    "$here/scripts/setup-venv" local # here PYTHON is what it is made with
elif [ -n "${PYTHON:-}" ] || [ ! -x "$python" ]; then
    python=${PYTHON:-python3}
fi
if ! "$python" -c "import swiftpy.upf.submit" 2>/dev/null; then
    echo "$python has no swiftpy: make $here/.venv as README.md says (Without the script, and on a cluster)" >&2
    exit 2
fi

if [ ${#positional[@]} -eq 0 ]; then
    # The demo: 8 drugs are left out one after another, on made-up data, all in ./demo (its dflts.json says where).
    DATA_SOURCE=""
    "$python" -m hed.synthetic demo/data
    positional=(demo/upf-8.json demo/dflts.json)
    [ -e "${positional[0]}" ] || "$python" -m hed.gen_jsons 8 "${positional[0]}"
    [ -e "${positional[1]}" ] || cp "$here/hed/demo-dflts.json" "${positional[1]}"
fi

from_script=""
for name in $unset_before; do
    [ -z "${!name:-}" ] || from_script="$from_script $name"
done
for name in $names; do
    [ -z "${!name:-}" ] || export "${name?}"
done
export SWIFTPY_SCRIPT_SETTINGS=$from_script

arguments=("${positional[@]:0:2}")
[ ${#positional[@]} -lt 3 ] || arguments+=(--restart "${positional[2]}")
[ ! -t 1 ] || arguments+=(--progress bar)
arguments+=(--hook hooks.leader:stage_data --summary analysis.runs:print_table)
if [ -n "${SOFTWARE_SOURCE:-}" ]; then
    export SOFTWARE_SOURCE
    [[ $* == *hooks.prelaunch* ]] || arguments+=(--hook hooks.prelaunch:stage_software)
fi
exec "$python" -m swiftpy.sites "$site" "${arguments[@]}" "$@"
