#!/bin/bash -l
#SBATCH --job-name=EXP000
#SBATCH --output='/home/me/my jobs/out/toy/Output/EXP000/output.txt'
#SBATCH --open-mode=append
#SBATCH --account=mine
#SBATCH --nodes=195
#SBATCH --ntasks-per-node=4
#SBATCH --time=06:00:00
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@90

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
export SWIFTPY_SETTING_SOURCES='{"MODEL_RETURN": "default", "BENCHMARK_TIMEOUT": "default", "PPN": "site slurm"}'

exec /home/me/.venv/bin/python -m swiftpy.upf.batch '/home/me/my jobs/out/toy/Output/EXP000' -- \
    srun --nodes=195 --ntasks=780 --ntasks-per-node=4 --kill-on-bad-exit=1 \
    /home/me/.venv/bin/python -m swiftpy.upf upf.json dflts.json --timeout=-1.0 --site=slurm '--exp=/home/me/my jobs/out/toy/Output/EXP000'
