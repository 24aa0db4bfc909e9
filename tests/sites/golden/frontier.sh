#!/bin/bash -l
#SBATCH --job-name=EXP000
#SBATCH --output='/home/me/my jobs/out/toy/Output/EXP000/output.txt'
#SBATCH --open-mode=append
#SBATCH --account=mine
#SBATCH --partition=batch
#SBATCH --nodes=98
#SBATCH --time=06:00:00
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@90

cd '/home/me/my jobs' || exit 1
module load rocm

export MPICH_GPU_SUPPORT_ENABLED=0
export CANDLE_DATA_DIR='/home/me/my jobs/out'
export MODEL_NAME=toy
export MODEL_PYTHON_DIR=/home/me/models
export MODEL_RETURN=val_loss
export BENCHMARK_TIMEOUT=-1
export PROCS=780
export PPN=8
export QUEUE=batch
export PROJECT=mine
export WALLTIME=06:00:00
export SWIFTPY_SETTING_SOURCES='{"MODEL_RETURN": "default", "BENCHMARK_TIMEOUT": "default", "PPN": "site frontier", "QUEUE": "site frontier"}'
export SWIFTPY_SERVER_SLOT=1

exec /home/me/.venv/bin/python -m swiftpy.upf.batch '/home/me/my jobs/out/toy/Output/EXP000' -- \
    srun --nodes=98 --ntasks=877 --ntasks-per-node=9 --overcommit --gpus-per-node=8 --kill-on-bad-exit=1 --cpu-bind=mask_cpu:0xfe00000000000000,0xfe,0xfe00,0xfe0000,0xfe000000,0xfe00000000,0xfe0000000000,0xfe000000000000,0xfe00000000000000 \
    /home/me/.venv/bin/python -m swiftpy.upf upf.json dflts.json --timeout=-1.0 --site=frontier '--exp=/home/me/my jobs/out/toy/Output/EXP000'
