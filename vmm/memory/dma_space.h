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
#include "vmm/memory/dma_translator.h"
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
// Ranges may span adjacent regions.
//
// With a translator the addresses are its IOVAs, and a range may lie in pieces
// all over guest memory. All of the above holds; a mapping that goes is like a
// region that goes. A ring word lies in one piece, and where it is in guest
// memory is a multiple of two as well, else kOutside.
//
// Threads: one (the owner's loop).
class DmaSpace {
 public:
  static constexpr uint64_t kMaxCopyBytes = uint64_t{64} * 1024;
  // Check() behind a translator looks at so many pieces of a range.
  static constexpr uint32_t kMaxCheckedPieces = 16;

  // All are borrowed and outlive the space. A null `gate` is always open.
  // Without a translator addresses are guest-physical.
  explicit DmaSpace(const GuestMemory* memory, const DmaGate* gate = nullptr,
                    DmaTranslator* translator = nullptr);
  DmaSpace(const DmaSpace&) = delete;
  DmaSpace& operator=(const DmaSpace&) = delete;

  DmaResult Read(GuestAddress from, std::span<std::byte> to);
  // The one write primitive; the write hook of the memory sees every range.
  DmaResult Write(GuestAddress to, std::span<const std::byte> from);

  // Whether Read (or Write, if `writable`) of the range would succeed now.
  //
  // Behind a translator the guest may have cut a range of 4 GiB into a million
  // pieces, so this looks at the first kMaxCheckedPieces of them. What is wrong
  // behind those is found by the transfer that gets there, whose work is
  // bounded by the bytes that the device wants to move.
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
  // it. kOutside also when the range crosses regions: split there. Behind a
  // translator also when it is in several pieces, which nobody knows before:
  // copy then. An empty range is pinned where its start is in a region, or
  // mapped.
  //
  // The hold keeps the memory, not the permission: a device lets go of both
  // holds when it is reset or quiesced, whatever the gate and the translator
  // say.
  struct Pinned {
    DmaResult result = DmaResult::kOutside;
    std::byte* data = nullptr;
    std::shared_ptr<const MemoryBacking> hold = nullptr;
    std::shared_ptr<const void> mapping = nullptr;  // DmaTranslator::Hold()
  };
  Pinned Pin(GuestRange range, bool writable);

  // The snapshot now; replaced by any later call when the map has changed.
  const MemoryMap& map();

 private:
  // A part of a range that lies together in host memory.
  struct Piece {
    DmaResult result = DmaResult::kOutside;
    GuestRange physical = {};  // with kOk, not empty
    const MemoryRegion* region = nullptr;
  };

  bool GateOpen() const { return gate_ == nullptr || gate_->open(); }
  // False: the map has changed, or there is a translator. It is one comparison,
  // so that nobody pays for translators who has none.
  bool PlainAndCurrent() const { return memory_->version() == plain_version_; }
  void Refresh();
  const MemoryRegion* Lookup(GuestAddress address);
  // As Check(), on the snapshot that the space has.
  DmaResult CheckPlain(GuestRange range, bool writable);
  // Calls `copy(shared, offset, size)` for the parts of `range` in each region.
  template <typename Copy>
  DmaResult Transfer(GuestRange range, bool writable, Copy copy);
  // Calls `access(shared)` for an aligned word, if it may be used so.
  template <typename Access>
  DmaResult AccessWord(GuestAddress address, bool writable, Access access);

  // The same behind a translator, with the gate looked at and the map current.
  // The first piece of `range`, which is not empty and does not wrap. In a use.
  Piece Translate(GuestRange range, bool writable);
  // All pieces of such a range, in order, at most `max` of them. In a use.
  template <typename Visit>
  DmaResult ForEachPiece(GuestRange range, bool writable, uint32_t max,
                         Visit visit);
  DmaResult CheckTranslated(GuestRange range, bool writable);
  template <typename Copy>
  DmaResult TransferTranslated(GuestRange range, bool writable, Copy copy);
  template <typename Copy>
  DmaResult CopyTranslated(GuestRange range, bool writable, uint64_t offset,
                           Copy copy);
  template <typename Access>
  DmaResult AccessTranslatedWord(GuestAddress address, bool writable,
                                 Access access);
  Pinned PinTranslated(GuestRange range, bool writable);

  const GuestMemory* const memory_;
  const DmaGate* const gate_;
  DmaTranslator* const translator_;
  std::shared_ptr<const MemoryMap> map_;
  uint64_t version_ = 0;  // of map_
  // The same, or with a translator a version that never comes.
  uint64_t plain_version_ = 0;
  const MemoryRegion* last_ = nullptr;  // most accesses hit the same region
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_DMA_SPACE_H_
