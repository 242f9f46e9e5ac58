// The in-process implementations of MmioBus and PioBus: a table of ranges and a
// dispatcher that vCPU code (or a test) calls for each access.

#ifndef VMSG_VMM_BUS_DISPATCH_BUS_H_
#define VMSG_VMM_BUS_DISPATCH_BUS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "vmm/base/counter.h"
#include "vmm/bus/mmio_bus.h"

namespace vmsg::vmm {

// What the two buses share: ranges, handlers, in-flight calls. Internal.
class RangeTable;

// Threads: any.
class DispatchMmioBus final : public MmioBus {
 public:
  // MapDoorbell returns Unimplemented if `with_doorbells` is false, for tests
  // of the handler path; else a matching write signals the EventFd.
  explicit DispatchMmioBus(bool with_doorbells = true);
  ~DispatchMmioBus() override;

  absl::StatusOr<std::unique_ptr<MmioMapping>> MapHandler(
      std::string name, uint64_t size_bytes, IoHandler* handler) override;
  absl::StatusOr<std::unique_ptr<MmioMapping>> MapMemory(
      std::string name, std::shared_ptr<const MemoryBacking> backing,
      uint64_t offset, uint64_t size_bytes) override;
  absl::StatusOr<std::unique_ptr<MmioMapping>> MapDoorbell(
      std::string name, uint32_t width_bytes, const EventFd* doorbell) override;

  // One guest access, of any address, size (0 to 8 and more) and alignment. A
  // size other than 1, 2, 4, 8, or one that crosses the end of a mapping, is
  // split into single bytes. What nobody claims reads as 0xFF and writes
  // nothing; `unclaimed` counts it. Returns false when no byte was claimed.
  bool Read(GuestAddress address, std::span<std::byte> data);
  bool Write(GuestAddress address, std::span<const std::byte> data);

  // Where the bytes of a MapMemory mapping are, for an in-process guest that
  // maps BAR memory; null when the range is not wholly inside one. Valid while
  // the mapping stays there; `hold` keeps the bytes themselves.
  struct Direct {
    std::byte* data = nullptr;
    std::shared_ptr<const MemoryBacking> hold;
  };
  Direct Translate(GuestRange range);

  const Counter& unclaimed() const { return unclaimed_; }

 private:
  const bool with_doorbells_;
  const std::shared_ptr<RangeTable> table_;
  Counter unclaimed_;
};

// Threads: any.
class DispatchPioBus final : public PioBus {
 public:
  DispatchPioBus();
  ~DispatchPioBus() override;

  absl::StatusOr<std::unique_ptr<MmioMapping>> MapHandler(
      std::string name, uint16_t port, uint16_t count,
      IoHandler* handler) override;

  // As for DispatchMmioBus.
  bool Read(uint16_t port, std::span<std::byte> data);
  bool Write(uint16_t port, std::span<const std::byte> data);

 private:
  const std::shared_ptr<RangeTable> table_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BUS_DISPATCH_BUS_H_
