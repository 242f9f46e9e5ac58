#include "benchmarks/packet_traffic.h"

#include <chrono>
#include <cstdint>

#include "benchmarks/packet_queues.h"
#include "benchmarks/two_threads.h"
#include "gtest/gtest.h"

namespace vmsg::bench {
namespace {

constexpr uint64_t kPackets = 1000;  // several times around each queue

// Each of the functions checks every packet.
TEST(PacketTrafficTest, EachQueueCarriesAllPacketsInOrder) {
  TwoThreads threads;
  for (const amp::FifoLayout layout :
       {amp::FifoLayout::kSpsc, amp::FifoLayout::kShmemV1}) {
    FifoWindow window(layout);
    DriverQueue driver_queue(&window);
    DeviceQueue device_queue(&window);
    EXPECT_GT(Stream(threads, driver_queue, kPackets).count(), 0);
    EXPECT_GT(Stream(threads, device_queue, kPackets).count(), 0);
    EXPECT_GT(StreamInBatches(threads, driver_queue, kPackets, 16).count(), 0);
    EXPECT_GT(StreamInBatches(threads, device_queue, kPackets, 16).count(), 0);
    EXPECT_GT(Echo(threads, driver_queue, device_queue, kPackets).count(), 0);
  }
  BoostQueue boost;
  EXPECT_GT(Stream(threads, boost, kPackets).count(), 0);
}

TEST(PacketTrafficTest, AllQueuesHaveRoomForTheSameNumberOfPackets) {
  FifoWindow window;
  DriverQueue driver_queue(&window);
  DeviceQueue device_queue(&window);
  BoostQueue boost;
  const auto room = []<typename Queue>(Queue& queue) {
    int count = 0;
    while (queue.Put(typename Queue::Packet())) ++count;
    return count;
  };
  EXPECT_EQ(room(driver_queue), 61);
  EXPECT_EQ(room(device_queue), 61);
  EXPECT_EQ(room(boost), 61);
}

TEST(PreparedPacketsTest, TellsAPacketFromItsNeighbours) {
  const PreparedPackets<amp::Packet> packets;
  amp::Packet packet = packets[70];
  EXPECT_TRUE(packets.IsNumber(70, packet));
  EXPECT_FALSE(packets.IsNumber(69, packet));
  packet.bytes.back() = std::byte{0};
  EXPECT_FALSE(packets.IsNumber(70, packet));
}

TEST(TwoThreadsTest, RunsBothAtTheSameTime) {
  TwoThreads threads;
  std::atomic<int> met{0};
  const auto meet = [&] {
    met.fetch_add(1);
    Backoff backoff;
    while (met.load() % 2 != 0) backoff.Wait();
  };
  for (int i = 1; i <= 3; ++i) {
    EXPECT_GT(threads.Run(meet, meet).count(), 0);
    EXPECT_EQ(met.load(), 2 * i);
  }
}

}  // namespace
}  // namespace vmsg::bench
