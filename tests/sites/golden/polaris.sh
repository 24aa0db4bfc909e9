#!/bin/bash -l
#PBS -N EXP000
#PBS -j oe
#PBS -o '/home/me/my jobs/out/toy/Output/EXP000/output.txt'
#PBS -A mine
#PBS -q debug
#PBS -l select=195:system=polaris
#PBS -l place=scatter
#PBS -l walltime=06:00:00
#PBS -l filesystems=home:eagle
#PBS -k doe
#PBS -r n

cd '/home/me/my jobs' || exit 1
module use /soft/modulefiles
module load conda
conda activate base

export MPICH_GPU_SUPPORT_ENABLED=0
export CANDLE_DATA_DIR='/home/me/my jobs/out'
export MODEL_NAME=toy
export MODEL_PYTHON_DIR=/home/me/models
export MODEL_RETURN=val_loss
export BENCHMARK_TIMEOUT=-1
export PROCS=780
export PPN=4
export QUEUE=debug
export PROJECT=mine
export WALLTIME=06:00:00
export SWIFTPY_SETTING_SOURCES='{"MODEL_RETURN": "default", "BENCHMARK_TIMEOUT": "default", "PPN": "site polaris", "QUEUE": "site polaris"}'
export SWIFTPY_SERVER_SLOT=1

exec /home/me/.venv/bin/python -m swiftpy.upf.batch '/home/me/my jobs/out/toy/Output/EXP000' -- \
    mpiexec -n 974 --ppn 5 --cpu-bind list:31,63:0-7:8-15:16-23:24-30 \
    /home/me/.venv/bin/python -m swiftpy.upf upf.json dflts.json --timeout=-1.0 --site=polaris '--exp=/home/me/my jobs/out/toy/Output/EXP000'
