#!/bin/sh
#$ -N tasks
#$ -S /bin/sh
#$ -cwd
#$ -pe mpi 8
#$ -l h_rt=1:00:00
#$ -j y

# Lets others join while it runs; on any host that reaches this one and sees the file:
#     hs client --connect connect.json -N4
#     hs submit --connect connect.json more.in
# Nobody tells a job of Grid Engine when it ends: --walltime is h_rt less a little.
exec mpirun -n "$NSLOTS" hs mpi tasks.in --restart --db tasks.db --walltime 0:58:00 \
    --bind 0.0.0.0 --port 0 --connect-file connect.json
