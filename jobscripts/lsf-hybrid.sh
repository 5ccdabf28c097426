#!/bin/sh
#BSUB -J tasks
#BSUB -n 8
#BSUB -R "span[ptile=4]"
#BSUB -W 1:00
#BSUB -o %J.out

# Lets others join while it runs; on any host that reaches this one and sees the file:
#     hs client --connect connect.json -N4
#     hs submit --connect connect.json more.in
# Submit it with: bsub <lsf-hybrid.sh
exec mpirun hs mpi tasks.in --restart --db tasks.db \
    --bind 0.0.0.0 --port 0 --connect-file connect.json
