#include "tests/live_memory/live_memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

// What glibc's own functions call. Looking these up by dlsym() would allocate.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* block);
}
// NOLINTEND(bugprone-reserved-identifier)

namespace {

// As in the file: two 64-bit words in the order of this machine.
struct Counts {
  std::atomic<uint64_t> bytes;
  std::atomic<uint64_t> blocks;
};
static_assert(sizeof(Counts) == 16);

constinit Counts g_own = {};
constinit std::atomic<Counts*> g_counts = &g_own;

void Add(uint64_t bytes, uint64_t blocks) {
  Counts* const counts = g_counts.load(std::memory_order_relaxed);
  counts->bytes.fetch_add(bytes, std::memory_order_relaxed);
  counts->blocks.fetch_add(blocks, std::memory_order_relaxed);
}

void* Taken(void* block) {
  if (block != nullptr) Add(malloc_usable_size(block), 1);
  return block;
}

void GivenBack(void* block) {
  if (block != nullptr) {
    Add(-uint64_t{malloc_usable_size(block)}, -uint64_t{1});
  }
}

// Before main(), and so before there are threads that allocate.
__attribute__((constructor)) void ShareCounts() {
  const char* const path = std::getenv("VMSG_LIVE_MEMORY");
  if (path == nullptr) return;
  const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  void* const shared = file < 0 || ftruncate(file, sizeof(Counts)) != 0
                           ? MAP_FAILED
                           : mmap(nullptr, sizeof(Counts),
                                  PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared == MAP_FAILED) std::abort();
  close(file);
  Counts* const counts = static_cast<Counts*>(shared);
  counts->bytes = g_own.bytes.load();
  counts->blocks = g_own.blocks.load();
  g_counts = counts;
}

}  // namespace

extern "C" {

void* malloc(size_t size) noexcept { return Taken(__libc_malloc(size)); }

void* calloc(size_t count, size_t size) noexcept {
  return Taken(__libc_calloc(count, size));
}

void* realloc(void* block, size_t size) noexcept {
  const uint64_t before = block == nullptr ? 0 : malloc_usable_size(block);
  void* const moved = __libc_realloc(block, size);
  // No memory: the block is what it was.
  if (moved == nullptr && size != 0) return nullptr;
  Add(-before, block == nullptr ? uint64_t{0} : -uint64_t{1});
  return Taken(moved);
}

void* memalign(size_t alignment, size_t size) noexcept {
  return Taken(__libc_memalign(alignment, size));
}

void* aligned_alloc(size_t alignment, size_t size) noexcept {
  return Taken(__libc_memalign(alignment, size));
}

int posix_memalign(void** block, size_t alignment, size_t size) noexcept {
  void* const taken = Taken(__libc_memalign(alignment, size));
  if (taken == nullptr) return ENOMEM;
  *block = taken;
  return 0;
}

void free(void* block) noexcept {
  GivenBack(block);
  __libc_free(block);
}

}  // extern "C"

namespace vmsg {

LiveMemory CurrentLiveMemory() {
  const Counts* const counts = g_counts;
  return {counts->bytes, counts->blocks};
}

}  // namespace vmsg
