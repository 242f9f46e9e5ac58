// Rows that only show on a FIFO of the whole function: packets, their padding,
// logging. In each layout.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "gtest/gtest.h"

namespace vmsg::amp {
namespace {

// At least as many as any layout has.
constexpr size_t kSlots = 63;

// The packets of the device queue. Source: amp-pci-device, 3.1 and 3.2; for the
// placement that this device chooses, its fifo/README.md.
struct DevicePackets {
  size_t at;
  size_t slots;
};
DevicePackets DevicePacketsOf(FifoLayout layout) {
  switch (layout) {
    case FifoLayout::kSpsc:
      break;
    case FifoLayout::kShmemV1:
      return {.at = 0x1000 + 128, .slots = 62};
    case FifoLayout::kShmemV1Packed:
      return {.at = 0x1000 + 80, .slots = 63};
  }
  return {.at = 0x2080, .slots = 62};
}

class FifoConformance : public testing::TestWithParam<FifoLayout> {
 protected:
  FifoConformance() {
    machine_.guest->Start();
    machine_.loop.RunUntilIdle();
    driver_.Attach();
  }

  std::vector<Bytes> Ask(const Bytes& message) { return driver_.Ask(message); }

  AmpMachine machine_{{.fifo_layout = GetParam()}};
  LayoutDriver driver_{&machine_};
};

INSTANTIATE_TEST_SUITE_P(Layouts, FifoConformance,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

TEST_P(FifoConformance, BUS_HDR_6_RestOfAPacketIsZero) {
  // Slots hold something else before they are used.
  const DevicePackets packets = DevicePacketsOf(GetParam());
  std::memset(machine_.guest->window(0) + packets.at, 0xEE, packets.slots * 64);
  for (size_t i = 0; i < 2 * kSlots; ++i) {
    const std::vector<Bytes> got = Ask(RawPing(1, 0xFFFFFFFF));
    ASSERT_EQ(got.size(), 1u);
    ASSERT_EQ(got[0].size(), 64u);
    EXPECT_EQ(SizeOf(got[0]), 12);
    for (size_t at = 12; at < 64; ++at) EXPECT_EQ(got[0][at], std::byte{0});
  }
}

// Each side reads its packets whole; the rest of a long one does not shine
// through a short one that takes its slot later.
TEST_P(FifoConformance, BUS_HDR_7_OppositeSideReadsTheSamePadding) {
  machine_.DriverBreaks("DRV-INIT-1");
  for (size_t i = 0; i < kSlots; ++i) {
    // GET_VQUEUE: an answer of 48 bytes.
    constexpr uint8_t kIndex[4] = {0xFF, 0xFF, 0xFF, 0xFF};
    const std::vector<Bytes> got = Ask(RawMessage(0, 0x09, 3, 9, kIndex));
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(SizeOf(got[0]), 48);
  }
  for (size_t i = 0; i < kSlots; ++i) {
    const std::vector<Bytes> got = Ask(RawPing(1, 2));
    ASSERT_EQ(got.size(), 1u);
    for (size_t at = 12; at < 64; ++at) EXPECT_EQ(got[0][at], std::byte{0});
  }
}

TEST_P(FifoConformance, BUS_ERR_4_InvalidMessagesAreLogged) {
  machine_.DriverBreaks("DRV-LIMIT-2");
  EXPECT_TRUE(Ask(RawMessage(2, 0x7E, 0, 1, {})).empty());
  bool logged = false;
  for (const std::string& line : machine_.log.lines) {
    logged |= line.find("unknown id") != std::string::npos;
  }
  EXPECT_TRUE(logged);
}

// A packet has 64 bytes, and a message may have them all: the FIFO adds none.
TEST_P(FifoConformance, FACT_SIZE_1_FramingDoesNotCount) {
  machine_.DriverBreaks("DRV-INIT-1");
  std::vector<uint8_t> payload(56, 0);
  payload[4] = 12;  // blocks: an answer of 64 bytes
  const std::vector<Bytes> got = Ask(RawMessage(0, 0x03, 0, 5, payload));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(SizeOf(got[0]), 64);
  // The least that the draft allows carries no SET_VQUEUE (O-1): it is not
  // offered, and what fits it passes.
  payload.resize(36);
  payload[4] = 7;
  const std::vector<Bytes> least = Ask(RawMessage(0, 0x03, 0, 5, payload));
  ASSERT_EQ(least.size(), 1u);
  EXPECT_EQ(SizeOf(least[0]), 44);
}

}  // namespace
}  // namespace vmsg::amp
