// Counts the calls of operator new of the program that links it.

#ifndef VMSG_BENCHMARKS_ALLOCATION_COUNT_H_
#define VMSG_BENCHMARKS_ALLOCATION_COUNT_H_

#include <cstdint>

namespace vmsg::bench {

// So far, by all threads.
uint64_t AllocationCount();

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_ALLOCATION_COUNT_H_
