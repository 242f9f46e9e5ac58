// DmaTranslator: what an embedder puts between the addresses that drivers give
// to devices and guest memory; an IOMMU, or what stands for one.

#ifndef VMSG_VMM_MEMORY_DMA_TRANSLATOR_H_
#define VMSG_VMM_MEMORY_DMA_TRANSLATOR_H_

#include <memory>

#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_result.h"

namespace vmsg::vmm {

// Where the first bytes of a range are.
struct DmaTranslation {
  DmaResult result = DmaResult::kOutside;
  // With kOk: guest-physical, from one byte up to as many as were asked for.
  GuestRange range = {};
};

// Behind it an address is an I/O virtual address (IOVA): it has a meaning for
// this one translator. What it gives is guest-physical and is looked up in
// GuestMemory like any address: a mapping to where there is no memory is worth
// nothing, and a mistake in it reaches nothing that is not in the map.
//
// DmaSpace asks it anew for each access and keeps nothing in between, so it has
// no cache that could be stale. What it may not do is go on using a translation
// when the mapping has gone: the access happens inside a use, and a mapping
// goes away only when no use is under way that may have been given it.
//
//   device's loop            who takes a mapping away
//   BeginUse                 waits until the uses that have begun have ended
//   Translate, once or more  (they are short: kMaxCopyBytes at most);
//   the bytes move           from here on no device reads or writes through it
//   EndUse
//
// What is pinned is used for longer, and not waited for: see Hold().
//
// Threads: any, several at once; each has at most one use at a time. The calls
// are made for each ring word and each buffer: they neither allocate nor wait
// for anything but a change of a mapping. They never touch a DmaSpace that has
// this translator. Borrowed by those spaces, outlives them.
class DmaTranslator {
 public:
  DmaTranslator() = default;
  DmaTranslator(const DmaTranslator&) = delete;
  DmaTranslator& operator=(const DmaTranslator&) = delete;
  virtual ~DmaTranslator() = default;

  // Around what follows, on one thread.
  virtual void BeginUse() = 0;
  virtual void EndUse() = 0;

  // Inside a use: where the bytes from iova.start on are, as many of them as
  // follow each other in guest-physical memory (or fewer), for reading or for
  // writing. `iova` is not empty and does not wrap.
  //   kOutside   the first byte is not mapped, or not for reading.
  //   kReadOnly  it is mapped, and not for writing.
  // The place to report a fault to the guest, where the embedder's IOMMU does
  // so. An access that fails here ends like one to where there is no memory.
  virtual DmaTranslation Translate(GuestRange iova, bool writable) = 0;

  // Inside a use, after Translate() gave all of `iova` in one piece: a device
  // will use that memory beyond it, until it lets go of what this gives. Such a
  // device is told nothing when the mapping goes away: it lets go when the
  // request is done, or when it is reset or quiesced. An embedder whose devices
  // pin memory, and who has to know that nothing is under way any more, keeps
  // account here. Null: nobody does. May not allocate.
  virtual std::shared_ptr<const void> Hold(GuestRange /*iova*/) {
    return nullptr;
  }
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_DMA_TRANSLATOR_H_
