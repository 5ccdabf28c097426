#!/usr/bin/env bash
# MPICH's mpiexec (Hydra) and a standard input that is larger than 64 KiB
#
# Expected: mpiexec passes its stdin on to rank 0 at the speed at which rank 0 reads, as a pipe does.
# Seen (4.3.2, 5.0.2): where rank 0 has not read yet and more than about 64 KiB wait behind what its pipe holds, the
# job ends with "process reading stdin too slowly; can't keep up", and status 255 or 141. A megabyte that arrives while
# rank 0 still starts is enough. Where it fits, rank 0 reads all of it.
# Exit status: 0 while this is so, 1 when it has changed.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
changed=0

# A rank 0 that takes a second before it reads, as one that imports modules from a busy file system.
cat >"$folder/reader.sh" <<'END'
[ "${PMI_RANK:-0}" = 0 ] || exit 0
sleep 1
echo "rank 0 read $(wc -c) bytes"
END

for version in 4.3.2 5.0.2; do
  python3 -m venv "$folder/$version" && "$folder/$version/bin/pip" install -q "mpich==$version" || exit 2
  mpiexec=$folder/$version/bin/mpiexec
  "$mpiexec" --version | sed -n '1,2p'
  for size in 50000 1000000; do
    head -c "$size" /dev/zero >"$folder/input"
    echo "+ mpiexec -n 2 sh reader.sh <input    # $size bytes"
    "$mpiexec" -n 2 sh "$folder/reader.sh" <"$folder/input" >"$folder/seen" 2>&1
    status=$?
    sed 's/^/  /' "$folder/seen" | cut -c1-160
    echo "  status $status"
    if [ "$size" = 50000 ]; then
      [ "$status" = 0 ] && grep -q "read $size bytes" "$folder/seen" || changed=1
    else
      [ "$status" != 0 ] && grep -q "can't keep up" "$folder/seen" || changed=1
    fi
  done
done
[ "$changed" = 0 ] && echo "as described" || echo "the behaviour has changed"
exit "$changed"
