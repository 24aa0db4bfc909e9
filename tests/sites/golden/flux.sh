#!/bin/bash -l
# flux: --job-name=EXP000
# flux: --output='/home/me/my jobs/out/toy/Output/EXP000/output.txt'
# flux: --bank=mine
# flux: --nodes=195
# flux: --exclusive
# flux: --time-limit=21600s

cd '/home/me/my jobs' || exit 1

export CANDLE_DATA_DIR='/home/me/my jobs/out'
export MODEL_NAME=toy
export MODEL_PYTHON_DIR=/home/me/models
export MODEL_RETURN=val_loss
export BENCHMARK_TIMEOUT=-1
export PROCS=780
export PPN=4
export PROJECT=mine
export WALLTIME=06:00:00
export SWIFTPY_SETTING_SOURCES='{"MODEL_RETURN": "default", "BENCHMARK_TIMEOUT": "default", "PPN": "site flux"}'

exec /home/me/.venv/bin/python -m swiftpy.upf.batch '/home/me/my jobs/out/toy/Output/EXP000' -- \
    flux run --nodes=195 --ntasks=780 --exclusive \
    /home/me/.venv/bin/python -m swiftpy.upf upf.json dflts.json --timeout=-1.0 --site=flux '--exp=/home/me/my jobs/out/toy/Output/EXP000'
