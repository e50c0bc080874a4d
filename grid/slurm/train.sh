#!/bin/bash
# One notebook on all GPUs of one or several nodes of a cluster with Slurm. From the repository's
# folder, which all nodes must see:
#
#   sbatch --nodes 2 --gpus-per-node 8 grid/slurm/train.sh \
#     notebooks/07_train_local_mi.ipynb --out runs/mimic -f notebooks/parameters/07_mimic.yaml \
#     -p data_dir /scratch/mimic-256
#
# The same line again goes on with the run. Two minutes before its time is up, or when it is
# cancelled or preempted, it saves, and ends with 0.
#SBATCH --job-name=localmi
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=128G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log
# #SBATCH --partition=...     as the cluster has them
# #SBATCH --account=...
set -euo pipefail
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${nodes%%$'\n'*}  # not `head`, which may end before scontrol does: a broken pipe
port=$((20000 + SLURM_JOB_ID % 20000))
exec srun --kill-on-bad-exit=1 .venv/bin/python -m localmi launch \
  --nnodes "$SLURM_JOB_NUM_NODES" --nproc "${SLURM_GPUS_ON_NODE:-1}" \
  --rendezvous "$first:$port" --max-restarts 3 "$@"
