#!/bin/sh
#SBATCH --job-name=tasks
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --time=1:00:00

# What cannot end before the job does does not begin. Exit status 75 means that tasks are left: submit it again.
# The kind of PMI that your MPI speaks: pmi2 for MPICH, pmix for Open MPI ("srun --mpi=list" tells what there is).
exec srun --kill-on-bad-exit=1 --mpi="${HS_PMI:-pmi2}" hs mpi tasks.in --restart --db tasks.db --failures failed.in
