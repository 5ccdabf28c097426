#!/bin/sh
#flux: --job-name=tasks
#flux: --nodes=2
#flux: --nslots=8
#flux: --time-limit=1h

# Lets others join while it runs; on any host that reaches this one and sees the file:
#     hs client --connect connect.json -N4
#     hs submit --connect connect.json more.in
# Submit it with: flux batch flux-hybrid.sh
exec flux run --nodes=2 --ntasks=8 hs mpi tasks.in --restart --db tasks.db \
    --bind 0.0.0.0 --port 0 --connect-file connect.json
