// IovaMap: a DmaTranslator that is a table of ranges.

#ifndef VMSG_VMM_MEMORY_IOVA_MAP_H_
#define VMSG_VMM_MEMORY_IOVA_MAP_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/shared_mutex.h"
#include "vmm/memory/dma_translator.h"

namespace vmsg::vmm {

// The address space of one IOMMU domain, or a window of guest memory that is
// all that devices may see. Empty at first: nothing can be reached.
//
// Threads: any. A change waits for the uses under way, each of which is a copy
// of at most DmaSpace::kMaxCopyBytes, and goes before those that begin
// meanwhile. When Unmap() has returned, no device reads or writes through what
// it took away, but for memory that is pinned (see pinned()). A change
// allocates; what devices do does not.
class IovaMap final : public DmaTranslator {
 public:
  struct Mapping {
    GuestRange iova;
    GuestAddress physical;  // where iova.start is
    bool readable = true;   // for devices
    bool writable = true;
  };

  // A guest whose requests end in Map() can't make it hold more than this.
  static constexpr size_t kDefaultMaxMappings = 65536;

  explicit IovaMap(size_t max_mappings = kDefaultMaxMappings)
      : max_mappings_(max_mappings) {}

  // Adds a mapping. On an error nothing has changed.
  //   InvalidArgument    empty; either range wraps; neither readable nor
  //                      writable; `physical` and iova.start differ modulo
  //                      GuestMemory::kWordAlignment.
  //   AlreadyExists      overlaps a mapping; the text names both ranges.
  //   ResourceExhausted  there are max_mappings already.
  absl::Status Map(const Mapping& mapping);

  // Removes the mappings inside `iova`; there may be none.
  //   InvalidArgument  the range wraps, or a mapping reaches out of it;
  //                    nothing has changed.
  absl::Status Unmap(GuestRange iova);
  // Removes all of them.
  void Clear();

  size_t size() const;  // mappings

  // Whether a device still holds memory that it pinned through a mapping,
  // present or removed, that overlaps `iova`. After Unmap() this can only
  // become false, and then what was mapped there is the guest's alone.
  bool pinned(GuestRange iova) const;

  // DmaTranslator.
  void BeginUse() override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  void EndUse() override ABSL_NO_THREAD_SAFETY_ANALYSIS;
  DmaTranslation Translate(GuestRange iova, bool writable) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS;
  std::shared_ptr<const void> Hold(GuestRange iova) override
      ABSL_NO_THREAD_SAFETY_ANALYSIS;

 private:
  // Pins share the range that their mapping had.
  struct Entry {
    std::shared_ptr<const GuestRange> iova;
    GuestAddress physical;
    bool readable = false;
    bool writable = false;
  };
  using Entries = std::map<uint64_t, Entry>;  // by the first address

  const Entry* Find(GuestAddress iova) const ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Removes [first, last), remembering those that are pinned.
  void Erase(Entries::iterator first, Entries::iterator last, Entries* removed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_mappings_;
  mutable SharedMutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  // Removed, and pinned when they were.
  std::vector<std::weak_ptr<const GuestRange>> leftovers_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_IOVA_MAP_H_
