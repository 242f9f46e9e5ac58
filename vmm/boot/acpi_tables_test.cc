#include "vmm/boot/acpi_tables.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/boot/ram_layout.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kBase = 0xE0000;
constexpr AcpiMachine kMachine = {
    .vcpus = 3,
    .ecam = {{0xE0000000}, 0x100000},
    .window_32bit = {{0xC0000000}, 0x20000000},
    .window_64bit = {{0x2000000000}, 0x1000000000}};

using Bytes = std::vector<std::byte>;

template <typename T>
T Get(std::span<const std::byte> bytes, size_t offset) {
  T value = {};
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

uint8_t Sum(std::span<const std::byte> bytes) {
  uint8_t sum = 0;
  for (const std::byte b : bytes) sum += std::to_integer<uint8_t>(b);
  return sum;
}

// Follows the addresses in the tables, as an operating system does.
class AcpiTablesTest : public ::testing::Test {
 protected:
  void Build(const AcpiMachine& machine) {
    ASSERT_OK_AND_ASSIGN(bytes_, BuildAcpiTables(machine, {kBase}));
    const auto xsdt = At(Get<uint64_t>(bytes_, 24));
    for (size_t i = 36; i < xsdt.size(); i += 8) {
      Add(Get<uint64_t>(xsdt, i));
    }
    Add(Get<uint64_t>(tables_["FACP"], 140));
    tables_["XSDT"] = xsdt;
  }

  // The table at a guest address, as long as it says it is.
  std::span<const std::byte> At(uint64_t address) {
    EXPECT_GE(address, kBase);
    EXPECT_LE(address + 36, kBase + bytes_.size());
    const auto rest = std::span<const std::byte>(bytes_).subspan(
        static_cast<size_t>(address - kBase));
    const auto length = Get<uint32_t>(rest, 4);
    EXPECT_LE(length, rest.size());
    return rest.first(length);
  }

  void Add(uint64_t address) {
    const auto table = At(address);
    tables_[std::string(reinterpret_cast<const char*>(table.data()), 4)] =
        table;
  }

  // What iasl makes of a table.
  std::string Disassemble(const std::string& signature) {
    const std::string base = testing::TempDir() + "/" + signature;
    std::ofstream file(base + ".dat", std::ios::binary);
    file.write(reinterpret_cast<const char*>(tables_[signature].data()),
               static_cast<std::streamsize>(tables_[signature].size()));
    file.close();
    // The test's own file names. NOLINTNEXTLINE(cert-env33-c)
    const int result = std::system(
        ("iasl -p " + base + " -d " + base + ".dat >" + base + ".out 2>&1")
            .c_str());
    EXPECT_EQ(result, 0) << "iasl refuses " << signature;
    std::ostringstream text;
    text << std::ifstream(base + ".dsl").rdbuf();
    return text.str();
  }

  Bytes bytes_;
  std::map<std::string, std::span<const std::byte>> tables_;
};

TEST_F(AcpiTablesTest, PointerIsFoundAndBothItsChecksumsHold) {
  Build(kMachine);
  EXPECT_EQ(std::memcmp(bytes_.data(), "RSD PTR ", 8), 0);
  EXPECT_EQ(Get<uint8_t>(bytes_, 15), 2) << "revision";
  EXPECT_EQ(Sum(std::span(bytes_).first(20)), 0);
  EXPECT_EQ(Sum(std::span(bytes_).first(36)), 0);
}

TEST_F(AcpiTablesTest, EveryTableIsListedOnceAndItsBytesSumUpToZero) {
  Build(kMachine);
  for (const char* name : {"XSDT", "FACP", "APIC", "MCFG", "SSDT", "DSDT"}) {
    ASSERT_TRUE(tables_.contains(name)) << name;
    EXPECT_EQ(Sum(tables_[name]), 0) << name;
  }
  EXPECT_EQ(tables_.size(), 6u);
}

TEST_F(AcpiTablesTest, FixedHardwareIsThatOfTheHeader) {
  Build(kMachine);
  const auto fadt = tables_["FACP"];
  ASSERT_EQ(fadt.size(), 276u);
  EXPECT_EQ(Get<uint16_t>(fadt, 46), kAcpiSciIrq);
  EXPECT_EQ(Get<uint32_t>(fadt, 48), 0u) << "SMI command port";
  EXPECT_EQ(Get<uint32_t>(fadt, 56), kAcpiEventPort);
  EXPECT_EQ(Get<uint32_t>(fadt, 64), kAcpiControlPort);
  EXPECT_EQ(Get<uint64_t>(fadt, 120), kAcpiResetPort);
  EXPECT_EQ(Get<uint8_t>(fadt, 128), kAcpiResetValue);
  EXPECT_EQ(Get<uint64_t>(fadt, 152), kAcpiEventPort);
  EXPECT_EQ(Get<uint64_t>(fadt, 176), kAcpiControlPort);
  EXPECT_EQ(Get<uint32_t>(fadt, 40), Get<uint64_t>(fadt, 140)) << "DSDT";
  const uint64_t facs = Get<uint32_t>(fadt, 36);
  EXPECT_EQ(facs % 64, 0u);
  EXPECT_EQ(std::memcmp(At(facs).data(), "FACS", 4), 0);
}

TEST_F(AcpiTablesTest, EveryProcessorHasALocalApic) {
  Build(kMachine);
  const auto madt = tables_["APIC"];
  std::vector<uint8_t> apic_ids;
  std::vector<uint8_t> types;
  for (size_t at = 44; at < madt.size(); at += Get<uint8_t>(madt, at + 1)) {
    types.push_back(Get<uint8_t>(madt, at));
    if (types.back() == 0) apic_ids.push_back(Get<uint8_t>(madt, at + 3));
    ASSERT_NE(Get<uint8_t>(madt, at + 1), 0) << "an entry without length";
  }
  EXPECT_EQ(apic_ids, (std::vector<uint8_t>{0, 1, 2}));
  EXPECT_EQ(types, (std::vector<uint8_t>{0, 0, 0, 1, 2, 4}));
}

TEST_F(AcpiTablesTest, DisassemblerTakesAllTablesAsTheyAre) {
  Build(kMachine);
  for (const char* name : {"FACP", "APIC", "MCFG", "SSDT", "DSDT"}) {
    EXPECT_THAT(Disassemble(name), Not(HasSubstr("ncorrect"))) << name;
  }
  EXPECT_THAT(Disassemble("MCFG"), HasSubstr("00000000E0000000"));
  EXPECT_THAT(Disassemble("APIC"), HasSubstr("I/O APIC"));
  EXPECT_THAT(Disassemble("FACP"), HasSubstr("Reset Register"));
  const std::string dsdt = Disassemble("DSDT");
  for (const char* part : {"PNP0A08", "PNP0A03", "PNP0501", "_S5", "_CRS"}) {
    EXPECT_THAT(dsdt, HasSubstr(part));
  }
}

TEST_F(AcpiTablesTest, WindowsAreTheIntegersThatTheStaticTableReads) {
  Build(kMachine);
  const std::string ssdt = Disassemble("SSDT");
  const std::string dsdt = Disassemble("DSDT");
  const struct {
    const char* name;
    const char* value;
  } integers[] = {{"ECAB", "E0000000"},   {"ECAL", "100000"},
                  {"W32B", "C0000000"},   {"W32L", "20000000"},
                  {"W64B", "2000000000"}, {"W64L", "1000000000"}};
  for (const auto& integer : integers) {
    const size_t at = ssdt.find(std::string("Name (") + integer.name);
    const size_t with_root = ssdt.find(std::string("Name (\\") + integer.name);
    const size_t found = std::min(at, with_root);
    ASSERT_NE(found, std::string::npos) << integer.name;
    EXPECT_THAT(ssdt.substr(found, ssdt.find('\n', found) - found),
                HasSubstr(integer.value));
    EXPECT_THAT(dsdt, HasSubstr(integer.name));
  }
}

TEST_F(AcpiTablesTest, ImpossibleMachinesAreRefused) {
  AcpiMachine machine = kMachine;
  machine.vcpus = 255;
  EXPECT_OK(BuildAcpiTables(machine, {kBase}));
  machine.vcpus = 256;
  EXPECT_THAT(BuildAcpiTables(machine, {kBase}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  machine.vcpus = 0;
  EXPECT_THAT(BuildAcpiTables(machine, {kBase}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(BuildAcpiTables(kMachine, {kBase + 32}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(BuildAcpiTables(kMachine, {uint64_t{1} << 32}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(AcpiTablesTest, TablesLieInTheirAreaOrNowhere) {
  GuestMemory memory;
  DmaSpace dma(&memory);
  EXPECT_THAT(WriteAcpiTables(kMachine, &dma),
              StatusIs(absl::StatusCode::kOutOfRange));
  ASSERT_OK_AND_ASSIGN(auto ram,
                       MemoryBacking::CreateAnonymous(1 << 20, "acpi"));
  ASSERT_OK(memory.Add({.range = {{0}, 1 << 20}, .backing = ram}));
  ASSERT_OK_AND_ASSIGN(const GuestAddress rsdp,
                       WriteAcpiTables(kMachine, &dma));
  EXPECT_EQ(rsdp, kAcpiArea.start);
  std::array<char, 8> signature = {};
  ASSERT_EQ(dma.Read(rsdp, std::as_writable_bytes(std::span(signature))),
            DmaResult::kOk);
  EXPECT_EQ(std::string(signature.data(), 8), "RSD PTR ");
}

}  // namespace
}  // namespace vmsg::vmm
