// What the tests of both layouts share: a window, numbered packets, and what
// their traffic has in common.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FIFO_TRAFFIC_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FIFO_TRAFFIC_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "gtest/gtest.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

// Holds what a device should not rely on. Not for a local variable: GCC's
// AddressSanitizer does not align those.
struct alignas(4096) TestWindow {
  TestWindow() { bytes.fill(std::byte{0xA5}); }

  template <typename T>
  T Load(size_t at) const {
    return vmm::LoadShared<T>(bytes.data() + at, std::memory_order_acquire);
  }
  template <typename T>
  void Store(size_t at, T value) {
    vmm::StoreShared<T>(bytes.data() + at, value, std::memory_order_release);
  }

  std::array<std::byte, 16 * 1024> bytes;
};

// A message with bytes that tell it from all others.
inline std::vector<std::byte> Message(uint32_t number, size_t size = 64) {
  std::vector<std::byte> message(size);
  for (size_t i = 0; i < size; ++i) {
    message[i] = static_cast<std::byte>(number * 7 + i + 1);
  }
  std::memcpy(message.data(), &number, sizeof(number));
  return message;
}

template <typename AnyPacket>
inline uint32_t NumberOf(const AnyPacket& packet) {
  uint32_t number;
  std::memcpy(&number, packet.bytes.data(), sizeof(number));
  return number;
}

// Below, both ends are running with empty queues, and a Driver has
//   bool Put(std::span<const std::byte>): false when its queue is full,
//   bool Take(Packet*): false when there is none,
// each of which the device sees at once.

template <typename Driver>
void ExpectDeviceQueueHolds(uint32_t capacity, DeviceFifo* fifo,
                            Driver* driver) {
  for (uint32_t i = 0; i < capacity; ++i) {
    EXPECT_TRUE(fifo->HasRoom());
    EXPECT_TRUE(fifo->Send(Message(i)));
  }
  EXPECT_FALSE(fifo->HasRoom());
  EXPECT_FALSE(fifo->Send(Message(1000)));
  fifo->CommitSent();
  EXPECT_EQ(fifo->Unread(), capacity);

  Packet packet;
  ASSERT_TRUE(driver->Take(&packet));
  EXPECT_EQ(NumberOf(packet), 0u);
  EXPECT_TRUE(fifo->HasRoom());
  EXPECT_TRUE(fifo->Send(Message(capacity)));
  EXPECT_FALSE(fifo->Send(Message(1000)));
}

template <typename Driver>
void ExpectDriverQueueHolds(uint32_t capacity, DeviceFifo* fifo,
                            Driver* driver) {
  for (uint32_t i = 0; i < capacity; ++i) ASSERT_TRUE(driver->Put(Message(i)));
  EXPECT_FALSE(driver->Put(Message(1000)));
  Packet packet;
  for (uint32_t i = 0; i < capacity; ++i) {
    ASSERT_TRUE(fifo->Receive(&packet));
    EXPECT_EQ(NumberOf(packet), i);
  }
  EXPECT_FALSE(fifo->Receive(&packet));
  EXPECT_FALSE(driver->Put(Message(1000))) << "not given back yet";
  fifo->CommitReceived();
  EXPECT_TRUE(driver->Put(Message(capacity)));
}

template <typename Driver>
void ExpectOrderOverManyWraps(uint32_t capacity, DeviceFifo* fifo,
                              Driver* driver) {
  constexpr uint32_t kRounds = 200;
  uint32_t sent = 0;
  uint32_t received = 0;
  uint32_t back = 0;
  Packet packet;
  for (uint32_t round = 0; round < kRounds; ++round) {
    for (uint32_t i = 0; i < 1 + round % capacity; ++i) {
      ASSERT_TRUE(driver->Put(Message(sent++)));
    }
    while (fifo->Receive(&packet)) {
      ASSERT_EQ(NumberOf(packet), received++);
      ASSERT_TRUE(fifo->Send(packet.bytes));
    }
    fifo->CommitReceived();
    fifo->CommitSent();
    while (driver->Take(&packet)) ASSERT_EQ(NumberOf(packet), back++);
    ASSERT_EQ(back, sent);
    EXPECT_EQ(fifo->Unread(), 0u);
    EXPECT_FALSE(fifo->Poll());
  }
  EXPECT_EQ(fifo->state(), FifoState::kRunning);
}

// The driver in a thread of its own; each packet comes back as it went.
template <typename Driver>
void ExpectStreamBetweenThreads(uint32_t count, DeviceFifo* fifo,
                                Driver* driver) {
  std::atomic<bool> intact = true;
  std::thread guest([&] {
    uint32_t sent = 0;
    uint32_t back = 0;
    Packet packet;
    while (back < count) {
      bool idle = true;
      for (; sent < count && driver->Put(Message(sent)); ++sent) idle = false;
      for (; driver->Take(&packet); ++back) {
        if (!std::ranges::equal(packet.bytes, Message(back))) intact = false;
        idle = false;
      }
      if (idle) std::this_thread::yield();
    }
  });
  uint32_t echoed = 0;
  Packet packet;
  while (echoed < count) {
    const uint32_t before = echoed;
    EXPECT_FALSE(fifo->Poll());
    while (fifo->HasRoom() && fifo->Receive(&packet)) {
      EXPECT_EQ(NumberOf(packet), echoed++);
      EXPECT_TRUE(fifo->Send(packet.bytes));
    }
    fifo->CommitReceived();
    fifo->CommitSent();
    if (echoed == before) std::this_thread::yield();
  }
  guest.join();
  EXPECT_TRUE(intact);
  EXPECT_EQ(fifo->Unread(), 0u);
  EXPECT_EQ(fifo->state(), FifoState::kRunning);
}

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FIFO_TRAFFIC_H_
