#include "vmm/memory/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"

namespace vmsg::vmm {
namespace {

uint64_t PageSize() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

std::string Text(GuestRange range) {
  return absl::StrCat("[0x", absl::Hex(range.start.value), ",+0x",
                      absl::Hex(range.size), ")");
}

absl::Status SystemError(const std::string& what, int error) {
  const std::string text = absl::StrCat(what, ": ", std::strerror(error));
  switch (error) {
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(text);
    case EINVAL:
    case EBADF:
    case ENODEV:
    case EOVERFLOW:
      return absl::InvalidArgumentError(text);
    default:
      return absl::ResourceExhaustedError(text);
  }
}

absl::StatusOr<std::byte*> MapShared(int fd, uint64_t offset, uint64_t size,
                                     bool read_only) {
  void* const data =
      mmap(nullptr, size, read_only ? PROT_READ : PROT_READ | PROT_WRITE,
           MAP_SHARED, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) {
    return SystemError(absl::StrCat("map ", size, " bytes"), errno);
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const MemoryBacking>>
MemoryBacking::CreateAnonymous(uint64_t size, const std::string& name) {
  if (size == 0 || size % PageSize() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory \"", name, "\": ", size,
                     " bytes is not a positive number of pages"));
  }
  if (size > INT64_MAX) {
    return absl::ResourceExhaustedError(
        absl::StrCat("memory \"", name, "\": ", size, " bytes"));
  }
  const std::string what = absl::StrCat("memory \"", name, "\"");
  UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return SystemError(what, errno);
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return SystemError(what, errno);
  }
  // Another process that has the descriptor can't take pages away under us.
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
      0) {
    return SystemError(what, errno);
  }
  absl::StatusOr<std::byte*> data = MapShared(fd.get(), 0, size, false);
  if (!data.ok()) return data.status();
  return std::shared_ptr<const MemoryBacking>(
      new MemoryBacking(std::move(fd), 0, *data, size, /*read_only=*/false));
}

absl::StatusOr<std::shared_ptr<const MemoryBacking>> MemoryBacking::MapFile(
    UniqueFd fd, uint64_t offset, uint64_t size, bool read_only) {
  if (size == 0) return absl::InvalidArgumentError("map file: no bytes");
  if (offset % PageSize() != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "map file: offset ", offset, " is no multiple of the page size"));
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return SystemError("map file", errno);
  // A device has no size that fstat knows; mmap checks it.
  if (S_ISREG(info.st_mode)) {
    const auto file_size = static_cast<uint64_t>(info.st_size);
    if (offset > file_size || size > file_size - offset) {
      return absl::InvalidArgumentError(
          absl::StrCat("map file: ", size, " bytes at ", offset,
                       " reach past its end at ", file_size));
    }
  }
  absl::StatusOr<std::byte*> data =
      MapShared(fd.get(), offset, size, read_only);
  if (!data.ok()) return data.status();
  return std::shared_ptr<const MemoryBacking>(
      new MemoryBacking(std::move(fd), offset, *data, size, read_only));
}

MemoryBacking::MemoryBacking(UniqueFd fd, uint64_t fd_offset, std::byte* data,
                             uint64_t size, bool read_only)
    : fd_(std::move(fd)),
      fd_offset_(fd_offset),
      data_(data),
      size_(size),
      read_only_(read_only) {}

MemoryBacking::~MemoryBacking() {
  VMSG_CHECK(munmap(data_, size_) == 0, "unmap guest memory");
}

MemoryMap::MemoryMap(std::vector<MemoryRegion> regions)
    : regions_(std::move(regions)) {
  for (size_t i = 0; i < regions_.size(); ++i) {
    const GuestRange range = regions_[i].range;
    VMSG_CHECK(range.size != 0 && range.IsValid());
    if (i == 0) continue;
    const GuestRange before = regions_[i - 1].range;
    VMSG_CHECK(before.start < range.start && !before.Overlaps(range));
  }
}

const MemoryRegion* MemoryMap::Find(GuestAddress address) const {
  const auto after = std::upper_bound(
      regions_.begin(), regions_.end(), address,
      [](GuestAddress a, const MemoryRegion& r) { return a < r.range.start; });
  if (after == regions_.begin()) return nullptr;
  const MemoryRegion& region = *(after - 1);
  return region.range.Contains(address) ? &region : nullptr;
}

GuestMemory::GuestMemory()
    : map_(std::make_shared<const MemoryMap>(std::vector<MemoryRegion>())) {}

absl::Status GuestMemory::Add(MemoryRegion region) {
  const GuestRange range = region.range;
  const std::string what = absl::StrCat("memory region ", Text(range));
  if (range.size == 0 || !range.IsValid()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is empty or passes the end of the address space"));
  }
  if (region.backing == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(what, " has no backing"));
  }
  const uint64_t backing_size = region.backing->size();
  if (region.backing_offset > backing_size ||
      range.size > backing_size - region.backing_offset) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " at offset ", region.backing_offset,
                     " reaches past its backing of ", backing_size, " bytes"));
  }
  if (region.backing->read_only() && !region.read_only) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is writable on a read-only backing"));
  }
  if ((range.start.value - region.backing_offset) % kWordAlignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " at offset ", region.backing_offset,
                     " would have unaligned words"));
  }

  std::shared_ptr<const MemoryMap> old;  // let go of after the lock
  MutexLock lock(&mutex_);
  std::vector<MemoryRegion> regions = map_->regions();
  for (const MemoryRegion& other : regions) {
    if (other.range.Overlaps(range)) {
      return absl::AlreadyExistsError(
          absl::StrCat(what, " overlaps ", Text(other.range)));
    }
  }
  const auto place = std::find_if(
      regions.begin(), regions.end(),
      [&](const MemoryRegion& r) { return range.start < r.range.start; });
  regions.insert(place, std::move(region));
  old = std::exchange(map_,
                      std::make_shared<const MemoryMap>(std::move(regions)));
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status GuestMemory::Remove(GuestRange range) {
  // Unmapping can take long: let go of it after the lock.
  std::shared_ptr<const MemoryMap> old;
  MutexLock lock(&mutex_);
  std::vector<MemoryRegion> regions = map_->regions();
  const auto it =
      std::find_if(regions.begin(), regions.end(),
                   [&](const MemoryRegion& r) { return r.range == range; });
  if (it == regions.end()) {
    return absl::NotFoundError(absl::StrCat("no memory region ", Text(range)));
  }
  regions.erase(it);
  old = std::exchange(map_,
                      std::make_shared<const MemoryMap>(std::move(regions)));
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

std::shared_ptr<const MemoryMap> GuestMemory::Snapshot() const {
  MutexLock lock(&mutex_);
  return map_;
}

void GuestMemory::SetWriteHook(WriteHook hook, void* context) {
  hook_context_.store(context, std::memory_order_relaxed);
  hook_.store(hook, std::memory_order_release);
}

}  // namespace vmsg::vmm
