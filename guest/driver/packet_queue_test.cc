// A device that starts over between two loads of one look. The rest of the
// queues is tested with the layouts.

#include "guest/driver/packet_queue.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "gtest/gtest.h"
#include "guest/driver/fifo.h"

namespace vmsg::guest {
namespace {

constexpr uint32_t kSlots = 4;

// What a device shares, and when it starts over: before the load of that
// number. Its indices are 0 then, and its state says so.
struct Device {
  uint32_t written = 0;
  uint32_t taken = 0;
  bool started_over = false;
  int starts_over_before = -1;
  int loads = 0;
  alignas(8) std::array<std::byte, kSlots* kPacketBytes> slots = {};

  void Load() {
    if (loads++ != starts_over_before) return;
    written = taken = 0;
    started_over = true;
  }
  void StartOverAt(int load) {
    loads = 0;
    starts_over_before = load;
  }
};

// One direction; `own` is what the driver stores.
struct Place {
  Device* device = nullptr;
  uint32_t* own = nullptr;

  uint32_t slots() const { return kSlots; }
  bool aligned() const { return true; }
  std::byte* slot(uint32_t i) const {
    return device->slots.data() + size_t{i} * kPacketBytes;
  }
  uint32_t Own() const {
    device->Load();
    return *own;
  }
  void StoreWritten(uint32_t index) const { *own = index; }
  void StoreTaken(uint32_t index) const { *own = index; }
  FifoFault LookAtDevice() const {
    device->Load();
    return device->started_over ? FifoFault::kDeviceRestarted
                                : FifoFault::kNone;
  }
};
struct ToDriver : Place {
  uint32_t LoadTaken() const { return Own(); }
  uint32_t LoadWritten() const {
    device->Load();
    return device->written;
  }
};
struct ToDevice : Place {
  uint32_t LoadWritten() const { return Own(); }
  uint32_t LoadTaken() const {
    device->Load();
    return device->taken;
  }
};

// Loads of one look: own index, the device's index, its state.
constexpr int kLoads = 3;

TEST(PacketQueueTest, NothingOldIsReceivedFromADeviceThatStartsOverInALook) {
  for (int load = 0; load < kLoads; ++load) {
    Device device;
    uint32_t own = 0;
    PacketReceiver<ToDriver> receiver;
    receiver.Start({{&device, &own}}, 0, 0);
    Packet packet;
    FifoFault fault = FifoFault::kNone;
    // Once around, and one: the three slots from here to 0 hold old packets.
    for (uint32_t i = 0; i < kSlots + 1; ++i) {
      device.written = (device.written + 1) % kSlots;
      ASSERT_TRUE(receiver.Receive(&packet, &fault));
      receiver.Commit();
    }
    device.StartOverAt(load);
    ASSERT_FALSE(receiver.Receive(&packet, &fault)) << load;
    EXPECT_EQ(fault, FifoFault::kDeviceRestarted) << load;
  }
}

TEST(PacketQueueTest, NoRoomIsFoundAtADeviceThatStartsOverInALook) {
  for (int load = 0; load < kLoads; ++load) {
    Device device;
    uint32_t own = 0;
    PacketSender<ToDevice> sender;
    sender.Start({{&device, &own}}, 0, 0);
    const std::array<std::byte, kPacketBytes> message = {};
    FifoFault fault = FifoFault::kNone;
    for (uint32_t i = 0; i < kSlots - 1; ++i) {
      ASSERT_TRUE(sender.Send(message, &fault));
      sender.Commit();
    }
    device.taken = 2;
    ASSERT_TRUE(sender.Send(message, &fault));
    sender.Commit();
    ASSERT_TRUE(sender.Send(message, &fault));
    sender.Commit();
    device.StartOverAt(load);
    ASSERT_FALSE(sender.Send(message, &fault)) << load;
    EXPECT_EQ(fault, FifoFault::kDeviceRestarted) << load;
  }
}

}  // namespace
}  // namespace vmsg::guest
