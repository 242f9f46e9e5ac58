# As adversary, with the FIFO layout shmem-v1.
. "$E2E/cases/adversary.sh"
LAYOUT=shmem-v1
