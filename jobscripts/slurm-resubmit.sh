#!/bin/sh
#SBATCH --job-name=tasks
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --time=1:00:00

# Submits itself again until all tasks have ended; this is its path, seen from the directory of submission.
# The kind of PMI that your MPI speaks: pmi2 for MPICH, pmix for Open MPI ("srun --mpi=list" tells what there is).
script=slurm-resubmit.sh

rm -f status.json
srun --kill-on-bad-exit=1 --mpi="${HS_PMI:-pmi2}" hs mpi tasks.in --restart --db tasks.db --status-file status.json

# A launcher may have a status of its own. The file tells how it went, each value on a line of its own.
value() { sed -n "s/^  \"$1\": \([0-9a-z]*\),*\$/\1/p" status.json; }

status=$(value exit_status)
died=0
case $status in
75)
    if [ "$(value succeeded)$(value failed)$(value cancelled)" = 000 ]; then
        echo "no task could end in the time of this job: it is not submitted again" >&2
        exit 75
    fi
    ;;
[0-9]*) exit "$status" ;;
*) # killed before it could say how it ended
    died=$((${HS_DIED:-0} + 1))
    if [ "$died" -gt 3 ]; then
        echo "killed $died times in a row: it is not submitted again" >&2
        exit 1
    fi
    ;;
esac
exec env HS_DIED="$died" sbatch "$script"
