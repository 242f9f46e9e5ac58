// Both ends of this project go through the examples of the FIFO pages.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "gtest/gtest.h"
#include "guest/driver/fifo.h"
#include "guest/driver/message.h"
#include "guest/driver/shmem_fifo.h"
#include "guest/driver/spsc_fifo.h"
#include "tests/wire_pages/wire_page.h"

namespace vmsg {
namespace {

constexpr uint32_t kData = 0x12345678;
constexpr uint16_t kToken = 1;

struct alignas(4096) Window : std::array<std::byte, 16 * 1024> {
  WirePage::Reader reader() {
    return [this](uint64_t address, size_t size) {
      EXPECT_LE(address + size, this->size());
      return std::vector<std::byte>(data() + address, data() + address + size);
    };
  }
};

void SendPing(guest::Fifo* driver) {
  std::array<std::byte, 64> message = {};
  const size_t size = guest::EncodePing(kData, message);
  guest::SetToken(message, kToken);
  ASSERT_TRUE(driver->Send(std::span(message).first(size)));
  driver->CommitSent();
}

void AnswerPing(amp::DeviceFifo* device) {
  amp::Packet packet;
  ASSERT_TRUE(device->Receive(&packet));
  device->CommitReceived();
  std::array<std::byte, 64> message = {};
  const size_t size = guest::EncodePingResponse(kToken, kData, message);
  ASSERT_TRUE(device->Send(std::span(message).first(size)));
  ASSERT_TRUE(device->CommitSent());
}

void TakeAnswer(guest::Fifo* driver) {
  guest::Packet packet;
  ASSERT_TRUE(driver->Receive(&packet));
  driver->CommitReceived();
}

TEST(FifoPagesTest, SpscIsAsItsPageShows) {
  WirePage page = WirePage::Open("fifo_spsc.md");
  const auto window = std::make_unique<Window>();
  const auto device =
      amp::CreateDeviceFifo(amp::FifoLayout::kSpsc, window->data());
  guest::SpscFifo driver(window->data());
  ASSERT_TRUE(driver.Attach());
  SendPing(&driver);
  page.ExpectPlaces("request", window->reader());
  AnswerPing(device.get());
  page.ExpectPlaces("answer", window->reader());
  TakeAnswer(&driver);
  page.ExpectPlaces("taken", window->reader());
  page.ExpectAllCompared();
}

TEST(FifoPagesTest, ShmemV1IsAsItsPageShows) {
  WirePage page = WirePage::Open("fifo_shmem_v1.md");
  const auto packed = std::make_unique<Window>();
  const auto other =
      amp::CreateDeviceFifo(amp::FifoLayout::kShmemV1Packed, packed->data());
  page.ExpectPlaces("header_packed", packed->reader());

  const auto window = std::make_unique<Window>();
  const auto device =
      amp::CreateDeviceFifo(amp::FifoLayout::kShmemV1, window->data());
  page.ExpectPlaces("header_spread", window->reader());
  guest::ShmemFifo driver(window->data());
  ASSERT_TRUE(driver.Attach());
  page.ExpectPlaces("init", window->reader());
  ASSERT_TRUE(driver.Step());
  page.ExpectPlaces("driver_ready", window->reader());
  ASSERT_TRUE(device->Poll());
  EXPECT_FALSE(device->Step());
  page.ExpectPlaces("device_ready", window->reader());
  ASSERT_TRUE(device->Poll());
  EXPECT_FALSE(device->Step());
  ASSERT_TRUE(driver.Step());
  page.ExpectPlaces("run", window->reader());
  SendPing(&driver);
  page.ExpectPlaces("request", window->reader());
  AnswerPing(device.get());
  page.ExpectPlaces("answer", window->reader());
  TakeAnswer(&driver);
  page.ExpectPlaces("taken", window->reader());
  driver.Detach();
  page.ExpectPlaces("shutdown", window->reader());
  page.ExpectAllCompared();
}

}  // namespace
}  // namespace vmsg
