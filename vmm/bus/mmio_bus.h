// MmioBus and PioBus: how a device model takes its place in the guest's
// physical address space and I/O port space.

#ifndef VMSG_VMM_BUS_MMIO_BUS_H_
#define VMSG_VMM_BUS_MMIO_BUS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {

// Handles trapped accesses to a range.
//
// Threads: any vCPU thread, several at once. A call stalls its vCPU, so it must
// not block, and must return for every offset, size and value.
class IoHandler {
 public:
  IoHandler() = default;
  IoHandler(const IoHandler&) = delete;
  IoHandler& operator=(const IoHandler&) = delete;
  virtual ~IoHandler() = default;

  // `offset` counts from the start of the mapped range and
  // [offset, offset + data.size()) lies inside it; data.size() is 1, 2, 4 or 8.
  // Bytes are in guest order (little-endian). Read fills all of `data`.
  virtual void Read(uint64_t offset, std::span<std::byte> data) = 0;
  virtual void Write(uint64_t offset, std::span<const std::byte> data) = 0;
};

// A place on a bus, held by whoever mapped it.
//
// Destroying it ends the mapping and waits until handler calls in progress have
// returned, so the handler may go right after. Not from within the handler, and
// not on a vCPU thread.
class MmioMapping {
 public:
  MmioMapping() = default;
  MmioMapping(const MmioMapping&) = delete;
  MmioMapping& operator=(const MmioMapping&) = delete;
  virtual ~MmioMapping() = default;

  // Puts the mapping at `base`, or nowhere for nullopt. Atomic for other vCPUs:
  // an access sees the old place or the new one. Never waits for handler calls
  // in progress, so it is what a config write on a vCPU thread uses to move a
  // BAR or to turn memory decoding off.
  //
  // On error the mapping stays where it was:
  //   InvalidArgument    the range would wrap or is not aligned as required.
  //   AlreadyExists      it would overlap another mapping; both are named.
  //   ResourceExhausted  the implementation has no slot left (KVM).
  // Threads: any, one at a time for a given mapping.
  virtual absl::Status SetBase(std::optional<GuestAddress> base) = 0;
};

// The guest-physical address space as device models see it.
//
// Threads: any, for all methods. Mappings are made unplaced (nowhere); SetBase
// places them. All mappings are gone before the bus.
class MmioBus {
 public:
  MmioBus() = default;
  MmioBus(const MmioBus&) = delete;
  MmioBus& operator=(const MmioBus&) = delete;
  virtual ~MmioBus() = default;

  // Accesses trap to `handler` (borrowed, outlives the mapping). An access that
  // reaches past the end of the range is split or dropped by the bus, never
  // handed on. `name` is for error texts: "amp0 bar0".
  //   InvalidArgument  the range is empty.
  virtual absl::StatusOr<std::unique_ptr<MmioMapping>> MapHandler(
      std::string name, uint64_t size_bytes, IoHandler* handler) = 0;

  // The guest reads and writes [offset, offset + size_bytes) of `backing`
  // without a trap where the implementation can. All three, and the base, are
  // multiples of 4096. Not reachable by DMA. Writes to a read-only backing are
  // dropped.
  //   InvalidArgument    not so, empty, or past the end of the backing.
  //   ResourceExhausted  the implementation has no slot left (KVM).
  virtual absl::StatusOr<std::unique_ptr<MmioMapping>> MapMemory(
      std::string name, std::shared_ptr<const MemoryBacking> backing,
      uint64_t offset, uint64_t size_bytes) = 0;

  // A guest write of exactly `width_bytes` (4) at the place of the mapping
  // signals `doorbell` (borrowed, outlives the mapping), whatever the value,
  // without stalling the vCPU. It lies inside a handler's range and takes
  // precedence there; reads and other widths go to the handler. It may also
  // stand where nothing is, while handler and doorbells of a BAR move one after
  // the other.
  //
  //   Unimplemented    this bus has no such means; the caller lets the handler
  //                    signal the EventFd. That is no failure.
  //   InvalidArgument  an impossible width.
  virtual absl::StatusOr<std::unique_ptr<MmioMapping>> MapDoorbell(
      std::string name, uint32_t width_bytes, const EventFd* doorbell) = 0;
};

// The x86 I/O port space: as MmioBus::MapHandler, with 16-bit ports. `offset`
// counts from the first port; sizes are 1, 2 or 4.
class PioBus {
 public:
  PioBus() = default;
  PioBus(const PioBus&) = delete;
  PioBus& operator=(const PioBus&) = delete;
  virtual ~PioBus() = default;

  // Placed at once, at [port, port + count).
  //   InvalidArgument  empty or past port 0xFFFF.
  //   AlreadyExists    overlaps a mapping; both are named.
  virtual absl::StatusOr<std::unique_ptr<MmioMapping>> MapHandler(
      std::string name, uint16_t port, uint16_t count, IoHandler* handler) = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BUS_MMIO_BUS_H_
