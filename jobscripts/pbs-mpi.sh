#!/bin/sh
#PBS -N tasks
#PBS -l select=2:ncpus=4:mpiprocs=4
#PBS -l walltime=1:00:00
#PBS -j oe

# What cannot end before the job does does not begin. Exit status 75 means that tasks are left: submit it again.
# An mpirun that knows nothing of PBS wants -hostfile "$PBS_NODEFILE".
cd "$PBS_O_WORKDIR" || exit 1
exec mpirun hs mpi tasks.in --restart --db tasks.db --failures failed.in
