#!/bin/bash -l
#PBS -N EXP000
#PBS -j oe
#PBS -o '/home/me/my jobs/out/toy/Output/EXP000/output.txt'
#PBS -A mine
#PBS -l select=195:ncpus=4:mpiprocs=4
#PBS -l place=scatter
#PBS -l walltime=06:00:00
#PBS -k doe
#PBS -r n

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
export TMP_ORIGINAL=/local/original
export SOFTWARE_SOURCE=env.tar.zst
export STAGE_KEEP=1
export TF_NUM_INTRAOP_THREADS=7
export SWIFTPY_SETTING_SOURCES='{"MODEL_RETURN": "default", "BENCHMARK_TIMEOUT": "default", "PPN": "site pbs"}'

exec /home/me/.venv/bin/python -m swiftpy.upf.batch '/home/me/my jobs/out/toy/Output/EXP000' -- \
    mpiexec -n 780 \
    /home/me/.venv/bin/python -m swiftpy.upf upf.json dflts.json --timeout=-1.0 --site=pbs '--exp=/home/me/my jobs/out/toy/Output/EXP000'
