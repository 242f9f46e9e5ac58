# As linux_rng, with the FIFO layout shmem-v1: scripts/demo runs it.
# Runs only when it is named.
. "$E2E/cases/linux_rng.sh"
LAYOUT=shmem-v1
