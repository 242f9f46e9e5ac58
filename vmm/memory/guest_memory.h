// GuestMemory: the map of what a device may reach by DMA.

#ifndef VMSG_VMM_MEMORY_GUEST_MEMORY_H_
#define VMSG_VMM_MEMORY_GUEST_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::vmm {

// What a region is. Never BARs or MMIO: a DMA can't reach a device model, so
// there is no re-entrancy.
enum class RegionKind : uint8_t { kRam, kPersistent };

// Memory of the host that backs guest memory: a shared mapping of a descriptor
// (memfd, file), so that it can be handed to another process (vhost-user).
//
// Immutable after creation; shared by everything that uses it, and unmapped
// when the last user is gone. Threads: any.
class MemoryBacking {
 public:
  // A new memfd of `size` bytes (a multiple of the page size), named for
  // /proc/PID/maps.
  // The file can't be truncated, so its mapping never faults in any process.
  //   InvalidArgument    size is 0 or no multiple of the page size, or the name
  //   is
  //                      longer than the kernel allows (249 bytes).
  //   ResourceExhausted  the host has no memory, address space or descriptor.
  static absl::StatusOr<std::shared_ptr<const MemoryBacking>> CreateAnonymous(
      uint64_t size, const std::string& name);

  // Maps `size` bytes at `offset` of `fd`, which is owned from then on, shared,
  // readable and, unless `read_only`, writable. The caller made sure that
  // nobody truncates the file (a truncated mapping faults).
  //   InvalidArgument    size is 0, offset no multiple of the page size, the
  //   file
  //                      ends before offset + size, or it can't be mapped.
  //   PermissionDenied   `fd` is not open for what the mapping needs.
  //   ResourceExhausted  the host has no memory or address space.
  static absl::StatusOr<std::shared_ptr<const MemoryBacking>> MapFile(
      UniqueFd fd, uint64_t offset, uint64_t size, bool read_only);

  MemoryBacking(const MemoryBacking&) = delete;
  MemoryBacking& operator=(const MemoryBacking&) = delete;
  ~MemoryBacking();

  // The guest writes here at any time: use the copying functions of
  // vmm/memory/shared_copy.h, never a plain reference.
  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  int fd() const { return fd_.get(); }
  uint64_t fd_offset() const { return fd_offset_; }
  bool read_only() const { return read_only_; }

 private:
  MemoryBacking(UniqueFd fd, uint64_t fd_offset, std::byte* data, uint64_t size,
                bool read_only);

  const UniqueFd fd_;
  const uint64_t fd_offset_;
  std::byte* const data_;
  const uint64_t size_;
  const bool read_only_;
};

struct MemoryRegion {
  GuestRange range;
  RegionKind kind = RegionKind::kRam;
  bool read_only = false;  // for DMA; a write there is refused
  std::shared_ptr<const MemoryBacking> backing = nullptr;
  uint64_t backing_offset = 0;  // of range.start inside the backing
};

// An immutable set of regions, sorted by address, not overlapping.
class MemoryMap {
 public:
  explicit MemoryMap(std::vector<MemoryRegion> regions);

  const std::vector<MemoryRegion>& regions() const { return regions_; }

  // The region that holds `address`, or null.
  const MemoryRegion* Find(GuestAddress address) const;

 private:
  const std::vector<MemoryRegion> regions_;
};

// The owner of the current map. Changes publish a new snapshot; users keep the
// old one, and with it the backing of a removed region, until they look again.
//
// Threads: any. Writers are serialized by a lock; a reader takes it only when
// the version has changed since it last looked (DmaSpace does this).
class GuestMemory {
 public:
  GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  // Adds a region.
  //   InvalidArgument  empty, wraps, has no backing or reaches past the end of
  //   it,
  //                    is writable on a read-only backing, or its start and its
  //                    place in the backing differ modulo kWordAlignment.
  //   AlreadyExists    overlaps a region; the text names both ranges.
  absl::Status Add(MemoryRegion region);

  // A word that is aligned in the guest has to be aligned in the host, so that
  // one access reaches it.
  static constexpr uint64_t kWordAlignment = 8;

  // Removes exactly the region with this range. NotFound when there is none.
  // Its backing stays mapped until no snapshot and no Pinned hold has it.
  absl::Status Remove(GuestRange range);

  std::shared_ptr<const MemoryMap> Snapshot() const;

  // Changes with each Add and Remove. Acquire: whoever sees a version gets at
  // least that snapshot.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

  // Called with the range of each DMA write before its bytes change, on the
  // writing thread: the place for dirty-page tracking. Null: none. Never
  // changed while devices run. Must not block.
  using WriteHook = void (*)(void* context, GuestRange range);
  void SetWriteHook(WriteHook hook, void* context);
  void NoteWrite(GuestRange range) const {
    if (const WriteHook hook = hook_.load(std::memory_order_acquire)) {
      hook(hook_context_.load(std::memory_order_relaxed), range);
    }
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const MemoryMap> map_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{1};
  std::atomic<WriteHook> hook_{nullptr};
  std::atomic<void*> hook_context_{nullptr};
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_GUEST_MEMORY_H_
