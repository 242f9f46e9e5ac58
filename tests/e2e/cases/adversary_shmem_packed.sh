# As adversary, with the FIFO layout shmem-v1-packed.
# Runs only when it is named.
. "$E2E/cases/adversary.sh"
LAYOUT=shmem-v1-packed
