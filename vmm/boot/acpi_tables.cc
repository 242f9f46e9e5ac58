#include "vmm/boot/acpi_tables.h"

#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <string_view>

#include "absl/strings/str_format.h"
#include "vmm/boot/ram_layout.h"

namespace vmsg::vmm {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tables are written as the host keeps integers");

constexpr uint8_t kDsdt[] = {
#include "vmm/boot/dsdt.inc"
};

constexpr uint32_t kMaxVcpus = 255;
constexpr uint64_t kFacsAlignment = 64;
constexpr uint64_t kTableAlignment = 16;

// 5.2.6: in the header of a system description table.
constexpr size_t kLengthOffset = 4;
constexpr size_t kChecksumOffset = 9;

// What makes the sum of all bytes 0.
std::byte Checksum(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte b : bytes) sum += std::to_integer<unsigned>(b);
  return static_cast<std::byte>(0u - sum);
}

// A table in the making; fields are appended in the order of the specification.
class Table {
 public:
  Table() = default;
  Table(std::string_view signature, uint8_t revision) {
    Text(signature, 4).U32(0).U8(revision).U8(0);
    Text("VMSG", 6).Text("VMSGTABL", 8).U32(1).Text("VMSG", 4).U32(1);
  }

  Table& U8(uint64_t v) { return Int(v, 1); }
  Table& U16(uint64_t v) { return Int(v, 2); }
  Table& U32(uint64_t v) { return Int(v, 4); }
  Table& U64(uint64_t v) { return Int(v, 8); }
  // Padded with zeroes.
  Table& Text(std::string_view text, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) U8(i < text.size() ? text[i] : 0);
    return *this;
  }
  Table& Zeroes(size_t bytes) { return Text("", bytes); }

  // Fills in length and checksum.
  std::span<const std::byte> Finish() {
    const auto length = static_cast<uint32_t>(bytes_.size());
    std::memcpy(bytes_.data() + kLengthOffset, &length, sizeof(length));
    bytes_[kChecksumOffset] = std::byte{0};
    bytes_[kChecksumOffset] = Checksum(bytes_);
    return bytes_;
  }
  std::span<std::byte> bytes() { return bytes_; }

 private:
  Table& Int(uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) {
      bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
    }
    return *this;
  }

  std::vector<std::byte> bytes_;
};

// 5.2.3.2: generic address, here always a port.
void AppendPort(uint64_t port, uint64_t bytes, Table* table) {
  constexpr uint8_t kPortSpace = 1;
  if (bytes == 0) {
    table->Zeroes(12);
    return;
  }
  // Access sizes: 1 for a byte, 2 for a word, 3 for a dword.
  table->U8(kPortSpace).U8(bytes * 8).U8(0).U8(bytes == 4 ? 3 : bytes);
  table->U64(port);
}

// 5.2.9.
Table Fadt(uint64_t facs, uint64_t dsdt) {
  // Table 5.34: no VGA, no CMOS clock; no 8042; devices on the ISA bus.
  constexpr uint16_t kBootFlags = 1u << 0 | 1u << 2 | 1u << 5;
  // Table 5.35.
  constexpr uint32_t kFlags = 1u << 0 |  // WBINVD
                              1u << 2 |  // C1 on all processors
                              1u << 4 |  // no fixed power button
                              1u << 5 |  // no fixed sleep button
                              1u << 6 |  // no fixed clock wake
                              1u << 10;  // the reset register is there
  constexpr uint16_t kNoC2 = 101;        // microseconds: above the limit
  constexpr uint16_t kNoC3 = 1001;
  Table fadt("FACP", 6);
  fadt.U32(facs).U32(dsdt).U8(0).U8(0).U16(kAcpiSciIrq);
  fadt.U32(0).U8(0).U8(0).U8(0).U8(0);  // no SMI: always in ACPI mode
  fadt.U32(kAcpiEventPort).U32(0).U32(kAcpiControlPort).U32(0);
  fadt.U32(0).U32(0).U32(0).U32(0);  // no PM2, timer, general purpose events
  fadt.U8(4).U8(2).U8(0).U8(0).U8(0).U8(0).U8(0).U8(0);
  fadt.U16(kNoC2).U16(kNoC3).U16(0).U16(0).U8(0).U8(0);
  fadt.U8(0).U8(0).U8(0).U16(kBootFlags).U8(0).U32(kFlags);
  AppendPort(kAcpiResetPort, 1, &fadt);
  fadt.U8(kAcpiResetValue).U16(0).U8(4);  // minor version 6.4
  // The 64-bit forms. FACS and DSDT are below 4 GiB and given once, each as
  // table 5.33 wants it: FACS by the short field, DSDT by both.
  fadt.U64(0).U64(dsdt);
  AppendPort(kAcpiEventPort, 4, &fadt);
  AppendPort(0, 0, &fadt);
  AppendPort(kAcpiControlPort, 2, &fadt);
  for (int i = 0; i < 5; ++i) AppendPort(0, 0, &fadt);
  AppendPort(0, 0, &fadt);  // sleep control and status: only without the
  AppendPort(0, 0, &fadt);  // fixed hardware
  fadt.Text("VMSG", 8);     // hypervisor vendor
  return fadt;
}

