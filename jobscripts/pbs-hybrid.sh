#!/bin/sh
#PBS -N tasks
#PBS -l select=2:ncpus=4:mpiprocs=4
#PBS -l walltime=1:00:00
#PBS -j oe

# Lets others join while it runs; on any host that reaches this one and sees the file:
#     hs client --connect connect.json -N4
#     hs submit --connect connect.json more.in
# An mpirun that knows nothing of PBS wants -hostfile "$PBS_NODEFILE".
cd "$PBS_O_WORKDIR" || exit 1
exec mpirun hs mpi tasks.in --restart --db tasks.db \
    --bind 0.0.0.0 --port 0 --connect-file connect.json
