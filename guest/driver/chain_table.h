// ChainTable: the driver's private records of the chains that a device has.

#ifndef VMSG_GUEST_DRIVER_CHAIN_TABLE_H_
#define VMSG_GUEST_DRIVER_CHAIN_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "guest/driver/arena.h"

namespace vmsg::guest {

// A chain that came back.
struct UsedChain {
  uint64_t cookie = 0;   // as given to Virtqueue::Add
  uint32_t written = 0;  // bytes, at most what the chain let the device write
};

// What a device did to its ring.
enum class QueueFault : uint8_t {
  kNone,
  kIndexPastOutstanding,  // a used index past all that the device has
  kUnknownChain,          // used: a chain that the device does not have
  kUnpublishedChain,      // used: a chain that it has not been shown
  kTooMuchWritten,        // more bytes than the chain lets it write
  kOutOfOrder,            // VIRTIO_F_IN_ORDER: a chain before its elders
};

// "unknown-chain" and so on: one word, for logs.
const char* QueueFaultName(QueueFault fault);

// A chain has an id, by which the device names it, and may own more ids: those
// of its other descriptors, in a split ring. Ids are given out in the order in
// which they came back, from 0 on, so that they go round in a circle for a
// device that keeps the order.
//
// Threads: one.
class ChainTable {
 public:
  struct Chain {
    uint64_t cookie = 0;
    uint32_t writable = 0;     // bytes that the device may write
    uint16_t ids = 1;          // taken for it, the first of them is its own
    uint16_t descriptors = 1;  // in the ring
  };

  ChainTable() = default;
  ChainTable(const ChainTable&) = delete;
  ChainTable& operator=(const ChainTable&) = delete;

  // Arena bytes that Create takes at most.
  static uint64_t ArenaBytes(uint32_t size);

  // An empty table with the ids 0 to size - 1; size is 1 to 32768. `in_order`:
  // VIRTIO_F_IN_ORDER was negotiated. False when the arena is used up.
  bool Create(uint32_t size, bool in_order, Arena* arena);

  // Ids to give out.
  uint32_t free_ids() const { return free_ids_; }
  // REQUIRES: free_ids() != 0.
  uint16_t TakeId();

  // Notes a chain that was given `chain.ids` ids, `id` first.
  void Add(uint16_t id, const Chain& chain);
  // From here on the device may use all that was added.
  void Publish() { published_ = added_; }

  // What the device says that it has used. With VIRTIO_F_IN_ORDER one chain
  // stands for all before it too, which it has then used completely (virtio
  // 1.2, 2.7.9 and 2.8.8). REQUIRES: due() == 0.
  [[nodiscard]] QueueFault Use(uint32_t id, uint32_t written);
  // Chains used and not yet given back by Next.
  uint32_t due() const { return due_; }
  // Gives the next of them back, and frees its ids. Returns its descriptors in
  // the ring. REQUIRES: due() != 0.
  uint16_t Next(UsedChain* chain);

  // Chains that were added and not given back; those of them that the device
  // has not been shown.
  uint32_t outstanding() const { return outstanding_; }
  uint16_t unpublished() const {
    return static_cast<uint16_t>(added_ - published_);
  }

 private:
  struct Record {
    Chain chain;
    uint16_t number = 0;  // how many were added before, modulo 65536
    uint16_t next = 0;    // id taken after this one; in the free list, behind
    bool known = false;   // the first id of a chain
  };

  Record* records_ = nullptr;
  uint32_t size_ = 0;
  bool in_order_ = false;
  uint16_t free_head_ = 0;
  uint16_t free_tail_ = 0;
  uint32_t free_ids_ = 0;
  uint32_t outstanding_ = 0;
  // Chains since Create, modulo 65536: there are never more than 32768 at once.
  uint16_t added_ = 0;
  uint16_t published_ = 0;
  uint16_t given_back_ = 0;
  // Used and not given back: the first, how many, and what was written to the
  // last.
  uint16_t due_id_ = 0;
  uint32_t due_ = 0;
  uint32_t due_written_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_CHAIN_TABLE_H_
