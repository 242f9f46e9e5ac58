#!/bin/busybox sh
# Runs cases where /dev/kvm is: run_cases.sh FOLDER SCRATCH NAME...
#
# FOLDER has bin/, images/, shell/ and cases/; SCRATCH is for files of the run.
# Prints for each case what it does, as it does it, then the console of its guest,
# the log of its VMM and one line:
#   e2e: case=NAME result=pass|fail seconds=N key=value...
# Exit code: 0 when each passed. E2E_CASE_SECONDS limits each (default 240).
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
  {
    cd "$folder" && timeout -k 5 "${E2E_CASE_SECONDS:-240}" \
      "$E2E/shell/run_case.sh" "$name"
    echo $? >"$folder/status"
    # A case that was killed may have left its VMM.
    [ -f "$folder/vmm.pid" ] && kill -9 "$(cat "$folder/vmm.pid")" 2>/dev/null
  } 2>&1 | while IFS= read -r line; do echo "$name out| $line"; done
  result=pass
  [ "$(cat "$folder/status")" = 0 ] || result=fail
  read -r end _ </proc/uptime
  for file in console vmm.log; do
    [ -f "$folder/$file" ] && sed "s/^/$name $file| /" "$folder/$file"
  done
  # What a case calls a pass without a processor that ran is none.
  exits=$(cat "$folder/kvm_exits" 2>/dev/null || echo 0)
  if [ "$exits" -eq 0 ] && [ $result = pass ]; then
    echo "e2e: error: $name: KVM has run nothing"
    result=fail
  fi
  [ $result = pass ] || status=1
  seconds=$(echo "$end $start" | awk '{printf "%.1f", $1 - $2}')
  facts=$(cat "$folder/facts" 2>/dev/null | tr '\n' ' ')
  echo "e2e: case=$name result=$result seconds=$seconds kvm_exits=$exits $facts"
done
exit $status
