# From a guest's doorbell to its interrupt, in both FIFO layouts, against the least
# program that turns an ioeventfd into an irqfd.
# Runs only when it is named.

TRIPLES=9

host() {
  # An emulated machine says little about time: facts, and no limit.
  ratio_of spsc BM_DoorbellToInterrupt
  ratio_of shmem_v1 BM_DoorbellToInterruptShmem
}

# ratio_of LAYOUT BENCHMARK: the median over triples of baseline, subject, baseline.
ratio_of() {
  run_with_kvm triples.json "$E2E/bin/kvm_doorbell_benchmark" \
    "--benchmark_filter=^$2/" --benchmark_repetitions=$TRIPLES \
    --benchmark_format=json || fail "the benchmark ended with: $(cat triples.json)"
  sed -n 's/.*"run_type": "\(.*\)".*/run \1/p
    s/.*"\(after\|before\|subject\)_ns": \([^,]*\),*$/\1 \2/p' triples.json |
    awk '
      $1 == "run" {one = $2 == "iteration"; next}
      {ns[$1] = $2}
      one && $1 == "subject" {
        print 2 * ns["subject"] / (ns["before"] + ns["after"]), ns["subject"]
      }' | sort -n >triples
  same "triples of $1" "$(wc -l <triples)" $TRIPLES
  median=$(sed -n "$(((TRIPLES + 1) / 2))p" triples)
  fact "$1_ratio" "${median% *}"
  fact "$1_us" "$(echo "${median#* }" | awk '{print int($1 / 1000)}')"
}
