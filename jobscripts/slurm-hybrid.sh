#!/bin/sh
#SBATCH --job-name=tasks
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --time=1:00:00

# Lets others join while it runs; on any host that reaches this one and sees the file:
#     hs client --connect connect.json -N4
#     hs submit --connect connect.json more.in
# The kind of PMI that your MPI speaks: pmi2 for MPICH, pmix for Open MPI ("srun --mpi=list" tells what there is).
exec srun --kill-on-bad-exit=1 --mpi="${HS_PMI:-pmi2}" hs mpi tasks.in --restart --db tasks.db \
    --bind 0.0.0.0 --port 0 --connect-file connect.json
