// Counts the memory that a program has taken from the allocator and not given
// back: what is linked with this, or runs with live_memory.so preloaded.

#ifndef VMSG_TESTS_LIVE_MEMORY_LIVE_MEMORY_H_
#define VMSG_TESTS_LIVE_MEMORY_LIVE_MEMORY_H_

#include <cstdint>

namespace vmsg {

struct LiveMemory {
  uint64_t bytes = 0;   // as the allocator rounds them up
  uint64_t blocks = 0;  // each malloc() or new without its free() or delete
};

// As of now, of all threads. With the environment variable VMSG_LIVE_MEMORY,
// which names a file that is made anew, other processes find the same there:
// two 64-bit words, bytes and blocks, that change as the program runs.
LiveMemory CurrentLiveMemory();

}  // namespace vmsg

#endif  // VMSG_TESTS_LIVE_MEMORY_LIVE_MEMORY_H_
