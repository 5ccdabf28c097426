#!/bin/sh
#flux: --job-name=tasks
#flux: --nodes=2
#flux: --nslots=8
#flux: --time-limit=1h

# Submits itself again until all tasks have ended; this is its path, seen from the directory of submission.
# Submit it with: flux batch flux-resubmit.sh
script=flux-resubmit.sh

rm -f status.json
flux run --nodes=2 --ntasks=8 hs mpi tasks.in --restart --db tasks.db --status-file status.json

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
exec env HS_DIED="$died" flux batch "$script"
