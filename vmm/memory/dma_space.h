// DmaSpace: what a device sees of guest memory.

#ifndef VMSG_VMM_MEMORY_DMA_SPACE_H_
#define VMSG_VMM_MEMORY_DMA_SPACE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_result.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {

// The switch that a PCI function's bus-master bit turns. Shared by all DmaSpace
// objects of the function.
//
// Threads: any. Closing does not wait for a copy of at most
// DmaSpace::kMaxCopyBytes that is running on another thread.
class DmaGate {
 public:
  void Set(bool open) { open_.store(open, std::memory_order_release); }
  bool open() const { return open_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> open_{false};
};

// A reader and writer of guest memory for one thread. It caches the snapshot of
// the map and looks at the version on each use, so a use takes no lock unless
// the map has changed.
//
// Every function checks all addresses, for every value of them, before it
// touches anything: a transfer that returns something other than kOk has moved
// nothing, except that the gate may close, or a region may go, between the
// pieces of a transfer longer than kMaxCopyBytes. The gate is looked at first,
// then the bytes in order of address. No bytes are everywhere: an empty
// transfer succeeds wherever the gate is open.
//
// Ranges may span adjacent regions. Threads: one (the owner's loop).
class DmaSpace {
 public:
  static constexpr uint64_t kMaxCopyBytes = 64 * 1024;

  // `memory` and `gate` are borrowed and outlive the space. A null `gate` is
  // always open.
  explicit DmaSpace(const GuestMemory* memory, const DmaGate* gate = nullptr);
  DmaSpace(const DmaSpace&) = delete;
  DmaSpace& operator=(const DmaSpace&) = delete;

  DmaResult Read(GuestAddress from, std::span<std::byte> to);
  // The one write primitive; the write hook of the memory sees every range.
  DmaResult Write(GuestAddress to, std::span<const std::byte> from);

  // Whether Read (or Write, if `writable`) of the range would succeed now.
  DmaResult Check(GuestRange range, bool writable);

  // Ring words, little-endian: `address` is a multiple of two, and both bytes
  // are in one region, else kOutside. One access, with the given order; store
  // with release publishes what was written before. `*value` changes on kOk
  // only.
  DmaResult Load16(GuestAddress address, std::memory_order order,
                   uint16_t* value);
  DmaResult Store16(GuestAddress address, uint16_t value,
                    std::memory_order order);

  // A host pointer to a range inside one region, for back ends that take
  // pointers (io_uring, readv), and the hold that keeps it mapped. `data` is
  // guest-controlled memory. Empty (null) unless `result` is kOk. Who writes
  // through it calls GuestMemory::NoteWrite first: pass `writable`, which does
  // it. kOutside also when the range crosses regions: split there. An empty
  // range is pinned where its start is in a region.
  //
  // The hold keeps the memory, not the permission: a device lets go of it when
  // it is reset or quiesced, whatever the gate says.
  struct Pinned {
    DmaResult result = DmaResult::kOutside;
    std::byte* data = nullptr;
    std::shared_ptr<const MemoryBacking> hold = nullptr;
  };
  Pinned Pin(GuestRange range, bool writable);

  // The snapshot now; replaced by any later call when the map has changed.
  const MemoryMap& map();

 private:
  bool GateOpen() const { return gate_ == nullptr || gate_->open(); }
  void Refresh();
  const MemoryRegion* Lookup(GuestAddress address);
  // As Check(), on the snapshot that the space has.
  DmaResult CheckMapped(GuestRange range, bool writable);
  // Calls `copy(shared, offset, size)` for the parts of `range` in each region.
  template <typename Copy>
  DmaResult Transfer(GuestRange range, bool writable, Copy copy);
  // The region of one aligned word, if it may be used so.
  DmaResult FindWord(GuestAddress address, bool writable, std::byte** shared);

  const GuestMemory* const memory_;
  const DmaGate* const gate_;
  std::shared_ptr<const MemoryMap> map_;
  uint64_t version_ = 0;
  const MemoryRegion* last_ = nullptr;  // most accesses hit the same region
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_DMA_SPACE_H_
