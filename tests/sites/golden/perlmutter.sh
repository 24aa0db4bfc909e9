#!/bin/bash -l
#SBATCH --job-name=EXP000
#SBATCH --output='/home/me/my jobs/out/toy/Output/EXP000/output.txt'
#SBATCH --open-mode=append
#SBATCH --account=mine
#SBATCH --qos=debug
#SBATCH --constraint=gpu
#SBATCH --nodes=195
#SBATCH --time=06:00:00
#SBATCH --gpus-per-node=4
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@90

cd '/home/me/my jobs' || exit 1
module load tensorflow

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
export SWIFTPY_SETTING_SOURCES='{"MODEL_RETURN": "default", "BENCHMARK_TIMEOUT": "default", "PPN": "site perlmutter", "QUEUE": "site perlmutter"}'
export SWIFTPY_SERVER_SLOT=1

exec /home/me/.venv/bin/python -m swiftpy.upf.batch '/home/me/my jobs/out/toy/Output/EXP000' -- \
    srun --nodes=195 --ntasks=974 --ntasks-per-node=5 --overcommit --gpus-per-node=4 --kill-on-bad-exit=1 --cpu-bind=mask_cpu:0x80000000000000000000000000000000,0xffff000000000000ffff,0xffff000000000000ffff0000,0xffff000000000000ffff00000000,0xffff000000000000ffff000000000000 \
    /home/me/.venv/bin/python -m swiftpy.upf upf.json dflts.json --timeout=-1.0 --site=perlmutter '--exp=/home/me/my jobs/out/toy/Output/EXP000'
