#!/bin/sh
#flux: --job-name=tasks
#flux: --nodes=2
#flux: --nslots=8
#flux: --time-limit=1h

# What cannot end before the job does does not begin. Exit status 75 means that tasks are left: submit it again.
# Submit it with: flux batch flux-mpi.sh
exec flux run --nodes=2 --ntasks=8 hs mpi tasks.in --restart --db tasks.db --failures failed.in
