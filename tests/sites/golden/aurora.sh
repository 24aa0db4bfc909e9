#!/bin/bash -l
#PBS -N EXP000
#PBS -j oe
#PBS -o '/home/me/my jobs/out/toy/Output/EXP000/output.txt'
#PBS -A mine
#PBS -q debug
#PBS -l select=65
#PBS -l place=scatter
#PBS -l walltime=06:00:00
#PBS -l filesystems=home:flare
#PBS -k doe
#PBS -r n

cd '/home/me/my jobs' || exit 1
module load tensorflow
module load mpich/opt/develop-git.6037a7a

export ZE_FLAT_DEVICE_HIERARCHY=FLAT
export ITEX_LIMIT_MEMORY_SIZE_IN_MB=8192
export MPIR_CVAR_ENABLE_GPU=0
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_CXI_OFLOW_BUF_SIZE=8388608
export FI_CXI_CQ_FILL_PERCENT=20
export CANDLE_DATA_DIR='/home/me/my jobs/out'
export MODEL_NAME=toy
export MODEL_PYTHON_DIR=/home/me/models
export MODEL_RETURN=val_loss
export BENCHMARK_TIMEOUT=-1
export PROCS=780
export PPN=12
export QUEUE=debug
export PROJECT=mine
export WALLTIME=06:00:00
export SWIFTPY_SETTING_SOURCES='{"MODEL_RETURN": "default", "BENCHMARK_TIMEOUT": "default", "PPN": "site aurora", "QUEUE": "site aurora"}'
export SWIFTPY_SERVER_SLOT=1

exec /home/me/.venv/bin/python -m swiftpy.upf.batch '/home/me/my jobs/out/toy/Output/EXP000' -- \
    mpiexec -n 844 --ppn 13 --cpu-bind list:102:1-8:9-16:17-24:25-32:33-40:41-48:53-60:61-68:69-76:77-84:85-92:93-100 \
    /home/me/.venv/bin/python -m swiftpy.upf upf.json dflts.json --timeout=-1.0 --site=aurora '--exp=/home/me/my jobs/out/toy/Output/EXP000'
