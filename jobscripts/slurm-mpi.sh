#!/bin/sh
#SBATCH --job-name=tasks
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --time=1:00:00
#SBATCH --signal=USR1@120

# USR1 comes 120 s before the end: no new tasks start, running ones end. One rank schedules, the others run tasks.
# The kind of PMI that your MPI speaks: pmi2 for MPICH, pmix for Open MPI ("srun --mpi=list" tells what there is).
exec srun --mpi="${HS_PMI:-pmi2}" hs mpi tasks.in --restart --db tasks.db --failures failed.in
