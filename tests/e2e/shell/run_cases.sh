#!/bin/busybox sh
# Runs cases where /dev/kvm is: run_cases.sh FOLDER SCRATCH NAME...
#
# FOLDER has bin/, images/, shell/ and cases/; SCRATCH is for files of the run.
# Prints for each case the console of its guest, the log of its VMM and one line:
#   e2e: case=NAME result=pass|fail seconds=N key=value...
# Exit code: 0 when each passed. E2E_CASE_SECONDS limits each (default 120).
E2E=$1
SCRATCH=$2
shift 2
export E2E SCRATCH
status=0
for name in "$@"; do
  folder=$SCRATCH/$name
  rm -rf "$folder"
  mkdir -p "$folder"
  echo "e2e: start case=$name"
  read -r start _ </proc/uptime
  if (cd "$folder" && timeout -k 5 "${E2E_CASE_SECONDS:-120}" \
      "$E2E/shell/run_case.sh" "$name" >out 2>&1); then
    result=pass
  else
    result=fail
    status=1
  fi
  read -r end _ </proc/uptime
  for file in out console vmm.log; do
    [ -f "$folder/$file" ] && sed "s/^/$name $file| /" "$folder/$file"
  done
  # What a case calls a pass without a processor that ran is none.
  exits=$(cat "$folder/kvm_exits" 2>/dev/null || echo 0)
  if [ "$exits" -eq 0 ] && [ $result = pass ]; then
    echo "e2e: error: $name: KVM has run nothing"
    result=fail
    status=1
  fi
  seconds=$(echo "$end $start" | awk '{printf "%.1f", $1 - $2}')
  facts=$(cat "$folder/facts" 2>/dev/null | tr '\n' ' ')
  echo "e2e: case=$name result=$result seconds=$seconds kvm_exits=$exits $facts"
done
exit $status
