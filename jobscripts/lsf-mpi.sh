#!/bin/sh
#BSUB -J tasks
#BSUB -n 8
#BSUB -R "span[ptile=4]"
#BSUB -W 1:00
#BSUB -o %J.out

# What cannot end before the job does does not begin. Exit status 75 means that tasks are left: submit it again.
# Submit it with: bsub <lsf-mpi.sh
exec mpirun hs mpi tasks.in --restart --db tasks.db --failures failed.in