// 5.2.12.
Table Madt(uint32_t vcpus) {
  constexpr uint32_t kLocalApic = 0xFEE00000;
  constexpr uint32_t kIoApic = 0xFEC00000;
  constexpr uint32_t kHas8259 = 1;
  constexpr uint16_t kActiveHighLevel = 0x000D;
  Table madt("APIC", 5);
  madt.U32(kLocalApic).U32(kHas8259);
  for (uint32_t id = 0; id < vcpus; ++id) {
    madt.U8(0).U8(8).U8(id).U8(id).U32(1);  // enabled
  }
  // Its id must be no local APIC's where there is one left.
  madt.U8(1).U8(12).U8(vcpus).U8(0).U32(kIoApic).U32(0);
  madt.U8(2).U8(10).U8(0).U8(kAcpiSciIrq).U32(kAcpiSciIrq);
  madt.U16(kActiveHighLevel);
  madt.U8(4).U8(6).U8(0xFF).U16(0).U8(1);  // LINT1 is NMI on all
  return madt;
}

// PCI Firmware Specification 3.3, 4.1.2.
Table Mcfg(GuestRange ecam) {
  constexpr uint64_t kBytesPerBus = uint64_t{1} << 20;
  Table mcfg("MCFG", 1);
  mcfg.Zeroes(8);
  mcfg.U64(ecam.start.value).U16(0).U8(0).U8(ecam.size / kBytesPerBus - 1);
  mcfg.U32(0);
  return mcfg;
}

// The integers that dsdt.asl declares. 20.2.5.1: DefName, with a root-prefixed
// name and a 64-bit constant.
Table Ssdt(const AcpiMachine& machine) {
  constexpr uint8_t kNameOp = 0x08;
  constexpr uint8_t kQWordPrefix = 0x0E;
  const struct {
    std::string_view name;
    uint64_t value;
  } integers[] = {
      {"ECAB", machine.ecam.start.value},
      {"ECAL", machine.ecam.size},
      {"W32B", machine.window_32bit.start.value},
      {"W32L", machine.window_32bit.size},
      {"W64B", machine.window_64bit.start.value},
      {"W64L", machine.window_64bit.size},
  };
  Table ssdt("SSDT", 2);
  for (const auto& integer : integers) {
    ssdt.U8(kNameOp).U8('\\').Text(integer.name, 4);
    ssdt.U8(kQWordPrefix).U64(integer.value);
  }
  return ssdt;
}

// The memory that is filled, table behind table.
class Area {
 public:
  explicit Area(uint64_t base) : base_(base) {}

  uint64_t Append(std::span<const std::byte> bytes, uint64_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) & ~(alignment - 1));
    const uint64_t at = base_ + bytes_.size();
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return at;
  }
  uint64_t Append(Table table) {
    return Append(table.Finish(), kTableAlignment);
  }

  std::vector<std::byte> Take() && { return std::move(bytes_); }
  std::byte* data() { return bytes_.data(); }

 private:
  const uint64_t base_;
  std::vector<std::byte> bytes_;
};

// 5.2.5.3.
Table Rsdp(uint64_t xsdt) {
  constexpr size_t kFirstPart = 20;  // of revision 0
  constexpr size_t kFirstChecksum = 8;
  constexpr size_t kWholeChecksum = 32;
  Table rsdp;
  rsdp.Text("RSD PTR ", 8).U8(0).Text("VMSG", 6).U8(2).U32(0);
  rsdp.U32(36).U64(xsdt).U8(0).Zeroes(3);
  const std::span<std::byte> bytes = rsdp.bytes();
  bytes[kFirstChecksum] = Checksum(bytes.first(kFirstPart));
  bytes[kWholeChecksum] = Checksum(bytes);
  return rsdp;
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> BuildAcpiTables(
    const AcpiMachine& machine, GuestAddress base) {
  if (machine.vcpus == 0 || machine.vcpus > kMaxVcpus) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "ACPI: %d vCPUs, possible are 1 to %d", machine.vcpus, kMaxVcpus));
  }
  if (base.value % kFacsAlignment != 0 || base.value >= uint64_t{1} << 32) {
    return absl::InvalidArgumentError(
        absl::StrFormat("ACPI: tables can't lie at %#x", base.value));
  }
  Area area(base.value);
  area.Append(Rsdp(0).bytes(), kTableAlignment);

  // 5.2.10: all fields 0, as nothing here sleeps or shares the global lock.
  Table facs;
  facs.Text("FACS", 4).U32(64).Zeroes(24).U8(2).Zeroes(31);
  const uint64_t facs_at = area.Append(facs.bytes(), kFacsAlignment);
  const uint64_t dsdt_at =
      area.Append(std::as_bytes(std::span(kDsdt)), kTableAlignment);

  const uint64_t tables[] = {
      area.Append(Fadt(facs_at, dsdt_at)), area.Append(Madt(machine.vcpus)),
      area.Append(Mcfg(machine.ecam)), area.Append(Ssdt(machine))};
  Table xsdt("XSDT", 1);
  for (const uint64_t table : tables) xsdt.U64(table);
  const uint64_t xsdt_at = area.Append(std::move(xsdt));

  Table rsdp = Rsdp(xsdt_at);
  std::memcpy(area.data(), rsdp.bytes().data(), rsdp.bytes().size());
  return std::move(area).Take();
}

absl::StatusOr<GuestAddress> WriteAcpiTables(const AcpiMachine& machine,
                                             DmaSpace* memory) {
  const absl::StatusOr<std::vector<std::byte>> tables =
      BuildAcpiTables(machine, kAcpiArea.start);
  if (!tables.ok()) return tables.status();
  if (tables->size() > kAcpiArea.size ||
      memory->Write(kAcpiArea.start, *tables) != DmaResult::kOk) {
    return absl::OutOfRangeError(
        absl::StrFormat("no writable RAM for %d bytes of ACPI tables at %#x",
                        tables->size(), kAcpiArea.start.value));
  }
  return kAcpiArea.start;
}

}  // namespace vmsg::vmm
