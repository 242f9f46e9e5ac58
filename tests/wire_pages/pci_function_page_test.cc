#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "gtest/gtest.h"
#include "tests/wire_pages/wire_page.h"

namespace vmsg {
namespace {

TEST(PciFunctionPageTest, RegistersAreAsThePageShows) {
  WirePage page = WirePage::Open("pci_function.md");
  amp::AmpMachine machine({.id = "amp0", .num_fifos = 2});
  amp::RawGuest& guest = *machine.guest;
  const WirePage::Reader config = [&](uint64_t address, size_t size) {
    std::vector<std::byte> bytes;
    for (size_t i = 0; i < size; ++i) {
      bytes.push_back(static_cast<std::byte>(
          guest.Config(static_cast<uint16_t>(address + i), 1)));
    }
    return bytes;
  };
  const auto bar = [&](uint32_t index) -> WirePage::Reader {
    return [&guest, index](uint64_t address, size_t size) {
      std::vector<std::byte> bytes(size);
      // Accesses of 32 bits, as a driver makes them.
      for (size_t i = 0; i + 4 <= size; i += 4) {
        EXPECT_TRUE(
            guest.Read(index, address + i, std::span(bytes).subspan(i, 4)));
      }
      return bytes;
    };
  };

  page.ExpectPlaces("config_at_reset", config);
  guest.SetConfig(0x10, 4, 0xFFFFFFFF);
  guest.SetConfig(0x14, 4, 0xFFFFFFFF);
  guest.SetConfig(0x18, 4, 0xFFFFFFFF);
  page.ExpectPlaces("bar_sizes", config);
  guest.Start();
  page.ExpectPlaces("config_started", config);
  page.ExpectPlaces("registers", bar(0));
  guest.Write32(0, 0x20, 1);
  page.ExpectPlaces("registers", bar(0));
  page.ExpectPlaces("msix_table", bar(2));
  page.ExpectAllCompared();
}

}  // namespace
}  // namespace vmsg
