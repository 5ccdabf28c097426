#!/bin/sh
#$ -N tasks
#$ -S /bin/sh
#$ -cwd
#$ -pe mpi 8
#$ -l h_rt=1:00:00
#$ -j y

# What cannot end within --walltime does not begin. Exit status 75 means that tasks are left: submit it again.
# Nobody tells a job of Grid Engine when it ends: --walltime is h_rt less a little.
exec mpirun -n "$NSLOTS" hs mpi tasks.in --restart --db tasks.db --failures failed.in --walltime 0:58:00
